"""Which codes a chunk of actions is likely to have: ACT++'s autoregressive prior.

In: one-hot codes [B, C, V] of a style encoder (training), or nothing (sampling). Out: logits, or a
draw. A causal transformer over the C codes of a chunk; the first is predicted from a zero vector.

Fu et al. 2024 (Mobile ALOHA), ACT++'s "latent model". Its blocks add what a sublayer says to the
*normalised* input, unlike pre-norm transformers.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.attention import attend, dense, split_heads
from arp_jax.models.detr_encoder import NORM_EPSILON, FusedProjection


class PriorBlock(nn.Module):
    """Causal self-attention and a GELU MLP, each added to its normalised input."""

    embed_dim: int
    heads: int
    dropout: float

    def setup(self) -> None:
        self.norm_attention = nn.LayerNorm(NORM_EPSILON)
        self.norm_mlp = nn.LayerNorm(NORM_EPSILON)
        self.qkv = FusedProjection(self.embed_dim)
        self.out = dense(self.embed_dim, jnp.dtype(jnp.float32))
        self.fc1, self.fc2 = nn.Dense(4 * self.embed_dim), nn.Dense(self.embed_dim)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, rows: jax.Array, train: bool) -> jax.Array:
        """rows [B, C, D] -> [B, C, D]."""
        rows = self.norm_attention(rows)
        query, key, value = split_heads(self.qkv(rows, None), 3, self.heads)
        causal = np.tril(np.ones((rows.shape[1],) * 2, bool))
        rows = rows + self.out(attend(query, key, value, causal, self.drop, train))
        rows = self.norm_mlp(rows)
        hidden = self.fc2(nn.gelu(self.fc1(rows), approximate=False))
        return rows + self.drop(hidden, deterministic=not train)


class LatentPrior(nn.Module):
    """Prior over C codes of V values each.

    Attributes:
        classes, values: C and V.
        embed_dim, heads, layers, dropout: of the transformer.
    """

    classes: int
    values: int
    embed_dim: int = 256
    heads: int = 8
    layers: int = 3
    dropout: float = 0.1

    def setup(self) -> None:
        self.code_dense = nn.Dense(self.embed_dim)
        self.positions = self.param(
            "positions", nn.initializers.normal(1.0), (self.classes, self.embed_dim)
        )
        self.blocks = [
            PriorBlock(self.embed_dim, self.heads, self.dropout) for _ in range(self.layers)
        ]
        self.norm_out = nn.LayerNorm(NORM_EPSILON)
        self.head = nn.Dense(self.values)

    def __call__(self, previous: jax.Array, train: bool = False) -> jax.Array:
        """Codes before each one, [B, C, V] (the first row zero), to its logits [B, C, V]."""
        rows = self.code_dense(previous) + self.positions
        for block in self.blocks:
            rows = block(rows, train)
        return self.head(self.norm_out(rows))


def shifted(codes: jax.Array) -> jax.Array:
    """Codes [B, C, V] moved one place back, a zero row first: the inputs of teacher forcing."""
    return jnp.pad(codes, ((0, 0), (1, 0), (0, 0)))[:, :-1]


def code_loss(logits: jax.Array, codes: jax.Array, axis: int = -1) -> jax.Array:
    """Mean cross entropy of codes [B, C, V] over the values of each.

    `axis=1` is the published call, which normalises over the classes instead; for comparison.
    """
    return -(codes * nn.log_softmax(logits, axis)).sum(axis).mean()


def sample_codes(
    prior: LatentPrior,
    params: dict,
    rng: jax.Array,
    batch: int,
    temperature: float = 1.0,
    greedy: bool = False,
) -> jax.Array:
    """Draws codes one by one: one-hot float32 [B, C, V]."""

    def step(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        codes, key = carry
        key, now = jax.random.split(key)
        logits: Any = prior.apply({"params": params}, shifted(codes))
        logits = logits[:, i]  # [B, V]
        drawn = jax.random.categorical(now, logits / temperature)
        chosen = jnp.argmax(logits, -1) if greedy else drawn  # [B]
        return codes.at[:, i].set(jax.nn.one_hot(chosen, prior.values)), key

    start = jnp.zeros((batch, prior.classes, prior.values))
    return jax.lax.fori_loop(0, prior.classes, step, (start, rng))[0]
