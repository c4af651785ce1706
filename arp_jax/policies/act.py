"""ACT: action chunking with transformers, a conditional variational autoencoder.

Training encodes state and recorded chunk into a style, decodes the chunk from style, state and
camera images, and pays for what the style knows. Acting takes the mean style (or codes drawn from
a prior). Chunks are executed whole or blended by temporal ensembling: that is
`control/execution.py`, not this file.

Zhao et al. 2023, "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware"; variants of
Mobile ALOHA (Fu et al. 2024): codes instead of a Gaussian, one backbone a camera, base actions as
two more dimensions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array

from arp_jax.models.act_net import ActNet
from arp_jax.models.latent_prior import LatentPrior, code_loss, sample_codes, shifted
from arp_jax.models.resnet import NORMS, STAGE_BLOCKS
from arp_jax.models.trunks import IMAGENET_MEAN, IMAGENET_STD, TRUNKS
from arp_jax.policies.act_style import code_probabilities, code_style, draw_codes, gaussian_style
from arp_jax.policies.base import Batch, Metrics, Params
from arp_jax.policies.section import check_at_least_one, check_choices, check_width, from_section
from arp_jax.specs import PolicySpec

Observation = Mapping[str, Array]

_CHOICES: dict[str, tuple[Any, ...]] = {
    "latent": ("gaussian", "codes", "none"),
    "decoder_output": ("first", "last"),
    "trunk": TRUNKS,
    "trunk_norm": tuple(NORMS),
    "depth": tuple(STAGE_BLOCKS),
    "compute_dtype": ("float32", "bfloat16"),
}


@dataclasses.dataclass(frozen=True)
class ActConfig:
    """Static options of `ActPolicy`; the defaults are the published sizes, repaired.

    Attributes:
        cameras: images that are seen; () needs `token_features`.
        state_feature: the robot's own state, a token of its own; "" is the first feature.
        token_features: further vectors, one token each (object poses, key points).
        latent: "gaussian", "codes" (with a learnt prior) or "none" (no style encoder).
        latent_dim: Z, size of a Gaussian style.
        code_classes, code_values: codes in a style, and values of each.
        prior_layers, prior_dim, prior_heads: size of the prior over codes.
        prior_temperature: of the draws when acting; 0 takes the likeliest code.
        kl_weight: of the Gaussian's divergence.
        decoder_layers: layers of the decoder.
        decoder_output: layer whose output is used. Published checkpoints have 7 layers and use
            the "first"; those behind it never learn anything. New policies take the "last".
        shared_trunk: one image trunk for all cameras (ACT) or one each (ACT++).
        trunk: kind of trunk, of `models.trunks.TRUNKS`.
        depth, trunk_norm, trunk_width: of the trunks; "frozen_batch" wants imported weights.
        pre_norm: normalise the inputs of sublayers instead of their sums.
        embed_dim, heads, hidden, style_layers, encoder_layers, dropout: of the transformers.
        compute_dtype: of trunk, encoder and decoder; parameters and losses stay float32.
    """

    cameras: tuple[str, ...] = ()
    state_feature: str = ""
    token_features: tuple[str, ...] = ()
    latent: str = "gaussian"
    latent_dim: int = 32
    code_classes: int = 32
    code_values: int = 32
    prior_layers: int = 3
    prior_dim: int = 256
    prior_heads: int = 8
    prior_temperature: float = 1.0
    kl_weight: float = 10.0
    decoder_layers: int = 1
    decoder_output: str = "last"
    shared_trunk: bool = True
    trunk: str = "resnet"
    depth: int = 18
    trunk_norm: str = "group"
    trunk_width: int = 64
    pre_norm: bool = False
    embed_dim: int = 512
    heads: int = 8
    hidden: int = 3200
    style_layers: int = 4
    encoder_layers: int = 4
    dropout: float = 0.1
    compute_dtype: str = "float32"

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        check_at_least_one(self, ("latent_dim", "decoder_layers", "style_layers", "code_values"))
        check_width(self.embed_dim, self.heads)

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> Self:
        """See `section.from_section`."""
        return from_section(cls, section, "act")


class ActPolicy:
    """ACT; see the module. Observations are of one time step, [B, 1, ...]."""

    def __init__(self, config: ActConfig, spec: PolicySpec) -> None:
        """Checks the options against the spec; raises ValueError naming what does not fit."""
        if spec.window != 1:
            raise ValueError(
                f"policy act sees one time step: set config.window 1, not {spec.window}"
            )
        if not config.cameras and not config.token_features:
            raise ValueError(
                "policy.cameras and policy.token_features are empty: act sees no scene"
            )
        if config.trunk_norm == "group" and config.cameras and config.trunk_width < 16:
            raise ValueError("policy.trunk_width must be at least 16 with group norm")
        self.config, self.spec = config, spec
        names = [f.name for f in spec.observation.features]
        self.state_feature = config.state_feature or (names[0] if names else "")
        spec.observation.select((self.state_feature, *config.token_features, *config.cameras))
        codes = config.code_classes * config.code_values
        outputs = {"gaussian": 2 * config.latent_dim, "codes": codes, "none": 0}[config.latent]
        self.net = ActNet(
            action_dim=spec.action.size,
            horizon=spec.horizon,
            style_inputs=codes if config.latent == "codes" else config.latent_dim,
            style_outputs=outputs,
            cameras=len(config.cameras),
            tokens=len(config.token_features),
            shared_trunk=config.shared_trunk,
            trunk=config.trunk,
            depth=config.depth,
            trunk_norm=config.trunk_norm,
            trunk_width=config.trunk_width,
            embed_dim=config.embed_dim,
            heads=config.heads,
            hidden=config.hidden,
            style_layers=config.style_layers,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            read_layer=0 if config.decoder_output == "first" else -1,
            dropout=config.dropout,
            pre_norm=config.pre_norm,
            dtype=jnp.dtype(config.compute_dtype),
        )
        self.prior = LatentPrior(
            config.code_classes,
            config.code_values,
            config.prior_dim,
            config.prior_heads,
            config.prior_layers,
            config.dropout,
        )

    def init(self, rng: Array, batch: Batch) -> Params:
        """Fresh parameters {"net"} and, with codes, {"prior"}."""
        net_rng, prior_rng = jax.random.split(rng)
        state, images, vectors = self._inputs(batch["observation"])
        inputs = (state, images, vectors, batch["action"], batch["action_is_pad"])
        params: Params = {"net": self.net.init(net_rng, *inputs)["params"]}
        if self.config.latent == "codes":
            codes = jnp.zeros((1, self.config.code_classes, self.config.code_values))
            params["prior"] = self.prior.init(prior_rng, codes)["params"]
        return params

    def loss(
        self, params: Params, batch: Batch, rng: Array, *, train: bool
    ) -> tuple[Array, Metrics]:
        """L1 of the actions and what the style costs; both in the metrics.

        As published, the mean of the L1 counts actions behind the episode's end as zeros.
        """
        style_rng, *dropout_rngs = jax.random.split(rng, 4)
        style, cost, metrics = self._style(params, batch, style_rng, dropout_rngs, train)
        actions, _ = self.decode(
            params, style, batch["observation"], dropout_rngs[2] if train else None
        )
        l1 = action_l1(actions, batch["action"], batch["action_is_pad"])
        total = l1 + cost
        return total, {"loss": total, "l1": l1, **metrics}

    def act(self, params: Params, observation: Observation, rng: Array) -> Array:
        """A chunk of normalised actions [B, H, A] for observations [B, 1, ...]."""
        batch = observation[self.state_feature].shape[0]
        if self.config.latent == "codes":
            temperature = self.config.prior_temperature
            codes = sample_codes(
                *(self.prior, params["prior"], rng, batch),
                temperature=temperature or 1.0,
                greedy=temperature == 0,
            )
            style = codes.reshape(batch, -1)
        else:
            style = jnp.zeros((batch, self.config.latent_dim))
        return self.decode(params, style, observation)[0]

    def encode_style(self, params: Params, batch: Batch, dropout_rng: Array | None = None) -> Array:
        """What the style encoder says about recorded chunks, [B, outputs]."""
        state, _, _ = self._inputs(batch["observation"], images=False)
        said: Any = self.net.apply(
            {"params": params["net"]},
            *(state, batch["action"], batch["action_is_pad"], dropout_rng is not None),
            method="encode_style",
            rngs={} if dropout_rng is None else {"dropout": dropout_rng},
        )
        return said

    def decode(
        self,
        params: Params,
        style: Array,
        observation: Observation,
        dropout_rng: Array | None = None,
    ) -> tuple[Array, Array]:
        """Actions [B, H, A] of a style, and logits [B, H, 1] of lying behind the episode's end."""
        state, images, vectors = self._inputs(observation)
        decoded: Any = self.net.apply(
            {"params": params["net"]},
            *(style, state, images, vectors, dropout_rng is not None),
            method="decode",
            rngs={} if dropout_rng is None else {"dropout": dropout_rng},
        )
        return decoded

    def _style(
        self, params: Params, batch: Batch, rng: Array, dropout_rngs: list[Array], train: bool
    ) -> tuple[Array, Array | float, Metrics]:
        """The latent of each chunk [B, Z], its cost, and what to report."""
        config, size = self.config, len(batch["action"])
        if config.latent == "none":
            return jnp.zeros((size, config.latent_dim)), 0.0, {}
        said = self.encode_style(params, batch, dropout_rngs[0] if train else None)
        if config.latent == "gaussian":
            noise = jax.random.normal(rng, (size, config.latent_dim))
            style, divergence = gaussian_style(said, noise)
            return style, config.kl_weight * divergence, {"kl": divergence}
        probabilities = code_probabilities(said, config.code_classes)
        codes = jax.lax.stop_gradient(draw_codes(rng, probabilities))
        style, discrepancy = code_style(probabilities, codes)
        logits: Any = self.prior.apply(
            {"params": params["prior"]},
            *(shifted(codes), train),
            rngs={"dropout": dropout_rngs[1]} if train else {},
        )
        # The prior learns beside the policy; no gradient of its loss reaches the style encoder.
        prior_loss = code_loss(logits, codes)
        return style, prior_loss, {"prior": prior_loss, "discrepancy": discrepancy}

    def _inputs(
        self, observation: Observation, images: bool = True
    ) -> tuple[Array, Array | None, tuple[Array, ...]]:
        """State [B, S], ImageNet-normalised images [B, V, h, w, 3] or None, token vectors."""
        vectors = tuple(observation[name][:, -1] for name in self.config.token_features)
        stacked = None
        if self.config.cameras and images:
            raw = jnp.stack([observation[name][:, -1] for name in self.config.cameras], axis=1)
            stacked = (raw.astype(jnp.float32) / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
        return observation[self.state_feature][:, -1], stacked, vectors


def action_l1(predicted: Array, recorded: Array, is_pad: Array) -> Array:
    """Mean |error| over [B, H, A], errors of padded actions counted as zero."""
    error = jnp.abs(predicted - recorded)
    return jnp.where(is_pad[..., None], 0.0, error).mean()
