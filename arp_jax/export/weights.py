"""Weights of an artifact: float32, or fewer bits on the disk and float32 again once loaded.

Tensors by name flow in; params.safetensors and a section of the manifest flow out, and back. The
program is the same for every kind, so what fewer bits cost is an error, never speed; it is measured
at export (`artifact.measure_weight_error`). bfloat16 rounds; int8 has one scale for each entry of
the last axis, max |w| / 127. Small tensors (biases, norms) and other types keep every bit.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # comes with jax
import numpy as np
from safetensors.numpy import load_file, save_file

KINDS = ("float32", "bfloat16", "int8")
# Below so many entries a tensor is kept: it costs little and is often a norm's scale.
SMALLEST = 1024
_SCALE = ".scale"


def write_weights(tensors: Mapping[str, np.ndarray], kind: str, path: Path) -> dict[str, Any]:
    """Writes tensors; returns the manifest's section "weights".

    Args:
        tensors: name -> array of any shape and type.
        kind: of `KINDS`.
        path: file to write.

    Raises:
        ValueError: an unknown kind, or a value that is not finite and would spoil its channel.
    """
    if kind not in KINDS:
        raise ValueError(f"--weights: {kind!r} is unknown; choose from {KINDS}")
    stored: dict[str, np.ndarray] = {}
    reduced = []
    for name, value in tensors.items():
        if kind == "float32" or not _is_reduced(value):
            stored[name] = value
            continue
        if not np.isfinite(value).all():
            raise ValueError(f"--weights {kind}: parameter {name} has values that are not finite")
        reduced.append(name)
        if kind == "bfloat16":
            # As bits: numpy's safetensors know no bfloat16.
            stored[name] = value.astype(ml_dtypes.bfloat16).view(np.uint16)
        else:
            stored[name], stored[name + _SCALE] = quantized(value)
    save_file(stored, path)
    path.chmod(0o644)  # other users run the policy, too
    return {
        "kind": kind,
        "reduced": reduced,
        "bytes": sum(array.nbytes for array in stored.values()),
        "float32_bytes": sum(array.nbytes for array in tensors.values()),
    }


def read_weights(
    path: Path, names: Iterable[str], section: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The tensors as they were before `write_weights`, up to rounding.

    Args:
        path: what `write_weights` wrote.
        names: the tensors wanted.
        section: what `write_weights` returned.

    Raises:
        ValueError: a tensor is absent, or the kind is unknown to this program.
    """
    if section["kind"] not in KINDS:
        raise ValueError(f"weights are {section['kind']!r}, this program knows {KINDS}")
    stored = load_file(path)
    reduced, tensors = set(section["reduced"]), {}
    for name in names:
        if name not in stored:
            raise ValueError(f"{path}: parameter {name} is absent")
        value = stored[name]
        if name in reduced:
            if section["kind"] == "int8":
                value = value.astype(np.float32) * stored[name + _SCALE]
            else:
                value = (value.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = value
    return tensors


def quantized(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [..., C] -> int8 [..., C] and float32 [C], whose product is the nearest to it."""
    largest = np.abs(value).max(axis=tuple(range(value.ndim - 1)))
    scale = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32)
    return np.rint(value / scale).astype(np.int8), scale


def _is_reduced(value: np.ndarray) -> bool:
    return value.dtype == np.float32 and value.ndim >= 2 and value.size >= SMALLEST
