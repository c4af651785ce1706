"""The picture of a schedule is valid XML and shows exactly the mask that the model uses."""

import dataclasses
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from arp_jax.models.chunk_schedule import ChunkSchedule, schedule_mask
from arp_jax.models.schedule_svg import COLOURS, LABEL_PITCH, schedule_svg
from tests.models.small_arp import ACTION, CONFIG, GRIP, PIXEL, STATE

SVG = "{http://www.w3.org/2000/svg}"
SCHEDULE = ChunkSchedule(
    (STATE, STATE, PIXEL, PIXEL, ACTION, ACTION), (0, 1, 2, 2, 3, 3), blocked=((ACTION, STATE),)
)


def parsed(schedule, config=CONFIG):
    return ElementTree.fromstring(schedule_svg(schedule, config))


def number(element, name):
    return float(element.get(name, 0))


def painted_mask(root, length):
    """The mask [2L, 2L] read back from the coloured rectangles inside the grid's frame."""
    rects = root.findall(f"{SVG}rect")
    frame = max((r for r in rects if r.get("fill") == "none"), key=lambda r: number(r, "height"))
    left, top, side = (number(frame, name) for name in ("x", "y", "width"))
    cell = side / (2 * length)
    mask = np.zeros((2 * length, 2 * length), bool)
    for rect in rects:
        x, y = (number(rect, "x") - left) / cell, (number(rect, "y") - top) / cell
        if rect.get("fill") in COLOURS and x > -0.01 and y > -0.01:
            row, column = round(y), round(x)
            mask[row, column : column + round(number(rect, "width") / cell)] = True
    return mask


def test_grid_is_the_mask():
    mask = painted_mask(parsed(SCHEDULE), SCHEDULE.length)
    np.testing.assert_array_equal(mask, schedule_mask(SCHEDULE))
    assert mask.any()
    assert not mask.all()


def test_every_token_and_chunk_is_drawn():
    root = parsed(SCHEDULE)
    titles = [t.text for t in root.iter(f"{SVG}title")]
    positions = [t for t in titles if t.startswith("position")]
    assert len(positions) == 6
    assert "position 4: action, chunk 3" in positions
    assert sum(t.startswith("chunk") for t in titles) == 4
    texts = {t.text for t in root.iter(f"{SVG}text")}
    assert {"v5", "q5", "action never attends to state"} <= texts
    assert "state: 2 x 3 numbers, given" in texts


def test_names_are_escaped():
    token = dataclasses.replace(CONFIG.tokens[0], name='a<b & "c"')
    config = dataclasses.replace(CONFIG, tokens=(token, *CONFIG.tokens[1:]))
    texts = [t.text for t in parsed(SCHEDULE, config).iter(f"{SVG}text")]
    assert any(text.startswith('a<b & "c":') for text in texts)


@pytest.mark.parametrize("length", [40, 150])
def test_long_sequences_stay_readable(length):
    config = dataclasses.replace(CONFIG, max_seq_len=length, max_chunk_size=length)
    schedule = ChunkSchedule((STATE, *(GRIP,) * (length - 1)), (0, *(1,) * (length - 1)))
    text = schedule_svg(schedule, config)
    assert len(text) < 400_000
    root = ElementTree.fromstring(text)
    np.testing.assert_array_equal(painted_mask(root, length), schedule_mask(schedule))
    labels = [t for t in root.iter(f"{SVG}text") if t.get("text-anchor") == "end"]
    heights = np.sort([number(t, "y") for t in labels])
    assert len(labels) > 6
    assert np.diff(heights).min() >= 0.99 * LABEL_PITCH
    width = number(root, "width")
    assert all(0 <= number(t, "x") <= width for t in root.iter(f"{SVG}text"))


def test_a_schedule_of_another_model_is_refused():
    with pytest.raises(ValueError, match="token ids must lie in"):
        schedule_svg(ChunkSchedule((7,), (0,)), CONFIG)
