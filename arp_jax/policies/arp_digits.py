"""ARP as a pen: a class of digit in, the list of lit pixels of one small image out.

The pixel-sequence demonstration of ARP (Zhang et al. 2024): an image is the list of its lit pixels
in raster order, and each of their coordinates is one token, predicted from all earlier ones. What
turns an image into that list, with the last pixel repeated to the end, is `arp_jax.data.digits`.
Coordinates and classes arrive normalised by their limits, as every policy's numbers do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array

from arp_jax.models.arp_config import ArpConfig
from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.chunk_transformer import ChunkTransformer, LayerConfig
from arp_jax.models.generate import generate
from arp_jax.models.sampling import Sampling
from arp_jax.models.tokens import TokenType
from arp_jax.policies.base import Batch, Metrics, Params
from arp_jax.policies.section import check_at_least_one, check_positive, from_section
from arp_jax.specs import ActionSpec, FeatureSpec, PolicySpec

START, ROW, COLUMN = "control", "h", "w"
CLASS = "class-embedding"

Observation = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class DigitsArpConfig:
    """Static options of `DigitsArpPolicy`; the defaults are the published demonstration's.

    Attributes:
        class_feature: observation that holds the class, one number.
        layers, embed_dim, heads, mlp_ratio, dropout: size of the transformer.
        temperature: of the draws; 1 samples from the learned distribution.
    """

    class_feature: str = "digit"
    layers: int = 4
    embed_dim: int = 64
    heads: int = 4
    mlp_ratio: float = 4.0
    dropout: float = 0.1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_at_least_one(self, ("layers", "embed_dim", "heads"))
        if self.embed_dim % self.heads:
            raise ValueError(
                f"policy.embed_dim {self.embed_dim} must be a multiple of policy.heads {self.heads}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"policy.dropout must be in [0, 1), found {self.dropout}")
        check_positive(self, ("temperature",))

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> Self:
        """Builds the options from plain values; raises ValueError naming an unknown key."""
        return from_section(cls, section, "arp_digits")


class DigitsArpPolicy:
    """The `Policy` that draws pixel lists (see `policies.base.Policy`).

    The window is one observation, the class; the horizon N is the number of pixels of a list.

    Attributes:
        config: options.
        spec: what the policy sees and commands.
        schedule: control | row, column | row, column | ... with one token a chunk.
        transformer: the linen module; its parameters are `params["transformer"]`. The classes'
            condition tokens are the table `params["class_table"]` [classes, C].
    """

    def __init__(self, config: DigitsArpConfig, spec: PolicySpec) -> None:
        """Checks the options against the spec; raises ValueError naming what does not fit."""
        if spec.window != 1 or spec.action_offset != 0:
            raise ValueError(
                "arp_digits needs config.window 1 and config.action_offset 0, found "
                f"{spec.window} and {spec.action_offset}"
            )
        self.config = config
        self.spec = spec
        self.size = _grid_size(spec.action)
        self.classes = _number_of_classes(spec.observation.feature(config.class_feature))
        pixels = spec.horizon
        self.schedule = ChunkSchedule(
            token_ids=(0, *((1, 2) * pixels)), chunk_ids=tuple(range(2 * pixels + 1))
        )
        self.transformer = ChunkTransformer(_transformer_config(config, self.size, pixels))

    def init(self, rng: Array, batch: Batch) -> Params:
        """Fresh parameters; `batch` is not needed, the spec says everything."""
        table_rng, transformer_rng = jax.random.split(rng)
        return {
            "class_table": jax.random.normal(table_rng, (self.classes, self.config.embed_dim)),
            "transformer": self.transformer.init_params(transformer_rng),
        }

    def loss(
        self, params: Params, batch: Batch, rng: Array, *, train: bool
    ) -> tuple[Array, Metrics]:
        """Cross-entropy of rows plus that of columns, each a mean over the N pixels.

        The metrics add `nats_per_image`, the negative log-likelihood of a whole list, N times the
        loss. With `train`, dropout is on; otherwise `rng` is unused.
        """
        entries: Any = self.transformer.apply(
            {"params": params["transformer"]},
            self._values(batch["action"]),
            self.schedule,
            self._contexts(params, batch["observation"]),
            train=train,
            method="losses",
            rngs={"dropout": rng} if train else {},
        )
        total = jnp.sum(jnp.stack(list(entries.values())))
        return total, {"loss": total, "nats_per_image": self.spec.horizon * total, **entries}

    def log_prob(self, params: Params, batch: Batch) -> dict[str, Array]:
        """Log-likelihood of every token: {"h": float32 [B, N], "w": float32 [B, N]}.

        The nats of an image are minus the sum of both. The repeats of the last pixel count: with
        them the list says where the image ends.
        """
        each: Any = self.transformer.apply(
            {"params": params["transformer"]},
            self._values(batch["action"]),
            self.schedule,
            self._contexts(params, batch["observation"]),
            method="log_prob",
        )
        return {ROW: each[:, 1::2], COLUMN: each[:, 2::2]}

    def act(self, params: Params, observation: Observation, rng: Array) -> Array:
        """Draws one pixel list per observation: normalised coordinates [B, N, 2]."""
        classes = observation[self.config.class_feature]
        values = generate(
            self.transformer,
            params["transformer"],
            jnp.zeros((classes.shape[0], 1, 1), jnp.float32),
            self.schedule,
            self._contexts(params, observation),
            rng,
            Sampling(sample=True, temperature=self.config.temperature),
        )
        pixels = values[:, 1:, 0].reshape(-1, self.spec.horizon, 2)
        return 2.0 * pixels / (jnp.asarray(self.size, jnp.float32) - 1.0) - 1.0

    def _values(self, action: Array) -> Array:
        """Normalised coordinates [B, N, 2] -> token values [B, 1 + 2 N, 1], the control token 0."""
        highest = jnp.asarray(self.size, jnp.float32) - 1.0
        pixels = jnp.clip(jnp.round((action + 1.0) / 2.0 * highest), 0.0, highest)
        return jnp.pad(pixels.reshape(action.shape[0], -1, 1), ((0, 0), (1, 0), (0, 0)))

    def _contexts(self, params: Params, observation: Observation) -> dict[str, Array]:
        """The condition token [B, 1, C]: the class's row of the table."""
        highest = self.classes - 1
        classes = observation[self.config.class_feature][:, 0, 0]  # [B]
        rows = jnp.clip(jnp.round((classes + 1.0) / 2.0 * highest), 0, highest).astype(jnp.int32)
        return {CLASS: jnp.take(params["class_table"], rows, axis=0)[:, None]}


