"""ARP on two-armed tasks (Zhang et al. 2024, ALOHA): one camera and the joints in, actions out.

A frozen-norm ResNet and a post-norm encoder give context tokens; the chunk transformer predicts a
whole chunk of actions in one pass and, in training only, the pixels that both grippers will pass.
`arp_aloha_config.py` holds the options and the layouts. Units, normalisation of state and action,
and what happens between two `act` calls are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.generate import generate
from arp_jax.models.heatmap_head import updated_statistics
from arp_jax.models.sampling import Sampling
from arp_jax.models.state_image_encoder import StateImageEncoder, cells
from arp_jax.policies import arp_aloha_config
from arp_jax.policies.arp_aloha_config import (
    FEATURE_MAP,
    GUIDES,
    STRIDE,
    TOKENS,
    AlohaArpConfig,
    published_aloha,
    published_aloha_spec,
)
from arp_jax.policies.base import Batch, Metrics, Params
from arp_jax.policies.guide_labels import guide_points_from_tracks
from arp_jax.policies.plan_labels import gaussian_heatmaps
from arp_jax.specs import PolicySpec

__all__ = ["AlohaArpConfig", "AlohaArpPolicy", "published_aloha", "published_aloha_spec"]

Observation = Mapping[str, Array]

# Published normalisation divides by std + this.
STD_EPSILON = 1e-8


class AlohaArpPolicy:
    """The `Policy` of ARP for ALOHA-like robots (see `policies.base.Policy`).

    Observations: uint8 images [B, 1, h, w, 3] of one camera and normalised states [B, 1, S].

    The parameters are {"encoder", "transformer", "statistics"}. `statistics` never gets a gradient:
    "image" {mean, std} [3] normalises images in [0, 1], and each guide token type has the running
    batch-norm statistics of its head. The published training updates those in every loss call but
    never uses them (losses take the batch's own, guide points are not generated when acting); here
    `loss` leaves them alone and `update_statistics` does one such update.

    Attributes:
        config: options.
        spec: what the policy sees and commands.
        schedule: layout of a training sequence; `action_schedule`: its part used for acting.
        encoder, transformer: the linen modules.
    """

    def __init__(self, config: AlohaArpConfig, spec: PolicySpec) -> None:
        """Checks the options against the spec; raises ValueError naming what does not fit."""
        self.config = config
        self.spec = spec
        camera = arp_aloha_config.check_spec(config, spec)
        self._map_height = -(-camera.height // STRIDE)
        self._heatmap_size = (
            camera.height // config.guide_downsample,
            camera.width // config.guide_downsample,
        )
        self.schedule = arp_aloha_config.training_schedule(config, spec)
        self.action_schedule = arp_aloha_config.action_schedule(config, spec)
        dtype = jnp.dtype(config.compute_dtype)
        self.encoder = StateImageEncoder(
            embed_dim=config.embed_dim,
            layers=config.encoder_layers,
            heads=config.heads,
            hidden=config.encoder_hidden,
            dropout=config.dropout,
            dtype=dtype,
        )
        self.transformer = ChunkTransformer(
            arp_aloha_config.transformer_config(config, spec),
            dtype=dtype,
        )
        self._sampling = Sampling(config.sample, config.temperature, config.mixture)

    @property
    def labels_are_pixels(self) -> bool:
        """Whether the loss is about places in the camera's picture, which must then not move."""
        return self.config.guide_points > 0

    def init(self, rng: Array, batch: Batch) -> Params:
        """Fresh parameters for the shapes of `batch`; the trunk starts from random weights."""
        encoder_rng, transformer_rng = jax.random.split(rng)
        statistics = self.initial_statistics()
        observation = batch["observation"]
        inputs = self._images(statistics, observation), self._state(observation)
        return {
            "encoder": self.encoder.init(encoder_rng, *inputs)["params"],
            "transformer": self.transformer.init_params(transformer_rng),
            "statistics": statistics,
        }

    def initial_statistics(self) -> dict[str, Any]:
        """`params["statistics"]` of an untrained policy: the config's image statistics, N(0, 1)."""
        image = {"mean": self.config.image_mean, "std": self.config.image_std}
        found: dict[str, Any] = {
            "image": {name: jnp.asarray(v, jnp.float32) for name, v in image.items()}
        }
        size = (self.config.guide_corr_dim,)
        for name in GUIDES if self.config.guide_points else ():
            found[name] = {
                f"norm_{j}": {"mean": jnp.zeros(size), "var": jnp.ones(size)} for j in range(3)
            }
        return found

    def loss(
        self, params: Params, batch: Batch, rng: Array, *, train: bool
    ) -> tuple[Array, Metrics]:
        """Mean of the heads' losses; the metrics hold each of them and the total.

        With `train`, dropout is on; otherwise `rng` is unused. The guide heads normalise by the
        statistics of this batch either way, as published.
        """
        encoder_rng, transformer_rng = jax.random.split(rng)
        context = self._contexts(params, batch["observation"], encoder_rng if train else None)
        values, labels = self._sequence(batch)
        entries: Any = self.transformer.apply(
            {"params": params["transformer"]},
            values,
            self.schedule,
            context,
            valid=self._valid(batch["action_is_pad"]),
            labels=labels,
            train=train,
            method="losses",
            rngs={"dropout": transformer_rng} if train else {},
        )
        total = jnp.mean(jnp.stack(list(entries.values())))
        return total, {"loss": total, **entries}

    def act(self, params: Params, observation: Observation, rng: Array) -> Array:
        """A chunk of normalised actions [B, H, A] for observations [B, 1, ...]."""
        values = generate(
            self.transformer,
            params["transformer"],
            self._state(observation)[:, None],
            self.action_schedule,
            self._contexts(params, observation, None),
            rng,
            self._sampling,
        )
        return values[:, 1:, : self.spec.action.size]

    def log_prob(self, params: Params, batch: Batch) -> dict[str, Array]:
        """Log-likelihood of every token of `batch`, by token type: float32 [B, N], eval mode.

        Actions beyond the episode's end are scored like the others. The guide heads' entries depend
        on the whole batch, through its statistics.
        """
        values, labels = self._sequence(batch)
        found: Any = self.transformer.apply(
            {"params": params["transformer"]},
            values,
            self.schedule,
            self._contexts(params, batch["observation"], None),
            labels=labels,
            method="log_prob",
        )
        config = self.transformer.config
        return {
            token.name: found[:, jnp.asarray(self.schedule.positions_of(i))]
            for i, token in enumerate(config.tokens)
            if not token.is_control
        }

    def update_statistics(self, params: Params, batch: Batch) -> Params:
        """`params` with the guide heads' running statistics moved a tenth towards this batch's.

        Only needed to hand a trained policy to code that generates guide points; eval mode.
        """
        values, labels = self._sequence(batch)
        traced: Any = self.transformer.apply(
            {"params": params["transformer"]},
            values,
            self.schedule,
            self._contexts(params, batch["observation"], None),
            valid=self._valid(batch["action_is_pad"]),
            labels=labels,
            every_row=False,
            method="trace",
        )
        found, running = traced["batch_statistics"], params["statistics"]
        moved = {name: updated_statistics(running[name], found[name]) for name in found}
        return {**params, "statistics": {**running, **moved}}

    def _contexts(
        self, params: Params, observation: Observation, rng: Array | None
    ) -> dict[str, Array]:
        """All tokens [B, 1 + h w, C] and the image tokens as a map [B, h, w, C]."""
        images, state = self._images(params["statistics"], observation), self._state(observation)
        train = rng is not None
        tokens: Any = self.encoder.apply(
            {"params": params["encoder"]},
            images,
            state,
            train=train,
            rngs={"dropout": rng} if rng is not None else {},
        )
        return {TOKENS: tokens, FEATURE_MAP: cells(tokens, self._map_height)}

    def _images(self, statistics: Mapping[str, Any], observation: Observation) -> Array:
        """uint8 [B, 1, h, w, 3] -> float32, normalised per channel."""
        image = jax.lax.stop_gradient(statistics["image"])
        scaled = observation[self.config.camera].astype(jnp.float32) / 255.0
        return (scaled - image["mean"]) / (image["std"] + STD_EPSILON)

    def _state(self, observation: Observation) -> Array:
        """The robot's normalised state [B, S]."""
        return observation[self.config.state_feature][:, -1]

    def _sequence(self, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """Token values [B, L, D], and the label maps of the guide tokens [B, N, H, W]."""
        parts, labels = [self._state(batch["observation"])[:, None], batch["action"]], {}
        for name, key in zip(GUIDES, self.config.guide_tracks, strict=True):
            if not self.config.guide_points:
                break
            tracks = self._tracks(batch, key) / self.config.guide_downsample
            is_pad = batch["action_is_pad"]
            points = guide_points_from_tracks(tracks, is_pad, self.config.guide_points)
            labels[name] = gaussian_heatmaps(points, *self._heatmap_size, self.config.guide_sigma)
            parts.append(points)
        width = max(part.shape[-1] for part in parts)
        padded = [jnp.pad(p, ((0, 0), (0, 0), (0, width - p.shape[-1]))) for p in parts]
        return jnp.concatenate(padded, axis=1), labels

    def _tracks(self, batch: Batch, key: str) -> Array:
        """One gripper's pixels [B, H, 2]."""
        found = {**batch["observation"], **batch.get("task", {})}
        expected = (*batch["action"].shape[:2], 2)
        if key not in found:
            raise ValueError(
                f"batch has no gripper track {key!r} (policy.guide_tracks) in task or observation; "
                "add it to the data or set policy.guide_points to 0"
            )
        if found[key].shape != expected:
            raise ValueError(
                f"gripper track {key!r} has shape {found[key].shape}, expected {expected}: one "
                "pixel (x, y) per action"
            )
        return found[key]

    def _valid(self, is_pad: Array) -> Array:
        """Tokens [B, L] that count in the loss."""
        before = 0 if self.config.published_padding else 1
        after = self.schedule.length - is_pad.shape[1] - before
        return jnp.pad(~is_pad, ((0, 0), (before, after)), constant_values=True)
