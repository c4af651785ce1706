"""Published Push-T checkpoints of ARP: a torch state dict <-> parameters of `ArpPolicy`.

The image encoder is mapped here; the `policy.*` part goes through `interop/arp.py`. The state dict
is a plain mapping from name to numpy array (no pickle, no torch). Tensors that the publisher's
encoder registers a second time are read once and written under both names (`torch_keypoints.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.arp import convert_arp, to_torch_state
from arp_jax.interop.torch_encoder import linear_rules
from arp_jax.interop.torch_keypoints import image_encoder_rules, is_constant, whole_encoder
from arp_jax.interop.torch_state import Report, Rule, convert, to_torch
from arp_jax.models.observation_encoder import ImageEncoder
from arp_jax.policies.arp import ArpPolicy

IMAGE_ENCODER = "obs_encoder.obs_nets.image"
HEAD_PREFIX = "policy."


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
    encoder, report = convert(rest, rules, template, is_constant)

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
    height, width = policy.config.crop
    state |= whole_encoder(IMAGE_ENCODER, state, height, width)
    head = to_torch_state(params["transformer"], {}, policy.transformer.config)
    return state | {HEAD_PREFIX + name: value for name, value in head.items()}


def _image_encoder(policy: ArpPolicy) -> ImageEncoder:
    if not isinstance(policy.encoder, ImageEncoder):
        raise ValueError("published Push-T weights need policy.encoder 'image', found 'state'")
    return policy.encoder


def encoder_rules(encoder: ImageEncoder) -> list[Rule]:
    """One rule per tensor of the published image encoder."""
    return [
        *image_encoder_rules(IMAGE_ENCODER, (), encoder.depth, encoder.norm),
        *linear_rules("obs_feat_linear", ("token_dense",)),
    ]
