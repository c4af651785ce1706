"""Published Push-T checkpoints of ARP: a torch state dict in, `ArpPolicy` parameters out.

The image encoder is mapped here; the `policy.*` part goes through `interop/arp.py`. The state dict
is a plain mapping from key to numpy array (no pickle, no torch). Tensors that the publisher's
encoder registers a second time under `nets.*` are read once, from `backbone` and `pool`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

State = Mapping[str, np.ndarray]

_IMAGE = "obs_encoder.obs_nets.image"


def convert_encoder(state: State, stage_blocks: tuple[int, ...] = (2, 2, 2, 2)) -> dict[str, Any]:
    """Parameters of `models.observation_encoder.ImageEncoder` from the published state dict."""
    trunk = {
        "stem_conv": _conv(state, f"{_IMAGE}.backbone.nets.0"),
        "stem_norm": _norm(state, f"{_IMAGE}.backbone.nets.1"),
    }
    for stage, blocks in enumerate(stage_blocks):
        for block in range(blocks):
            # torchvision's trunk as a list: 0 conv, 1 norm, 2 relu, 3 max-pool, 4.. stages.
            key = f"{_IMAGE}.backbone.nets.{stage + 4}.{block}"
            trunk[f"stages_{stage}_{block}"] = _block(state, key)
    return {
        "trunk": trunk,
        "keypoint_conv": _conv(state, f"{_IMAGE}.pool.nets"),
        "feature_dense": _dense(state, f"{_IMAGE}.nets.3"),
        "token_dense": _dense(state, "obs_feat_linear"),
    }


def _block(state: State, key: str) -> dict[str, Any]:
    params = {
        "conv1": _conv(state, f"{key}.conv1"),
        "norm1": _norm(state, f"{key}.bn1"),
        "conv2": _conv(state, f"{key}.conv2"),
        "norm2": _norm(state, f"{key}.bn2"),
    }
    if f"{key}.downsample.0.weight" in state:
        params["skip_conv"] = _conv(state, f"{key}.downsample.0")
        params["skip_norm"] = _norm(state, f"{key}.downsample.1")
    return params


def _conv(s,k):
    p={"kernel": np.transpose(s[k+".weight"],(2,3,1,0))}
    if k+".bias" in s: p["bias"]=s[k+".bias"]
    return p
def _dense(s,k): return {"kernel": s[k+".weight"].T, "bias": s[k+".bias"]}
def _norm(s,k): return {"scale": s[k+".weight"], "bias": s[k+".bias"]}
