"""What a golden file of the folder `act` is, told by its contents and never by its name.

In: the arrays of a file. Out: one of the words below, or None for a file that no test of ours
knows. Each kind is checked by one test module, named here.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden_files import golden_paths, load_golden

Golden = Mapping[str, np.ndarray]

POLICY, PRIOR = "policy", "prior over codes"  # test_act_golden.py
LAYERS, TRANSFORMER, POSITIONS = "layers", "transformer", "positions"  # test_act_parts_golden.py
EPISODES = "episodes"  # test_act_data_golden.py


def _has(*names: str) -> Callable[[Golden, dict[str, Any]], bool]:
    return lambda golden, meta: all(name in golden for name in names)


KINDS: dict[str, Callable[[Golden, dict[str, Any]], bool]] = {
    POLICY: lambda golden, meta: "enc_layers" in meta and "in/image" in golden,
    PRIOR: lambda golden, meta: "vq_class" in meta and "in/image" not in golden,
    LAYERS: _has("in/tgt", "in/memory", "in/key_padding"),
    TRANSFORMER: _has("in/latent", "in/proprio", "in/additional_pos_embed"),
    POSITIONS: _has("out/unnormalised", "in/steps"),
    EPISODES: _has("in/act/0/qpos", "in/pp/0/qpos"),
    "ensembling": _has("in/chunks", "out/weights"),  # control/test_ensembling.py
    "schedules": _has("out/ddim50_betas"),  # models/test_noise_schedule.py
    "u-net": lambda golden, meta: "down_dims" in meta,  # test_unet1d_golden.py
    "moving average": _has("out/decay_0.75", "out/trace"),
    "neighbors": _has("out/ref_k1_w0", "out/sorted_k1_w0"),
    "residual attention": _has("w/block_same.conv1.weight"),
    "scripted experts": _has("out/transfer", "out/gripper_norm"),  # sim/experts, sim/aloha
    "arm readings": _has("angles", "coords", "gripper"),  # sim/mycobot/test_arm.py
}


def kind_of(golden: Golden) -> str | None:
    """The kind of a file; None when no kind, or more than one, fits."""
    meta = json.loads(str(golden["meta"])) if "meta" in golden else {}
    found = [kind for kind, fits in KINDS.items() if fits(golden, meta)]
    return found[0] if len(found) == 1 else None


def files_of(kind: str) -> list[Path]:
    """The files of one kind."""
    return [path for path in golden_paths("act") if kind_of(load_golden(path)) == kind]


def state_of(golden: Golden, prefix: str = "") -> dict[str, np.ndarray]:
    """The weights of a file whose names begin with `prefix`, without it."""
    start = f"w/{prefix}"
    return {k.removeprefix(start): v for k, v in golden.items() if k.startswith(start)}