def _grid_size(action: ActionSpec) -> tuple[int, int]:
    """Rows and columns of the image, from the limits of the action."""
    if action.size != 2 or any(low != 0 for low in action.low):
        raise ValueError(
            f"arp_digits draws pixels (row, column) from 0; the action is {action.dims} from "
            f"{action.low}"
        )
    return int(action.high[0]) + 1, int(action.high[1]) + 1


def _number_of_classes(feature: FeatureSpec) -> int:
    if feature.size != 1 or feature.low != (0.0,) or feature.high is None:
        raise ValueError(
            f"arp_digits: observation {feature.name!r} must be one class number with limits "
            f"0 .. K-1, found {feature.size} numbers, {feature.low} .. {feature.high}"
        )
    return int(feature.high[0]) + 1


def _transformer_config(config: DigitsArpConfig, size: tuple[int, int], pixels: int) -> ArpConfig:
    layer = LayerConfig.with_dropout(
        config.dropout,
        heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        condition_on=CLASS,
        adaln=True,
    )
    return ArpConfig(
        embed_dim=config.embed_dim,
        # One row more than there are tokens, as in the published table of 280.
        max_seq_len=2 * pixels + 2,
        max_chunk_size=1,
        tokens=(
            TokenType(START, is_control=True),
            TokenType(ROW, dict_sizes=(size[0],)),
            TokenType(COLUMN, dict_sizes=(size[1],)),
        ),
        layers=(layer,) * config.layers,
        embed_dropout=config.dropout,
    )
