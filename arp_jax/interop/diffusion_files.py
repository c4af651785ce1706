"""The numbers beside Diffusion Policy's weights: its normalizer, or Mobile ALOHA's statistics.

In: a state dict with `normalizer.params_dict.*` (the original's), or `dataset_stats.pkl` (ACT++).
Out: our `Normalizer`, and the way back. Images have no entry in ours: their scale is an option of
the policy, checked here against the file's.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from arp_jax.interop.dataset_stats import (
    FILE,
    STATS_PREFIX,
    read_dataset_stats,
    standard_affine,
    stats_vector,
)
from arp_jax.interop.diffusion import NORMALIZER_PREFIX, State, published_form
from arp_jax.normalize import Affine, Normalizer, affine_from_limits
from arp_jax.policies.diffusion import DiffusionPolicy

_METHODS_KEY = "config.data.normalization"
# (scale, offset) of images in [0, 1], by the policy's option.
_IMAGE_MAPS = {"signed": (2.0, -1.0), "signed_imagenet": (2.0, -1.0), "imagenet": (1.0, 0.0)}


def read_files_beside(file: Path, policy: DiffusionPolicy, stats: Path | None) -> State:
    """ACT++: the statistics beside the weights, under `STATS_PREFIX`; nothing for the original's.

    Raises:
        ValueError: the file is missing or of other sizes, or named for weights without one.
    """
    if published_form(policy) != "actpp":
        if stats is not None:
            raise ValueError(f"--stats={stats}: these weights hold their normalizer; leave it out")
        return {}
    where = file.with_name(FILE) if stats is None else stats
    vectors = read_dataset_stats(where)
    _actpp_normalizer(vectors, policy, where)
    return {f"{STATS_PREFIX}{name}": value for name, value in vectors.items()}


def diffusion_normalizer(
    state: State, policy: DiffusionPolicy, methods: Mapping[str, str]
) -> Normalizer:
    """The maps that the weights were trained with.

    Raises:
        ValueError: the state dict has none, or the config asks for others.
    """
    if published_form(policy) == "actpp":
        start = STATS_PREFIX
        stats = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
        normalizer = _actpp_normalizer(stats, policy, FILE)
    else:
        normalizer = _original_normalizer(state, policy)
    for name, affine in normalizer.items():
        _check_method(name, affine, policy, methods.get(name))
    return normalizer


def normalizer_to_state(normalizer: Normalizer, policy: DiffusionPolicy) -> dict[str, np.ndarray]:
    """Scale and offset of each vector, the action and the images, as the original keeps them.

    The minima and means of the data, which it keeps as well and never uses, are not known here.
    """
    pairs = {name: (1 / a.scale, -a.offset / a.scale) for name, a in normalizer.items()}
    if published_form(policy) == "vectors":
        seen = [pairs.pop(name) for name in policy.observation.vectors]
        pairs["obs"] = (np.concatenate([x for x, _ in seen]), np.concatenate([x for _, x in seen]))
    for camera in policy.config.cameras:
        scale, offset = _IMAGE_MAPS[policy.config.image_scale]
        pairs[camera] = (np.full(1, scale, np.float32), np.full(1, offset, np.float32))
    state = {}
    for name, pair in pairs.items():
        for part, value in zip(("scale", "offset"), pair, strict=True):
            state[f"{NORMALIZER_PREFIX}{name}.{part}"] = np.asarray(value, np.float32)
    return state


def stats_of(normalizer: Normalizer, policy: DiffusionPolicy) -> dict[str, np.ndarray]:
    """The entries of `dataset_stats.pkl` that ACT++'s diffusion policy reads."""
    state, action = normalizer[policy.observation.vectors[0]], normalizer["action"]
    return {
        "qpos_mean": np.array(state.offset),
        "qpos_std": np.array(state.scale),
        "action_min": action.offset - action.scale,
        "action_max": action.offset + action.scale,
    }


def _actpp_normalizer(stats: State, policy: DiffusionPolicy, where: object) -> Normalizer:
    name = policy.observation.vectors[0]
    low, high = (
        stats_vector(stats, f"action_{end}", policy.spec.action.size, where)
        for end in ("min", "max")
    )
    if not (low < high).all():
        raise ValueError(f"{where}: 'action_min' is not below 'action_max' everywhere")
    size = policy.spec.observation.feature(name).size
    return {
        name: standard_affine(stats, "qpos", size, where),
        "action": affine_from_limits(low.tolist(), high.tolist()),
    }


def _original_normalizer(state: State, policy: DiffusionPolicy) -> Normalizer:
    """x * scale + offset of the file as our (x - offset) / scale."""
    observation = policy.spec.observation
    sizes = {name: observation.feature(name).size for name in policy.observation.vectors}
    found = {"action": _scale_and_offset(state, "action", policy.spec.action.size)}
    if f"{NORMALIZER_PREFIX}obs.scale" in state:
        # Policies without cameras see one vector; ours are its parts, in the policy's order.
        ends = np.cumsum(list(sizes.values()))
        pair = _scale_and_offset(state, "obs", int(ends[-1]))
        for i, name in enumerate(sizes):
            part = slice(int(ends[i]) - sizes[name], int(ends[i]))
            found[name] = (pair[0][part], pair[1][part])
    else:
        found |= {name: _scale_and_offset(state, name, size) for name, size in sizes.items()}
    for camera in policy.config.cameras:
        pair = _scale_and_offset(state, camera, 1)
        expected = _IMAGE_MAPS[policy.config.image_scale]
        if not np.allclose(np.ravel(pair), expected):
            raise ValueError(
                f"policy.image_scale {policy.config.image_scale!r} scales images by {expected}; "
                f"the weights were trained with {tuple(np.ravel(pair).tolist())} ({camera})"
            )
    return {
        name: Affine(-offset / scale, 1 / scale)
        for name, (scale, offset) in sorted(found.items(), key=lambda item: item[0] == "action")
    }


def _scale_and_offset(state: State, name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    pair = []
    for part in ("scale", "offset"):
        key = f"{NORMALIZER_PREFIX}{name}.{part}"
        if key not in state:
            raise ValueError(f"there is no {key}: the weights' normalizer lacks {name!r}")
        value = np.asarray(state[key], np.float32)
        if value.shape not in ((size,), (1,)):
            raise ValueError(f"{key} has shape {value.shape}, the policy has {size} values")
        pair.append(np.broadcast_to(value, (size,)))
    if not (pair[0] > 0).all():
        raise ValueError(f"{NORMALIZER_PREFIX}{name}.scale has values that are not positive")
    return pair[0], pair[1]


def _check_method(name: str, affine: Affine, policy: DiffusionPolicy, method: str | None) -> None:
    """ValueError unless `method` is what made `affine`: a training that goes on would use it."""
    is_standard = published_form(policy) == "actpp" and name != "action"
    needed = ("standard",) if is_standard else ("min_max", "limits")
    if method not in needed:
        raise ValueError(f"{_METHODS_KEY}.{name} is {method!r}; these weights need one of {needed}")
    if method == "limits":
        spec = policy.spec.action if name == "action" else policy.spec.observation.feature(name)
        if spec.low is None or spec.high is None:
            raise ValueError(f"{_METHODS_KEY}.{name} is 'limits', but its spec has none")
        limits = affine_from_limits(spec.low, spec.high)
        if not all(
            np.allclose(getattr(limits, part), getattr(affine, part), rtol=1e-3)
            for part in ("offset", "scale")
        ):
            raise ValueError(
                f"{_METHODS_KEY}.{name} is 'limits', which are not what the weights were trained "
                "with; set it to 'min_max'"
            )
