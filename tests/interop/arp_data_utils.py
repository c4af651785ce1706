"""Labels and chunk lists of the published policies against a golden file of them.

Groups: ``segmented`` (chunk lists), ``pusht`` (plan labels), ``heatmap`` (label maps), ``aloha``
(image positions and guide points). A file may lack any of them; an entry unknown here fails.
"""

import re

import jax.numpy as jnp
import numpy as np

from arp_jax.models.detr_encoder import sine_positions_2d
from arp_jax.policies.guide_labels import guide_points_from_tracks
from arp_jax.policies.plan_labels import (
    chunk_blocks,
    gaussian_heatmaps,
    plan_from_actions,
    plan_to_pixels,
)
from tests.golden_files import GoldenCheck

Arrays = dict[str, np.ndarray]

PUSH_T_SIZE = 96  # pixels of the published plan maps
PUSH_T_SIGMA = 1.0


def check_data_utils(data: Arrays, check: GoldenCheck) -> None:
    """Compare every group of the file."""
    groups = {
        "segmented": _chunk_lists,
        "pusht": _plan_labels,
        "heatmap": _label_maps,
        "aloha": _aloha_labels,
    }
    for group in sorted({key.split("/")[0] for key in data}):
        assert group in groups, f"{check.name}: unknown group {group!r}"
        entries = {k.split("/", 1)[1]: v for k, v in data.items() if k.startswith(f"{group}/")}
        groups[group](entries, check)


def _chunk_lists(entries: Arrays, check: GoldenCheck) -> None:
    for key in entries:
        assert re.fullmatch(r".+/(args|out)", key), f"segmented: unknown entry {key!r}"
    for name in [k.removesuffix("/args") for k in entries if k.endswith("/args")]:
        first, end, size = entries[f"{name}/args"].tolist()
        # Published lists are rounded up to whole chunks; ours stop at the last token.
        ours = np.asarray(chunk_blocks(first, end - first, size))
        check.compare(f"segmented/{name}", ours, entries[f"{name}/out"][: end - first])


def _plan_labels(entries: Arrays, check: GoldenCheck) -> None:
    normalised = jnp.asarray(entries["norm"])
    for key, expected in entries.items():
        if key == "norm":
            actions = jnp.asarray(entries["action"])
            check.compare("pusht/norm", (actions - 256) / 256, expected)
        elif match := re.fullmatch(r"plan_(norm|px)_(\d+)", key):
            plan = plan_from_actions(normalised, int(match[2]))
            if match[1] == "norm":  # the file keeps these before the reversal in time
                check.compare(f"pusht/{key}", plan[:, ::-1], expected)
            else:
                check.compare(f"pusht/{key}", plan_to_pixels(plan, PUSH_T_SIZE), expected)
        elif match := re.fullmatch(r"heatmap_(\d+)", key):
            pixels = jnp.asarray(entries[f"plan_px_{match[1]}"])[0]  # of the first sample
            found = gaussian_heatmaps(pixels, *expected.shape[-2:], PUSH_T_SIGMA)
            check.compare(f"pusht/{key}", found, expected)
        else:
            assert key == "action", f"pusht: unknown entry {key!r}"


def _label_maps(entries: Arrays, check: GoldenCheck) -> None:
    points = jnp.asarray(entries["pts"])
    for key, expected in entries.items():
        if match := re.fullmatch(r".+_h(\d+)_w(\d+)_s([\d.]+)", key):
            found = gaussian_heatmaps(points, int(match[1]), int(match[2]), float(match[3]))
            check.compare(f"heatmap/{key}", found, expected)
        else:
            assert key == "pts", f"heatmap: unknown entry {key!r}"


def _aloha_labels(entries: Arrays, check: GoldenCheck) -> None:
    for key, expected in entries.items():
        if match := re.fullmatch(r"pos2d_dim(\d+)_h(\d+)_w(\d+)", key):
            half, height, width = (int(n) for n in match.groups())
            found = sine_positions_2d(height, width, 2 * half).transpose(2, 0, 1)[None]
            check.compare(f"aloha/{key}", found, expected)
        elif key == "guide_pts":
            tracks, is_pad = jnp.asarray(entries["pts_raw"]), jnp.asarray(entries["is_pad"])
            found = guide_points_from_tracks(tracks, is_pad, expected.shape[1])
            check.compare(f"aloha/{key}", found, expected)
        else:
            assert key in ("pts_raw", "is_pad"), f"aloha: unknown entry {key!r}"
