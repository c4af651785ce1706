"""The static description of an ARP model: its token table, its layers, its limits.

Hashable and free of arrays, so a jitted function can be keyed on it. What runs it is
``chunk_transformer``; the layout of one sequence is a ``ChunkSchedule``.
"""

from dataclasses import dataclass, field

from arp_jax.models.tokens import TokenType
from arp_jax.models.transformer_block import LayerConfig


@dataclass(frozen=True)
class ArpConfig:
    """Static description of a model; a token type's id is its place in ``tokens``."""

    embed_dim: int
    max_seq_len: int
    max_chunk_size: int
    tokens: tuple[TokenType, ...]
    layers: tuple[LayerConfig, ...] = field(default=())
    embed_dropout: float = 0.1
    layer_norm_every_block: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.tokens or not self.layers:
            raise ValueError("ArpConfig: give at least one token type and one layer")
        names = [t.name for t in self.tokens]
        if len(set(names)) != len(names):
            raise ValueError(f"ArpConfig: token names must be unique, found {names}")
        for layer in self.layers:
            if self.embed_dim % layer.heads:
                raise ValueError(
                    f"ArpConfig: embed_dim {self.embed_dim} is not divisible by {layer.heads} heads"
                )
        if self.embed_dim % 4 and any(t.embedding == "position_2d" for t in self.tokens):
            raise ValueError(f"ArpConfig: position_2d needs embed_dim % 4 == 0 ({self.embed_dim})")

    def token_id(self, name: str) -> int:
        """Id of the token type called ``name``; ValueError lists the known names."""
        names = [t.name for t in self.tokens]
        if name not in names:
            raise ValueError(f"ArpConfig: no token type {name!r}; known: {names}")
        return names.index(name)

    @property
    def width(self) -> int:
        """Largest token dim: the least D a values array [B, L, D] may have."""
        return max(t.dim for t in self.tokens)

    def stacks(self) -> tuple[tuple[LayerConfig, int], ...]:
        """Runs of consecutive equal layers as (layer, depth)."""
        runs: list[tuple[LayerConfig, int]] = []
        for layer in self.layers:
            if runs and runs[-1][0] == layer:
                runs[-1] = (layer, runs[-1][1] + 1)
            else:
                runs.append((layer, 1))
        return tuple(runs)
