"""Weights that are formulas of their names, so that a large golden model needs no weight file.

In: {state-dict key: shape} (``state_dict_json``). Out: the state dict, as the golden README
defines it. What is left as built by the publisher is not read by our importers and stays zero.
"""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

_AS_BUILT = ("num_batches_tracked", "div_term", "_dummy_variable", "temperature", "pos_x", "pos_y")
# Second names of tensors that the publisher registers twice: the first name gives the values.
_DUPLICATES = ("obs_encoder.obs_nets.image.nets.0.", "obs_encoder.obs_nets.image.nets.1.")


def formula_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight that the golden README defines for a state-dict key (float32)."""
    seed = zlib.crc32(name.encode()) & 0x7FFFFFFF
    z = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return np.float32(1) + np.float32(0.1) * np.abs(z)
    if name.endswith("running_mean"):
        return np.float32(0.1) * z
    if name.endswith("attn_with"):
        return np.float32(0.5) * z
    if len(shape) <= 1:
        is_scale = name.endswith("weight")
        return np.float32(1) + np.float32(0.1) * z if is_scale else np.float32(0.05) * z
    is_table = ("embed" in name or "pos_emb" in name) and ".embed.weight" not in name
    if len(shape) == 2 and is_table:
        return np.float32(0.3) * z
    return (z / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def formula_state(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """The whole state dict of ``shapes``."""
    return {
        name: np.zeros(shape, np.float32)
        if name.endswith(_AS_BUILT) or name.startswith(_DUPLICATES)
        else formula_weight(name, tuple(shape))
        for name, shape in shapes.items()
    }
