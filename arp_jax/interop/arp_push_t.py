"""Published Push-T checkpoints of ARP: a torch state dict <-> parameters of `ArpPolicy`.

The image encoder is mapped here; the `policy.*` part goes through `interop/arp.py`. The state dict
is a plain mapping from name to numpy array (no pickle, no torch). Tensors that the publisher's
encoder registers a second time under `nets.0` and `nets.1` are read once, from `backbone` and
`pool`, and written under both names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.arp import convert_arp, to_torch_state
from arp_jax.interop.torch_encoder import linear_rules
from arp_jax.interop.torch_resnet import trunk_rules
from arp_jax.interop.torch_state import Report, Rule, conv_kernel, convert, to_torch
from arp_jax.models.observation_encoder import ImageEncoder
from arp_jax.policies.arp import ArpPolicy

IMAGE_ENCODER = "obs_encoder.obs_nets.image"
HEAD_PREFIX = "policy."
_TRUNK_STRIDE = 32  # five halvings, each rounded up

_SECOND_NAMES = {
    f"{IMAGE_ENCODER}.backbone.": f"{IMAGE_ENCODER}.nets.0.",
    f"{IMAGE_ENCODER}.pool.": f"{IMAGE_ENCODER}.nets.1.",
}
# Second names of tensors, constants (coordinates, temperature 1.0) and an empty placeholder.
_IGNORED = re.compile(
    rf"{re.escape(IMAGE_ENCODER)}\.nets\.[01]\..*|.*\.(pos_x|pos_y|temperature)|_dummy_variable"
)


def convert_push_t(
    state: Mapping[str, np.ndarray], policy: ArpPolicy
) -> tuple[dict[str, Any], Report]:
    """Published state dict -> (parameters of `policy`, report of every tensor).

    Nothing is raised for a partial match; `report.raise_if_incomplete(file)` refuses it.

    Raises:
        ValueError: the policy has no image encoder, so no published weights fit it.
    """
    image_encoder = _image_encoder(policy)
    head = {k.removeprefix(HEAD_PREFIX): v for k, v in state.items() if k.startswith(HEAD_PREFIX)}
    rest = {k: v for k, v in state.items() if not k.startswith(HEAD_PREFIX)}
    transformer, _, head_report = convert_arp(head, policy.transformer.config)

    height, width = policy.config.crop
    frame = jax.ShapeDtypeStruct((1, 1, height, width, 3), jnp.float32)
    template = jax.eval_shape(image_encoder.init, jax.random.key(0), frame)["params"]
    rules = encoder_rules(image_encoder)
    encoder, report = convert(rest, rules, template, lambda name: bool(_IGNORED.fullmatch(name)))

    report.used += [HEAD_PREFIX + name for name in head_report.used]
    report.unused += [HEAD_PREFIX + name for name in head_report.unused]
    report.ignored += [HEAD_PREFIX + name for name in head_report.ignored]
    report.missing += [HEAD_PREFIX + name for name in head_report.missing]
    report.misshaped += [(HEAD_PREFIX + n, found, want) for n, found, want in head_report.misshaped]
    return {"encoder": encoder, "transformer": transformer}, report


def push_t_to_torch(params: Mapping[str, Any], policy: ArpPolicy) -> dict[str, np.ndarray]:
    """Parameters of `policy` -> published state dict; the exact inverse of `convert_push_t`.

    Returns:
        Every tensor that the published policy expects when it loads strictly: second names and
        constants included.

    Raises:
        ValueError: as `convert_push_t`.
    """
    rules = encoder_rules(_image_encoder(policy))
    state = {"_dummy_variable": np.zeros((0,), np.float32), **to_torch(params["encoder"], rules)}
    constants = _pool_constants(policy)
    state |= {f"{IMAGE_ENCODER}.pool.{name}": value for name, value in constants.items()}
    for first, second in _SECOND_NAMES.items():
        twins = {n: x for n, x in state.items() if n.startswith(first)}
        state |= {second + name.removeprefix(first): x for name, x in twins.items()}
    head = to_torch_state(params["transformer"], {}, policy.transformer.config)
    return state | {HEAD_PREFIX + name: value for name, value in head.items()}


def _image_encoder(policy: ArpPolicy) -> ImageEncoder:
    if not isinstance(policy.encoder, ImageEncoder):
        raise ValueError("published Push-T weights need policy.encoder 'image', found 'state'")
    return policy.encoder


def _pool_constants(policy: ArpPolicy) -> dict[str, np.ndarray]:
    """Coordinates (x along a row, row by row) and temperature of the spatial softmax."""
    height, width = (math.ceil(size / _TRUNK_STRIDE) for size in policy.config.crop)
    across, down = np.linspace(-1.0, 1.0, width), np.linspace(-1.0, 1.0, height)
    return {
        "pos_x": np.tile(across, height).astype(np.float32)[None],  # [1, h * w]
        "pos_y": np.repeat(down, width).astype(np.float32)[None],
        "temperature": np.ones((1,), np.float32),
    }


def encoder_rules(encoder: ImageEncoder) -> list[Rule]:
    """One rule per tensor of the published image encoder."""
    trunk = f"{IMAGE_ENCODER}.backbone.nets."
    return [
        *trunk_rules(trunk, ("trunk",), encoder.depth, encoder.norm, numbered=True),
        *linear_rules(f"{IMAGE_ENCODER}.pool.nets", ("keypoint_conv",), conv_kernel),
        *linear_rules(f"{IMAGE_ENCODER}.nets.3", ("feature_dense",)),
        *linear_rules("obs_feat_linear", ("token_dense",)),
    ]
