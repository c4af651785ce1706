"""Plots, thumbnails and the page shell of the HTML pages about episodes."""

import base64
import re
from xml.etree import ElementTree

import jinja2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from arp_jax.data.episode_page import (
    BOTTOM,
    LEFT,
    MAX_COLUMNS,
    RIGHT,
    TOP,
    plot_svg,
    render_page,
    thumbnail,
)
from arp_jax.data.images import decode_image, encode_image


def panels(figure: str) -> list[ElementTree.Element]:
    return [e for e in ElementTree.fromstring(figure).iter("svg") if e.get("class") == "panel"]


def points(panel: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """Pieces of the line, each a list of (x, y)."""
    path = panel.find("path").get("d")
    pieces = [piece for piece in path.split("M") if piece]
    return [[tuple(map(float, p.split())) for p in piece.split("L")] for piece in pieces]


def test_plot_places_steps_and_values() -> None:
    series = np.array([[0.0, 5.0], [1.0, 5.0], [0.5, 5.0]])
    figure = plot_svg(series, ("x", "y"), title="action", unit="m")
    first, second = panels(figure)
    assert (first.get("data-steps"), first.get("data-dim")) == ("3", "0")
    ((a, b, c),) = points(first)
    assert [p[0] for p in (a, b, c)] == [LEFT, (LEFT + RIGHT) / 2, RIGHT]
    # The largest value is uppermost, both a 5 % margin away from the frame, the third halfway.
    margin = 0.05 / 1.1 * (BOTTOM - TOP)
    assert a[1] == pytest.approx(BOTTOM - margin, abs=0.06)
    assert b[1] == pytest.approx(TOP + margin, abs=0.06)
    assert c[1] == pytest.approx((a[1] + b[1]) / 2, abs=0.11)
    # A constant dimension lies in the middle.
    assert {y for _, y in points(second)[0]} == {(TOP + BOTTOM) / 2}
    assert "action" in figure
    assert "<small>m</small>" in figure


def test_limits_are_drawn_when_near_and_told_when_far() -> None:
    series = np.stack([np.linspace(-1, 1, 9), 0.01 * np.linspace(-1, 1, 9)], 1)
    near, far = panels(
        plot_svg(series, ("a", "b"), title="t", unit="", low=(-1.5, -1), high=(1.5, 1))
    )
    dashed = [line for line in near.iter("line") if line.get("stroke-dasharray")]
    assert sorted(float(line.get("y1")) > 40 for line in dashed) == [False, True]
    assert not [line for line in far.iter("line") if line.get("stroke-dasharray")]
    assert "limits -1 … 1" in "".join(far.itertext())
    assert "limits" not in "".join(near.itertext())


def test_band_and_marks() -> None:
    series = np.linspace(0, 1, 11)[:, None]
    (panel,) = panels(
        plot_svg(series, ("a",), title="t", unit="", band=[[0.25], [0.75]], marks=[10])
    )
    shaded = next(r for r in panel.iter("rect") if r.get("opacity") == ".12")
    assert float(shaded.get("height")) == pytest.approx(0.5 / 1.1 * (BOTTOM - TOP), abs=0.11)
    (mark,) = [line for line in panel.iter("line") if line.get("stroke") == "#e0342b"]
    assert float(mark.get("x1")) == RIGHT


def test_a_gap_where_values_are_not_finite() -> None:
    series = np.array([0.0, 1.0, np.nan, 1.0, np.inf, 0.0])[:, None]
    (panel,) = panels(plot_svg(series, ("a",), title="t", unit=""))
    assert [len(piece) for piece in points(panel)] == [2, 1, 1]
    ticks = [line for line in panel.iter("line") if line.get("stroke") == "#e0342b"]
    assert len(ticks) == 2
    (nothing,) = panels(plot_svg(series * np.nan, ("a",), title="t", unit=""))
    assert "no finite value" in "".join(nothing.itertext())


def test_names_are_escaped() -> None:
    figure = plot_svg(np.zeros((2, 1)), ("<b>&\"'",), title="<i>", unit="<u>")
    assert "<b>" not in figure
    assert "<i>" not in figure
    assert "".join(panels(figure)[0].find("g/text").itertext()) == "<b>&\"'"


@settings(max_examples=20, deadline=None)
@given(arrays(np.float64, st.integers(MAX_COLUMNS * 2 + 1, 3000), elements=st.floats(-9, 9)))
def test_thinning_loses_no_peak(values: np.ndarray) -> None:
    (panel,) = panels(plot_svg(values[:, None], ("a",), title="t", unit=""))
    (line,) = points(panel)
    assert len(line) <= 2 * MAX_COLUMNS
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    ys = [y for _, y in line]
    if np.ptp(values) > 1e-6:
        margin = 0.05 / 1.1 * (BOTTOM - TOP)
        assert min(ys) == pytest.approx(TOP + margin, abs=0.06)
        assert max(ys) == pytest.approx(BOTTOM - margin, abs=0.06)


def test_many_dimensions_are_one_small_plot() -> None:
    series = np.random.default_rng(0).normal(size=(400, 512))
    figure = plot_svg(series, [f"e{i}" for i in range(512)], title="embedding", unit="")
    assert len(panels(figure)) == 1
    assert "512 dimensions" in figure
    assert len(figure) < 25_000


def test_plots_are_small_and_self_contained() -> None:
    series = np.cumsum(np.random.default_rng(0).normal(size=(20_000, 7)), 0)
    figure = plot_svg(series, "abcdefg", title="action", unit="rad")
    assert len(figure) < 7 * 9_000
    assert not re.search(r"https?:|url\(|<script|<style", figure)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("a",)}, "1 names for 2 dimensions"),
        ({"low": (0,), "high": (1,)}, r"limits \[2, 1\], expected \[2, 2\]"),
        ({"band": [[0, 0, 0]]}, r"band \[1, 3\], expected \[2, 2\]"),
        ({"series": np.zeros((0, 2))}, r"series must be \[T >= 1, D\], found \[0, 2\]"),
    ],
)
def test_wrong_shapes_are_named(change: dict, message: str) -> None:
    arguments = {"series": np.zeros((3, 2)), "names": ("a", "b"), "title": "t", "unit": ""}
    with pytest.raises(ValueError, match=message):
        plot_svg(**(arguments | change))


def test_thumbnail_of_bytes_and_pixels() -> None:
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:, 40:] = 255, 128, 0
    for image in (pixels, encode_image(pixels, "png")):
        uri = thumbnail(image, 20)
        assert uri.startswith("data:image/jpeg;base64,")
        small = decode_image(base64.b64decode(uri.partition(",")[2]))
        assert small.shape == (15, 20, 3)
        np.testing.assert_allclose(small[7, 3], 0, atol=6)
        np.testing.assert_allclose(small[7, 16], (255, 128, 0), atol=6)
    assert thumbnail(pixels, 800) == thumbnail(pixels, 80)
    with pytest.raises(ValueError, match="cannot be decoded"):
        thumbnail(b"no picture", 20)


def test_page_shell_needs_its_content_and_nothing_else() -> None:
    page = render_page("episode_page.html")
    assert not re.search(r"https?:|url\(|src=", page)
    assert "color-scheme: light dark" in page
    with pytest.raises(jinja2.TemplateNotFound):
        render_page("absent.html")
