"""What a golden file of ARP is, told by its contents and never by its name.

In: a path. Out: one of the words below, or None for a file that no test of ours knows.
"""

import json
from pathlib import Path

import numpy as np

SMALL_MODEL = "small model"  # training and generation calls of one model
UNITS = "units"  # single parts: masks, binning, embeddings, attention, densities
DATA_UTILS = "data utils"  # labels and chunk lists made from recorded data
KEYFRAMES = "keyframes"
PUSH_T = "push-t policy"  # whole policies with formula weights
ALOHA = "aloha policy"
RLBENCH = "rlbench policy"

UNIT_GROUPS = {"chk_index", "mask", "coder", "embed", "feat_grid", "upsample", "attn", "gmm"}
UNIT_GROUPS |= {"gauss_nll"}
DATA_GROUPS = {"segmented", "pusht", "heatmap", "aloha"}


def kind_of(path: Path) -> str | None:
    """The kind of golden file at ``path``."""
    with np.load(path, allow_pickle=False) as archive:
        names = set(archive.files)
        groups = {name.split("/")[0] for name in names}
        if "cfg_json" in names and "tokens" in json.loads(str(archive["cfg_json"])):
            return SMALL_MODEL
        if "state_dict_json" in names:
            return _policy_of(list(json.loads(str(archive["state_dict_json"]))), names)
    if any(name.endswith("/gripper_open") for name in names):
        return KEYFRAMES
    if groups & UNIT_GROUPS:
        return UNITS
    return DATA_UTILS if groups & DATA_GROUPS else None


def _policy_of(tensors: list[str], names: set[str]) -> str | None:
    bare = [tensor.removeprefix("model.") for tensor in tensors]
    if any(tensor.startswith("backbone.") for tensor in bare):
        return ALOHA
    if any(tensor.startswith(("mvt1.", "mvt2.")) for tensor in bare):
        return RLBENCH
    return PUSH_T if {"image_u8", "agent_pos"} <= names else None
