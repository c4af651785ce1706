"""One ARP transformer layer, and a stack of equal layers.

In: rows [B, T, C], what was prepared of the observation, cached keys and values, a mask. Out: rows
[B, T, C] and their own keys and values. Layers of one stack share a configuration; the parameters
of a deep stack are stacked on a leading layer axis and compiled once (30 equal layers in Push-T).
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.attention import KeysValues, Mask, RowsDense, SelfAttention, dense, modulate
from arp_jax.models.context_attention import ContextAttention, Prepared, attend_to_context

BLOCK_NORM_EPSILON = 1e-6  # norms inside a layer
OUTPUT_NORM_EPSILON = 1e-5  # norms after a layer or after the whole stack

# A stack of more layers is a scan over stacked parameters: it compiles once whatever its depth. A
# shallower one is unrolled, because slicing stacked parameters copies them on a CPU.
UNROLL_UP_TO = 8
# Layers per turn of that scan: slicing the next one's parameters overlaps with computing.
SCAN_UNROLL = 2

# Of a whole stack: one entry per layer, or one with all layers on a leading axis. Only the stack
# looks inside.
StackKeysValues = Any
StackPrepared = Any


@dataclass(frozen=True)
class LayerConfig:
    """Shape of one layer.

    ``condition_on`` names the context it cross-attends to ("" = none); with ``adaln`` the
    attended result modulates the norms instead of being added (per token, not per sample).
    ``name`` is what ``ChunkSchedule.layer_match`` selects by.
    """

    heads: int = 8
    mlp_ratio: float = 4.0
    mlp_dropout: float = 0.1
    attention_dropout: float = 0.1
    residual_dropout: float = 0.1
    cross_attention_dropout: float = 0.1
    cross_residual_dropout: float = 0.1
    condition_on: str = ""
    adaln: bool = False
    norm_before_adaln: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.adaln and not self.condition_on:
            raise ValueError(
                f"layer {self.name!r}: adaln needs condition_on, the context that modulates it"
            )

    @classmethod
    def with_dropout(cls, dropout: float, **settings: Any) -> "LayerConfig":
        """A layer with one rate of dropout everywhere; ``settings`` are its other attributes."""
        return cls(
            mlp_dropout=dropout,
            attention_dropout=dropout,
            residual_dropout=dropout,
            cross_attention_dropout=dropout,
            cross_residual_dropout=dropout,
            **settings,
        )


def tanh_gelu(x: jax.Array) -> jax.Array:
    """The tanh approximation of GELU, as x sigmoid(2 u): the same function with fewer operations.

    XLA's CPU backend splits an elementwise loop over threads once it looks expensive; for the few
    rows of one pass that costs ten times the loop.
    """
    return x * nn.sigmoid(np.float32(2 * np.sqrt(2 / np.pi)) * (x + 0.044715 * x * x * x))


class Mlp(nn.Module):
    """Linear, tanh GELU, dropout, Linear, dropout."""

    hidden: int
    embed_dim: int
    dropout: float
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        self.fc1 = dense(self.hidden, self.dtype)
        self.fc2 = dense(self.embed_dim, self.dtype)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, rows: jax.Array, train: bool) -> jax.Array:
        hidden = self.drop(tanh_gelu(self.fc1(rows)), deterministic=not train)
        return self.drop(self.fc2(hidden), deterministic=not train)


class TransformerBlock(nn.Module):
    """One layer, in the signature ``nn.scan`` expects: carry first, then per-layer inputs."""

    config: LayerConfig
    embed_dim: int
    norm_output: bool
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        cfg, width, dtype = self.config, self.embed_dim, self.dtype

        def norm(affine: bool = True, epsilon: float = BLOCK_NORM_EPSILON) -> nn.LayerNorm:
            return nn.LayerNorm(epsilon, dtype=dtype, use_bias=affine, use_scale=affine)

        self.attention = SelfAttention(
            width, cfg.heads, cfg.attention_dropout, cfg.residual_dropout, dtype
        )
        self.mlp = Mlp(int(cfg.mlp_ratio * width), width, cfg.mlp_dropout, dtype)
        self.norm_attention = norm(affine=not cfg.adaln)
        self.norm_mlp = norm(affine=not cfg.adaln)
        if cfg.condition_on:
            self.norm_context_query = norm()
            self.drop_context_weights = nn.Dropout(cfg.cross_attention_dropout)
            self.drop_context = nn.Dropout(cfg.cross_residual_dropout)
        if cfg.adaln:
            # Zero: at initialisation a modulated layer is the identity.
            zeros = nn.initializers.zeros
            self.modulation = RowsDense(6 * width, dtype=dtype, kernel_init=zeros)
            if cfg.norm_before_adaln:
                self.norm_modulation = norm(affine=False)
        if self.norm_output:
            self.norm_out = norm(epsilon=OUTPUT_NORM_EPSILON)

    def __call__(
        self,
        rows: jax.Array,
        prepared: Prepared | None,
        cache: KeysValues | None,
        mask: Mask,
        train: bool,
        keep_keys: bool,
    ) -> tuple[jax.Array, KeysValues | None]:
        """rows [B, T, C], prepared context, cache [B, H, M, d] x 2, mask [T, M + T]."""
        cfg = self.config
        attended = None
        if cfg.condition_on and prepared is not None:
            attended = attend_to_context(
                self.norm_context_query(rows),
                prepared,
                cfg.heads,
                self.drop_context_weights,
                train,
            )
            attended = self.drop_context(attended, deterministic=not train)
        if cfg.adaln and attended is not None:
            rows, kept = self._modulated(rows, attended, cache, mask, train)
        else:
            rows = rows if attended is None else rows + attended
            update, kept = self.attention(self.norm_attention(rows), cache, mask, train)
            rows = rows + update
            rows = rows + self.mlp(self.norm_mlp(rows), train)
        if self.norm_output:
            rows = self.norm_out(rows)
        return rows, (kept if keep_keys else None)

    def _modulated(
        self,
        rows: jax.Array,
        attended: jax.Array,
        cache: KeysValues | None,
        mask: Mask,
        train: bool,
    ) -> tuple[jax.Array, KeysValues]:
        """The AdaLN form: shift, scale, gate of attention, then of the MLP."""
        if self.config.norm_before_adaln:
            attended = self.norm_modulation(attended)
        parts = jnp.split(self.modulation(nn.silu(attended)), 6, axis=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts
        update, kept = self.attention(
            modulate(self.norm_attention(rows), shift_a, scale_a), cache, mask, train
        )
        rows = rows + gate_a * update
        rows = rows + gate_m * self.mlp(modulate(self.norm_mlp(rows), shift_m, scale_m), train)
        return rows, kept


class BlockStack(nn.Module):
    """``depth`` equal layers, unrolled or (deep stacks) scanned over stacked parameters."""

    config: LayerConfig
    depth: int
    embed_dim: int
    norm_output: bool
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        block = (self.config, self.embed_dim, self.norm_output, self.dtype)
        context = (self.embed_dim, self.config.heads, self.dtype)
        self.layers: Any
        self.contexts: Any
        if not self.is_scanned:
            self.layers = [TransformerBlock(*block) for _ in range(self.depth)]
            if self.config.condition_on:
                self.contexts = [ContextAttention(*context) for _ in range(self.depth)]
            return
        self.layers = nn.scan(
            TransformerBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, 0, nn.broadcast, nn.broadcast, nn.broadcast),
            out_axes=0,
            length=self.depth,
            unroll=SCAN_UNROLL,
        )(*block)
        if self.config.condition_on:
            self.contexts = nn.vmap(
                ContextAttention,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=None,
                out_axes=0,
                axis_size=self.depth,
            )(*context)

    @property
    def is_scanned(self) -> bool:
        """True when parameters, caches and prepared contexts are stacked on axis 0."""
        return self.depth > UNROLL_UP_TO

    def prepare(self, context: jax.Array) -> StackPrepared:
        """Context [B, S, C] -> what every layer needs of it, once per observation."""
        if self.is_scanned:
            return self.contexts(context)
        return tuple(attention(context) for attention in self.contexts)

    def __call__(
        self,
        rows: jax.Array,
        prepared: StackPrepared,
        cache: StackKeysValues | None,
        mask: Mask,
        train: bool = False,
        keep_keys: bool = False,
    ) -> tuple[jax.Array, StackKeysValues | None]:
        """rows [B, T, C] -> rows [B, T, C] and, with ``keep_keys``, their keys and values."""
        if self.is_scanned:
            return self.layers(rows, prepared, cache, mask, train, keep_keys)
        kept = []
        for i, layer in enumerate(self.layers):
            own = None if prepared is None else prepared[i]
            past = None if cache is None else cache[i]
            rows, found = layer(rows, own, past, mask, train, keep_keys)
            kept.append(found)
        return rows, tuple(kept) if keep_keys else None
