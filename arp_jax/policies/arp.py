"""ARP (Zhang et al. 2024): observations in, a coarse plan and a chunk of actions out.

An observation encoder gives context tokens; the chunk transformer predicts plan points and actions
chunk by chunk, starting from the tool's recent positions. `arp_config.py` holds the options and the
sequence layout. Units, normalisation and what happens between two `act` calls are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.generate import generate
from arp_jax.models.observation_encoder import (
    ImageEncoder,
    StateEncoder,
    crop_images,
    scale_images,
)
from arp_jax.models.sampling import Sampling
from arp_jax.policies import arp_config
from arp_jax.policies.arp_config import OBSERVATION, PLAN, ArpPolicyConfig, published_push_t
from arp_jax.policies.base import Batch, Metrics, Params
from arp_jax.policies.plan_labels import gaussian_heatmaps, plan_from_actions, plan_to_pixels
from arp_jax.specs import PolicySpec

__all__ = ["ArpPolicy", "ArpPolicyConfig", "published_push_t"]

Observation = Mapping[str, Array]


class ArpPolicy:
    """The `Policy` of ARP for point-like actions (see `policies.base.Policy`).

    Attributes:
        config: options.
        spec: what the policy sees and commands.
        schedule: static token layout, prompts | plan points | actions.
        encoder, transformer: the linen modules; their parameters are `params["encoder"]` and
            `params["transformer"]`.
    """

    def __init__(self, config: ArpPolicyConfig, spec: PolicySpec) -> None:
        """Checks the options against the spec; raises ValueError naming what does not fit."""
        self.config = config
        self.spec = spec
        self.schedule = arp_config.schedule(config, spec)
        self.encoder = self._make_encoder()
        self.transformer = ChunkTransformer(
            arp_config.transformer_config(config, spec),
            dtype=self._dtype,
        )
        self._width = self.transformer.config.width
        self._sampling = Sampling(config.sample, config.temperature, config.mixture)

    @property
    def _dtype(self) -> jnp.dtype:
        return jnp.dtype(self.config.compute_dtype)

    def _make_encoder(self) -> nn.Module:
        config, observation = self.config, self.spec.observation
        if config.encoder == "image":
            observation.select([config.camera])
            return ImageEncoder(embed_dim=config.embed_dim, dtype=self._dtype)
        self._state_features = config.state_features or tuple(
            feature.name for feature in observation.features
        )
        size = sum(observation.feature(name).size for name in self._state_features)
        rows = self.spec.window * (size // 2 if config.state_tokens == "points" else 1)
        return StateEncoder(
            rows=rows,
            embed_dim=config.embed_dim,
            hidden=config.state_hidden,
            tokens=config.state_tokens,
            dtype=self._dtype,
        )

    def init(self, rng: Array, batch: Batch) -> Params:
        """Fresh parameters for the shapes of `batch`."""
        encoder_rng, transformer_rng = jax.random.split(rng)
        inputs = self._encoder_input(batch["observation"], None)
        encoder = self.encoder.init(encoder_rng, inputs)["params"]
        transformer = self.transformer.init_params(transformer_rng)
        return {"encoder": encoder, "transformer": transformer}

    def loss(
        self, params: Params, batch: Batch, rng: Array, *, train: bool
    ) -> tuple[Array, Metrics]:
        """Sum of the heads' losses; the metrics hold each of them and the total.

        With `train`, frames are cropped at random and dropout is on; otherwise `rng` is unused.
        """
        crop_rng, dropout_rng = jax.random.split(rng)
        context = self._encode(params, batch["observation"], crop_rng if train else None)
        values, labels = self._sequence(batch)
        entries: Any = self.transformer.apply(
            {"params": params["transformer"]},
            values,
            self.schedule,
            {OBSERVATION: context},
            valid=self._valid(batch),
            labels=labels,
            train=train,
            method="losses",
            rngs={"dropout": dropout_rng} if train else {},
        )
        total = jnp.sum(jnp.stack(list(entries.values())))
        return total, {"loss": total, **entries}

    def act(self, params: Params, observation: Observation, rng: Array) -> Array:
        """A chunk of normalised actions [B, H, A] for observations [B, W, ...]."""
        return self.act_with_plan(params, observation, rng)[0]

    def act_with_plan(
        self, params: Params, observation: Observation, rng: Array
    ) -> tuple[Array, Array]:
        """Actions [B, H, A] and the plan that led to them, both normalised.

        The plan is [B, plan_points, A] in time order (pixel centres for the heat-map head), for
        drawing and for checking; executing it is not needed.
        """
        context = self._encode(params, observation, None)
        values = generate(
            self.transformer,
            params["transformer"],
            self._prompt(observation),
            self.schedule,
            {OBSERVATION: context},
            rng,
            self._sampling,
        )
        prompts, points, _ = arp_config.token_counts(self.config, self.spec)
        horizon, dims = self.spec.horizon, self.spec.action.size
        plan = values[:, prompts : prompts + points, :dims][:, ::-1]
        if self.config.plan_head == "heatmap":
            half = self.config.heatmap_size / 2
            plan = (plan - half) / half
        actions = values[:, prompts + points :, : 1 if self.config.action_bins else dims]
        return actions.reshape(-1, horizon, dims), plan

    def log_prob(self, params: Params, batch: Batch) -> dict[str, Array]:
        """Log-likelihood of the recorded plan and actions, {token type: float32 [B, N]}.

        As in evaluation: frames cropped in the centre, no dropout. Each token is scored given all
        earlier chunks of the *recorded* sequence. Gaussians give nats of density per normalised
        unit, heat-maps and bins nats of probability (of the pixel or bin that was recorded).
        """
        context = self._encode(params, batch["observation"], None)
        values, _ = self._sequence(batch)  # soft labels are for training
        each: Any = self.transformer.apply(
            {"params": params["transformer"]},
            values,
            self.schedule,
            {OBSERVATION: context},
            method="log_prob",
        )
        types = self.transformer.config.tokens
        return {t.name: each[:, self._positions(t.name)] for t in types if not t.is_control}

    def scored_tokens(self, batch: Batch) -> dict[str, Array]:
        """Which tokens of `log_prob` stand for recorded actions only, {token type: bool [B, N]}.

        False for actions outside the episode, and for plan points interpolated from one.
        """
        pad = batch["action_is_pad"]  # [B, H]
        parts = {t.name: ~pad for t in self.transformer.config.tokens if not t.is_control}
        if self.config.plan_points:
            shares = plan_from_actions(
                pad[..., None].astype(jnp.float32), self.config.plan_points
            )  # [B, plan_points, 1]
            parts[PLAN] = shares[..., 0] == 0
        return parts

    def _positions(self, name: str) -> np.ndarray:
        """Places of a token type in the sequence."""
        token_id = self.transformer.config.token_id(name)
        return np.asarray(self.schedule.positions_of(token_id))

    def _prompt(self, observation: Observation) -> Array:
        """The first tokens [B, prompts, D], none without a prompt feature."""
        if self.config.prompt_feature:
            return observation[self.config.prompt_feature]
        batch = next(iter(observation.values())).shape[0]
        return jnp.zeros((batch, 0, self._width), jnp.float32)

    def _encode(self, params: Params, observation: Observation, crop_rng: Array | None) -> Array:
        """Context tokens [B, N, D] that the transformer attends to."""
        inputs = self._encoder_input(observation, crop_rng)
        context: Any = self.encoder.apply({"params": params["encoder"]}, inputs)
        return context

    def _encoder_input(self, observation: Observation, crop_rng: Array | None) -> Array:
        """Cropped and scaled images [B, W, h, w, 3], or concatenated features [B, W, S]."""
        if self.config.encoder == "image":
            images = observation[self.config.camera]
            return scale_images(crop_images(images, self.config.crop, crop_rng))
        return jnp.concatenate([observation[name] for name in self._state_features], axis=-1)

    def _sequence(self, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """Token values [B, L, D], and the labels that are not simply those values."""
        config = self.config
        parts, labels = [self._prompt(batch["observation"])], {}
        if config.plan_points:
            plan = plan_from_actions(batch["action"], config.plan_points)
            if config.plan_head == "heatmap":
                size = config.heatmap_size
                plan = plan_to_pixels(plan, size)
                labels[PLAN] = gaussian_heatmaps(plan, size, size, config.heatmap_sigma)
            parts.append(plan)
        action = batch["action"]
        parts.append(action.reshape(action.shape[0], -1, 1) if config.action_bins else action)
        return jnp.concatenate([self._pad(part) for part in parts], axis=1), labels

    def _pad(self, values: Array) -> Array:
        return jnp.pad(values, ((0, 0), (0, 0), (0, self._width - values.shape[-1])))

    def _valid(self, batch: Batch) -> Array | None:
        """Tokens [B, L] that count in the loss, or None when all do."""
        if not self.config.mask_padded_actions:
            return None
        is_pad = batch["action_is_pad"]  # [B, H]
        if self.config.action_bins:
            is_pad = jnp.repeat(is_pad, self.spec.action.size, axis=1)
        given = self.schedule.length - is_pad.shape[1]
        return jnp.pad(~is_pad, ((0, 0), (given, 0)), constant_values=True)
