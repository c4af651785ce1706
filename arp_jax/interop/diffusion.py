"""Diffusion Policy checkpoints, the original's and Mobile ALOHA's: PyTorch <-> `DiffusionPolicy`.

In: a state dict and a policy of the same sizes. Out: its parameters, a report of every tensor and
the normalizer, or the way back. Which of the published forms a policy has follows from its options
(`published_form`); how the forms name their tensors is all that is here. ACT++ files hold
{"nets", "ema"}, the original's {"state_dicts": {"model", "ema_model"}}; `torch_file.py` reads both.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from arp_jax.interop.dataset_stats import STATS_PREFIX
from arp_jax.interop.torch_diffusion_transformer import diffusion_transformer_rules
from arp_jax.interop.torch_encoder import linear_rules
from arp_jax.interop.torch_keypoints import (
    image_encoder_rules,
    is_constant,
    pool_constants,
    whole_encoder,
)
from arp_jax.interop.torch_resnet import trunk_rules
from arp_jax.interop.torch_state import Report, Rule, conv_kernel, convert, to_torch
from arp_jax.interop.torch_unet1d import unet_rules
from arp_jax.models.diffusion_transformer import DiffusionTransformer, memory_mask
from arp_jax.models.unet1d import Unet1d
from arp_jax.policies.diffusion import DiffusionPolicy
from arp_jax.specs import PolicySpec
from arp_jax.training.state import example_batch

State = Mapping[str, np.ndarray]
FORMS = ("actpp", "keypoints", "average", "vectors")
NORMALIZER_PREFIX = "normalizer.params_dict."
_SCALES = {
    "actpp": ("unit",),
    "keypoints": ("signed",),
    "average": ("signed", "signed_imagenet"),
}


def published_form(policy: DiffusionPolicy) -> str:
    """One of `FORMS`: whose tensor names a policy's options call for.

    "actpp" is Mobile ALOHA's (keypoints without a ReLU), "keypoints" and "average" are the
    original's for images, "vectors" is the original's without cameras.

    Raises:
        ValueError: nobody has published such a policy; the option is named.
    """
    config, observation = policy.config, policy.observation
    if not config.cameras:
        return "vectors"
    if config.trunk != "resnet":
        raise ValueError(
            f"policy.trunk {config.trunk!r}: published diffusion policies see 'resnet'"
        )
    form = "average"
    if config.pool == "keypoints":
        form = "keypoints" if config.feature_relu else "actpp"
    if config.image_scale not in _SCALES[form]:
        raise ValueError(
            f"policy.image_scale {config.image_scale!r}: published weights with pool "
            f"{config.pool!r} and feature_relu {config.feature_relu} need one of {_SCALES[form]}"
        )
    if config.shared_encoder and form != "average":
        raise ValueError("policy.shared_encoder: published keypoints have an encoder a camera")
    if form == "actpp" and len(observation.vectors) != 1:
        raise ValueError(f"policy.state_features: ACT++ sees one vector, not {observation.vectors}")
    return form


def diffusion_rules(policy: DiffusionPolicy) -> Iterator[Rule]:
    """One rule per tensor of the policy; raises as `published_form`."""
    form, config = published_form(policy), policy.config
    depth, norm = config.depth, config.trunk_norm
    for i, ours in _encoders(policy):
        camera = config.cameras[i]
        if form == "actpp":
            trunk = (f"policy.backbones.{i}.nets.", (*ours, "trunk"))
            yield from trunk_rules(*trunk, depth, norm, numbered=True)
            keypoints = (*ours, "keypoint_conv")
            yield from linear_rules(f"policy.pools.{i}.nets", keypoints, conv_kernel)
            yield from linear_rules(f"policy.linears.{i}", (*ours, "feature_dense"))
        elif form == "keypoints":
            yield from image_encoder_rules(f"obs_encoder.obs_nets.{camera}", ours, depth, norm)
        else:
            name = "rgb" if config.shared_encoder else camera
            prefix = f"obs_encoder.key_model_map.{name}."
            yield from trunk_rules(prefix, (*ours, "trunk"), depth, norm)
    prefix = "policy.noise_pred_net." if form == "actpp" else "model."
    if isinstance(policy.net, Unet1d):
        yield from unet_rules(policy.net, prefix, ("net",))
    else:
        yield from diffusion_transformer_rules(policy.net, prefix, ("net",))


def convert_diffusion(state: State, policy: DiffusionPolicy) -> tuple[dict[str, Any], Report]:
    """State dict -> (parameters of `policy`, report of every tensor).

    Raises:
        ValueError: as `published_form`. A partial match raises nothing, see `Report`.
    """

    def ignored(name: str) -> bool:
        return (
            is_constant(name)
            or name.startswith((NORMALIZER_PREFIX, STATS_PREFIX))
            or name.endswith(("num_batches_tracked", ".mask", ".memory_mask"))
        )

    template = jax.eval_shape(policy.init, jax.random.key(0), example_batch(policy.spec))
    return convert(state, list(diffusion_rules(policy)), template, ignored)


def diffusion_to_torch(params: Mapping[str, Any], policy: DiffusionPolicy) -> dict[str, np.ndarray]:
    """Parameters of `policy` -> state dict, with constants; the inverse of `convert_diffusion`.

    The normalizer of the original's is added by `diffusion_files.normalizer_to_state`.
    """
    state = to_torch(params, diffusion_rules(policy))
    form, config = published_form(policy), policy.config
    for i, _ in _encoders(policy):
        camera = config.cameras[i]
        height, width = config.crop or _camera_size(policy.spec, camera)
        if form == "actpp":
            constants = pool_constants(height, width)
            state |= {f"policy.pools.{i}.{name}": value for name, value in constants.items()}
        elif form == "keypoints":
            state |= whole_encoder(f"obs_encoder.obs_nets.{camera}", state, height, width)
    return state if form == "actpp" else state | _placeholders(form, policy.net)


def _placeholders(form: str, net: nn.Module) -> dict[str, np.ndarray]:
    """Empty parameters and masks that the original's modules register."""
    owners = ["", "mask_generator."] + ["obs_encoder."] * (form == "average")
    masks: dict[str, np.ndarray] = {}
    if isinstance(net, DiffusionTransformer):
        owners.append("model.")
        allowed = {
            "mask": np.tril(np.ones((net.horizon, net.horizon), bool)),
            "memory_mask": memory_mask(net.horizon, net.window),
        }
        for name, may_see in allowed.items():
            masks[f"model.{name}"] = np.where(may_see, 0.0, -np.inf).astype(np.float32)
    empty = {f"{owner}_dummy_variable": np.zeros((0,), np.float32) for owner in owners}
    return empty | masks


def _encoders(policy: DiffusionPolicy) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(number of the camera, place in our tree) of each encoder."""
    cameras = policy.config.cameras
    for i in range(min(1, len(cameras)) if policy.config.shared_encoder else len(cameras)):
        yield i, ("encoders", f"encoders_{i}")


def _camera_size(spec: PolicySpec, name: str) -> tuple[int, int]:
    camera = next(c for c in spec.observation.cameras if c.name == name)
    return camera.height, camera.width
