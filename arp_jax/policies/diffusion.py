"""Diffusion Policy: chunks of actions by removing noise step by step.

Training adds noise of a random level to the recorded chunk and asks the network for what was added
(or for the clean chunk, or the velocity). Acting starts from pure noise and goes back level by
level: DDPM visits every level, DDIM a few. The condition is W observations, encoded by
`models/diffusion_observation.py`. Which part of the chunk is executed is `control/execution.py`'s
business.

Chi et al. 2023, "Diffusion Policy: Visuomotor Policy Learning via Action Diffusion"; as in Mobile
ALOHA (Fu et al. 2024, ACT++) with image_scale "unit", feature_relu off, 50 steps of DDIM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from arp_jax.models.diffusion_observation import (
    IMAGE_SCALES,
    POOLS,
    DiffusionObservation,
    frame_options,
)
from arp_jax.models.diffusion_transformer import DiffusionTransformer
from arp_jax.models.noise_schedule import (
    PREDICTIONS,
    SAMPLERS,
    NoiseSchedule,
    ddim_steps,
    sample_ddim,
    sample_ddpm,
)
from arp_jax.models.resnet import NORMS, STAGE_BLOCKS
from arp_jax.models.trunks import TRUNKS
from arp_jax.models.unet1d import Unet1d
from arp_jax.policies.base import Batch, Metrics, Params
from arp_jax.policies.section import check_at_least_one, check_choices, from_section
from arp_jax.specs import PolicySpec

_CHOICES: dict[str, tuple[Any, ...]] = {
    "net": ("unet", "transformer"),
    "sampler": SAMPLERS,
    "prediction": PREDICTIONS,
    "trunk": TRUNKS,
    "trunk_norm": tuple(NORMS),
    "depth": tuple(STAGE_BLOCKS),
    "pool": POOLS,
    "image_scale": IMAGE_SCALES,
}


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """Static options of `DiffusionPolicy`; the defaults are the published image model's.

    Attributes:
        net: "unet" (condition by FiLM) or "transformer" (by attention).
        cameras: images that are seen.
        state_features: vectors that are seen, behind the cameras; empty = every vector feature.
        shared_encoder: one encoder for all cameras, or one each.
        crop: height and width in pixels seen by the encoders; random in training. () = all.
        image_scale: "unit", "signed", "imagenet" or "signed_imagenet" (`diffusion_observation`).
        trunk, depth, trunk_norm, trunk_width: of the encoders, see `models.trunks.make_trunk`.
        pool: "keypoints" (spatial softmax and a linear layer) or "average" (of the map).
        keypoints, image_features, feature_relu: number of keypoints, width of the linear layer, and
            whether a ReLU follows it.
        diffusion_steps: noise levels of the training.
        prediction: "epsilon", "sample" or "velocity".
        clip: clean chunks stay in [-clip, clip] while sampling; 0 = unbounded.
        sampler: "ddpm" (all levels) or "ddim" (`inference_steps` levels, no noise on the way).
        inference_steps: network calls of DDIM.
        mask_padded_actions: leave actions outside the episode out of the loss. The published
            training counts them, as repeats of the last action.
        widths, step_size, kernel, groups, film_scale: of the U-Net.
        width, layers, heads, dropout: of the transformer.
    """

    net: str = "unet"
    cameras: tuple[str, ...] = ()
    state_features: tuple[str, ...] = ()
    shared_encoder: bool = False
    crop: tuple[int, ...] = ()
    image_scale: str = "signed"
    trunk: str = "resnet"
    depth: int = 18
    trunk_norm: str = "group"
    trunk_width: int = 64
    pool: str = "keypoints"
    keypoints: int = 32
    image_features: int = 64
    feature_relu: bool = True
    diffusion_steps: int = 100
    prediction: str = "epsilon"
    clip: float = 1.0
    sampler: str = "ddpm"
    inference_steps: int = 16
    mask_padded_actions: bool = False
    widths: tuple[int, ...] = (512, 1024, 2048)
    step_size: int = 128
    kernel: int = 5
    groups: int = 8
    film_scale: bool = True
    width: int = 256
    layers: int = 8
    heads: int = 4
    dropout: float = 0.3

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        check_at_least_one(
            self,
            (
                *("diffusion_steps", "inference_steps", "step_size", "layers", "heads"),
                *("trunk_width", "keypoints", "image_features"),
            ),
        )
        if self.crop and len(self.crop) != 2:
            raise ValueError(f"policy.crop must be (height, width) or (), found {self.crop}")
        if self.sampler == "ddim" and self.inference_steps > self.diffusion_steps:
            raise ValueError(
                f"policy.inference_steps {self.inference_steps} exceeds policy.diffusion_steps "
                f"{self.diffusion_steps}"
            )

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> Self:
        """See `section.from_section`."""
        return from_section(cls, section, "diffusion")


class DiffusionPolicy:
    """Diffusion Policy; see the module."""

    def __init__(self, config: DiffusionConfig, spec: PolicySpec) -> None:
        self.config, self.spec = config, spec
        self.schedule = NoiseSchedule(config.diffusion_steps, config.prediction, config.clip)
        vectors = config.state_features or tuple(f.name for f in spec.observation.features)
        if not vectors and not config.cameras:
            raise ValueError(
                "policy diffusion: no state_features and no cameras: it would be blind"
            )
        spec.observation.select((*vectors, *config.cameras))
        self.observation = DiffusionObservation(
            config.cameras,
            vectors,
            frame_options(config),
            config.shared_encoder,
            config.crop,
            config.image_scale,
        )
        self.net = self._make_net()

    def _make_net(self) -> Unet1d | DiffusionTransformer:
        config, spec = self.config, self.spec
        if config.net == "transformer":
            return DiffusionTransformer(
                spec.action.size,
                spec.horizon,
                spec.window,
                config.width,
                config.layers,
                config.heads,
                config.dropout,
            )
        net = Unet1d(
            spec.action.size,
            config.widths,
            config.step_size,
            config.kernel,
            config.groups,
            config.film_scale,
        )
        if spec.horizon % net.time_multiple:
            raise ValueError(
                f"config.horizon {spec.horizon} must be a multiple of {net.time_multiple} for "
                f"{len(config.widths)} policy.widths"
            )
        return net

    def init(self, rng: Array, batch: Batch) -> Params:
        """Fresh parameters for the shapes of `batch`."""
        encoder_rng, net_rng = jax.random.split(rng)
        condition, encoders = self.observation.init_with_output(encoder_rng, batch["observation"])
        steps = jnp.zeros(len(batch["action"]), jnp.int32)
        net = self.net.init(net_rng, batch["action"], steps, self._joined(condition))
        # Without cameras the observations have no parameters.
        return {"encoders": encoders.get("params", {}), "net": net["params"]}

    def loss(
        self, params: Params, batch: Batch, rng: Array, *, train: bool
    ) -> tuple[Array, Metrics]:
        """Mean squared error of the prediction at one random noise level an example."""
        crop_rng, noise_rng, step_rng, dropout_rng = jax.random.split(rng, 4)
        condition = self._condition(params, batch["observation"], crop_rng if train else None)
        clean = batch["action"]  # [B, H, A]
        noise = jax.random.normal(noise_rng, clean.shape)
        steps = jax.random.randint(step_rng, clean.shape[:1], 0, self.schedule.steps)  # [B]
        noisy = self.schedule.add_noise(clean, noise, steps)
        options: dict[str, Any] = {}
        if self.config.net == "transformer" and train:
            options = {"train": True, "rngs": {"dropout": dropout_rng}}
        predicted: Any = self.net.apply(
            {"params": params["net"]}, noisy, steps, condition, **options
        )
        error = jnp.square(predicted - self.schedule.target(clean, noise, steps))
        if self.config.mask_padded_actions:
            valid = ~batch["action_is_pad"][..., None]  # [B, H, 1]
            count = jnp.maximum(valid.sum() * clean.shape[-1], 1)
            loss = jnp.where(valid, error, 0.0).sum() / count
        else:
            loss = error.mean()
        return loss, {"loss": loss}

    def act(self, params: Params, observation: Mapping[str, Array], rng: Array) -> Array:
        """A chunk of normalised actions [B, H, A] for observations [B, W, ...]; one scan."""
        condition = self._condition(params, observation, None)
        start_rng, noise_rng = jax.random.split(rng)
        shape = (condition.shape[0], self.spec.horizon, self.spec.action.size)
        start = jax.random.normal(start_rng, shape)
        schedule, is_ddim = self.schedule, self.config.sampler == "ddim"
        visited = np.arange(schedule.steps, dtype=np.int32)
        if is_ddim:
            visited = ddim_steps(schedule.steps, self.config.inference_steps)
        rows = np.zeros(schedule.steps, np.int32)
        rows[visited] = np.arange(len(visited))
        # What the levels and the observation say to the net is the same for every noisy chunk.
        net = {"params": params["net"]}
        prepared: Any = self.net.apply(net, jnp.asarray(visited), condition, method="prepare")
        levels, seen = prepared

        def predict(noisy: Array, level: Array) -> Array:
            at = jax.tree.map(lambda table: table[jnp.asarray(rows)[level]], levels)
            predicted: Any = self.net.apply(net, noisy, at, seen, method="denoise")
            return predicted

        if is_ddim:
            return sample_ddim(schedule, predict, start, self.config.inference_steps)
        noises = jax.random.normal(noise_rng, (schedule.steps, *shape))
        return sample_ddpm(schedule, predict, start, noises)

    def _condition(
        self, params: Params, observation: Mapping[str, Array], crop_rng: Array | None
    ) -> Array:
        """What the net sees of W observations: [B, W * C] for the U-Net, else [B, W, C]."""
        encoders = {"params": params["encoders"]}
        seen: Any = self.observation.apply(encoders, observation, crop_rng)
        return self._joined(seen)

    def _joined(self, seen: Array) -> Array:
        return seen if self.config.net == "transformer" else seen.reshape(len(seen), -1)
