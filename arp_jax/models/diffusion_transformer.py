"""The other noise predictor of Diffusion Policy: a decoder-only transformer over the chunk.

In: a noisy chunk [B, T, A], the diffusion step, one conditioning vector an observed time step. Out:
a prediction of the chunk's shape. Actions attend to earlier actions, to the diffusion step and to
observations that are not later than they are.

Chi et al. 2023, "Diffusion Policy", section III-A and appendix A.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from arp_jax.models.attention import RowsDense, attend, split_heads
from arp_jax.models.detr_decoder import CrossProjection
from arp_jax.models.detr_encoder import FusedProjection
from arp_jax.models.unet1d import mish, step_embedding

_EPSILON = 1e-5
_table_init = nn.initializers.normal(0.02)


def memory_mask(horizon: int, window: int) -> np.ndarray:
    """Which actions see which conditions, bool [H, 1 + W]: condition 0 is the diffusion step.

    Action t sees the observation of step s when s <= t; both count from the oldest observation.
    """
    conditions = np.arange(1 + window) - 1
    return conditions[None] <= np.arange(horizon)[:, None]


class DecoderLayer(nn.Module):
    """Pre-norm layer: causal self-attention, attention to the conditions, MLP."""

    width: int
    heads: int
    dropout: float

    def setup(self) -> None:
        self.qkv, self.out = FusedProjection(self.width), RowsDense(self.width)
        self.cross_qkv, self.cross_out = CrossProjection(self.width), RowsDense(self.width)
        self.fc1, self.fc2 = RowsDense(4 * self.width), RowsDense(self.width)
        self.norm_attention = nn.LayerNorm(_EPSILON)
        self.norm_cross = nn.LayerNorm(_EPSILON)
        self.norm_mlp = nn.LayerNorm(_EPSILON)
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self, x: Array, memory: Array, causal: np.ndarray, seen: np.ndarray, train: bool
    ) -> Array:
        """x [B, H, D], memory [B, M, D], masks [H, H] and [H, M]; returns [B, H, D]."""

        def drop(y: Array) -> Array:
            return self.drop(y, deterministic=not train)

        query, key, value = split_heads(self.qkv(self.norm_attention(x), None), 3, self.heads)
        x = x + drop(self.out(attend(query, key, value, causal, self.drop, train)))
        projected = self.cross_qkv(self.norm_cross(x), memory, memory)
        query, key, value = (split_heads(part, 1, self.heads)[0] for part in projected)
        x = x + drop(self.cross_out(attend(query, key, value, seen, self.drop, train)))
        hidden = drop(nn.gelu(self.fc1(self.norm_mlp(x)), approximate=False))
        return x + drop(self.fc2(hidden))


class DiffusionTransformer(nn.Module):
    """Noise predictor.

    Attributes:
        action_dim: A.
        horizon, window: H actions, W observations.
        width, layers, heads, dropout: of the transformer.
    """

    action_dim: int
    horizon: int
    window: int
    width: int = 256
    layers: int = 8
    heads: int = 4
    dropout: float = 0.3

    def setup(self) -> None:
        self.action_in = nn.Dense(self.width)
        self.condition_in = nn.Dense(self.width)
        self.action_position = self.param(
            "action_position", _table_init, (self.horizon, self.width)
        )
        shape = (1 + self.window, self.width)
        self.condition_position = self.param("condition_position", _table_init, shape)
        self.memory_in, self.memory_out = nn.Dense(4 * self.width), nn.Dense(self.width)
        self.blocks = [
            DecoderLayer(self.width, self.heads, self.dropout) for _ in range(self.layers)
        ]
        self.norm = nn.LayerNorm(_EPSILON)
        self.head = nn.Dense(self.action_dim)

    def __call__(self, noisy: Array, steps: Array, observed: Array, train: bool = False) -> Array:
        """Predicts for noisy chunks.

        Args:
            noisy: float32 [B, H, A].
            steps: diffusion steps, int32 [B] or a scalar.
            observed: float32 [B, W, C].
            train: dropout is on; needs the rng stream "dropout".
        """
        level, seen = self.prepare(jnp.broadcast_to(steps, noisy.shape[:1]), observed)
        return self.denoise(noisy, level, seen, train)

    def prepare(self, steps: Array, observed: Array) -> tuple[Array, Array]:
        """Conditions that do not depend on the noisy chunk.

        Args:
            steps: diffusion steps, int32 [K].
            observed: float32 [B, W, C].

        Returns:
            Conditions of the steps [K, D] and of the observations [B, W, D].
        """
        level = step_embedding(steps, self.width) + self.condition_position[0]
        seen = self.condition_in(observed) + self.condition_position[1:]
        memory: list[Array] = [self.memory_out(mish(self.memory_in(x))) for x in (level, seen)]
        return memory[0], memory[1]

    def denoise(self, noisy: Array, level: Array, seen: Array, train: bool = False) -> Array:
        """Predicts for noisy chunks [B, T, A].

        Args:
            noisy: float32 [B, T, A].
            level, seen: from `prepare`; `level` with one step [D] or one a row [B, D].
            train: as in `__call__`.
        """
        level = jnp.broadcast_to(level, (len(noisy), self.width))[:, None]
        memory = jnp.concatenate([level, seen], axis=1)  # [B, 1 + W, D]
        x = self.action_in(noisy) + self.action_position  # [B, H, D]
        causal = np.tril(np.ones((self.horizon, self.horizon), bool))
        mask = memory_mask(self.horizon, self.window)
        for block in self.blocks:
            x = block(x, memory, causal, mask, train)
        return self.head(self.norm(x))
