"""The token language of ARP: what one action element is, and how its value becomes a code.

In: numbers as recorded (normalised actions, pixels, class indices). Out: codes, i.e. the same
numbers except that real values with a ``discrete`` embedding are rounded to a bin index.
Not here: how a code becomes a vector (``token_embeddings``) or how it is predicted (``heads``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

EMBEDDINGS = ("discrete", "linear", "zero", "position_1d", "position_2d", "feat_grid_2d")
PREDICTORS = ("class", "gmm", "upsample_from_2d_attn")

Options = tuple[tuple[str, Any], ...]


def freeze_options(options: Mapping[str, Any] | Options) -> Options:
    """Return ``options`` as sorted, hashable (key, value) pairs; lists become tuples."""
    pairs = options.items() if isinstance(options, Mapping) else options
    return tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in pairs))


@dataclass(frozen=True)
class TokenType:
    """One kind of token (Zhang et al. 2024, section 3); its id is its place in the token table.

    Attributes:
        name: unique; used in loss names and in error messages.
        is_control: given, never predicted: no head, no loss.
        dim: numbers per token.
        is_continuous: the value is real; with a ``discrete`` embedding it is binned by ``bounds``.
        dict_sizes: classes (or bins) per dimension.
        bounds: (min_0, max_0, min_1, max_1, ...), in the unit of the values; only for binning.
        embedding: one of ``EMBEDDINGS``; ``embedding_options`` are its settings.
        predictor: one of ``PREDICTORS`` (the head); ``predictor_options`` are its settings.
    """

    name: str
    is_control: bool = False
    dim: int = 1
    is_continuous: bool = False
    dict_sizes: tuple[int, ...] = (1,)
    bounds: tuple[float, ...] | None = None
    embedding: str = "discrete"
    embedding_options: Options = ()
    predictor: str = "class"
    predictor_options: Options = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dict_sizes", tuple(self.dict_sizes))
        object.__setattr__(self, "embedding_options", freeze_options(self.embedding_options))
        object.__setattr__(self, "predictor_options", freeze_options(self.predictor_options))
        if self.bounds is not None:
            object.__setattr__(self, "bounds", tuple(self.bounds))
        where = f"token type {self.name!r}"
        if self.embedding not in EMBEDDINGS:
            raise ValueError(f"{where}: embedding {self.embedding!r} is not one of {EMBEDDINGS}")
        if not self.is_control and self.predictor not in PREDICTORS:
            raise ValueError(f"{where}: predictor {self.predictor!r} is not one of {PREDICTORS}")
        has_tables = self.embedding == "discrete" and not self.embeds_from_context
        if has_tables and len(self.dict_sizes) != self.dim:
            raise ValueError(
                f"{where}: dict_sizes has {len(self.dict_sizes)} entries, dim is {self.dim}"
            )
        if self.embeds_from_context and self.dim != 1:
            raise ValueError(f"{where}: embed_from needs dim 1, found dim {self.dim}")
        if self.is_binned:
            self._check_bins(where)
        self._check_dims(where)

    def _check_bins(self, where: str) -> None:
        if self.bounds is None or len(self.bounds) != 2 * self.dim:
            raise ValueError(f"{where}: binning needs bounds = (min, max) per dim ({self.dim})")
        if any(high <= low for low, high in zip(self.bounds[::2], self.bounds[1::2], strict=True)):
            raise ValueError(f"{where}: upper bounds must exceed lower ones: {self.bounds}")
        if min(self.dict_sizes) < 2:
            raise ValueError(f"{where}: binning needs at least 2 bins, found {self.dict_sizes}")

    def _check_dims(self, where: str) -> None:
        needed = {"position_1d": 1, "position_2d": 2, "feat_grid_2d": 2}.get(self.embedding)
        if needed is not None and self.dim < needed:
            raise ValueError(f"{where}: {self.embedding} needs dim {needed}, found {self.dim}")
        if self.is_control:
            return
        if self.predictor == "class" and len(self.dict_sizes) != self.dim:
            raise ValueError(f"{where}: class head needs one dict size per dim ({self.dim})")
        if self.predictor == "upsample_from_2d_attn" and self.dim != 2:
            raise ValueError(f"{where}: heat-map head needs dim 2, found {self.dim}")

    @property
    def embeds_from_context(self) -> str | None:
        """Name of the context whose rows are this type's embeddings, or None."""
        return self.embedding_option("embed_from") if self.embedding == "discrete" else None

    @property
    def is_binned(self) -> bool:
        """True when a real value is stored as a bin index."""
        return self.is_continuous and self.embedding == "discrete"

    def embedding_option(self, key: str, default: Any = None) -> Any:
        """Setting ``key`` of the embedding, or ``default``."""
        return dict(self.embedding_options).get(key, default)

    def predictor_option(self, key: str, default: Any = None) -> Any:
        """Setting ``key`` of the head, or ``default``."""
        return dict(self.predictor_options).get(key, default)


def _bin_tables(
    token_ids: tuple[int, ...], tokens: tuple[TokenType, ...], width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Static [L, width] tables: binned?, lower bound, upper bound, bin width (float32)."""
    shape = (len(token_ids), width)
    binned = np.zeros(shape, bool)
    low, high, step = (np.full(shape, v, np.float32) for v in (0.0, 0.0, 1.0))
    for row, token_id in enumerate(token_ids):
        token = tokens[token_id]
        if not token.is_binned or token.bounds is None:
            continue
        d = token.dim
        binned[row, :d] = True
        low[row, :d], high[row, :d] = token.bounds[::2], token.bounds[1::2]
        bins = np.asarray(token.dict_sizes, np.float32) - np.float32(1)
        step[row, :d] = (high[row, :d] - low[row, :d]) / bins
    return binned, low, high, step


def encode_values(
    values: jax.Array, token_ids: tuple[int, ...], tokens: tuple[TokenType, ...]
) -> jax.Array:
    """Values [..., L, D] float32 -> codes [..., L, D]; only binned types change.

    code = round_half_even((clip(x, min, max) - min) / r), r = (max - min) / (bins - 1), all in
    float32, so bin centres include both bounds and rounding matches published models.
    """
    values = jnp.asarray(values, jnp.float32)
    binned, low, high, step = _bin_tables(token_ids, tokens, values.shape[-1])
    if not binned.any():
        return values
    codes = jnp.round((jnp.clip(values, low, high) - low) / step)
    return jnp.where(binned, codes, values)


def decode_values(
    codes: jax.Array, token_ids: tuple[int, ...], tokens: tuple[TokenType, ...]
) -> jax.Array:
    """Codes [..., L, D] -> values: a bin index becomes its bin centre, the rest is unchanged."""
    codes = jnp.asarray(codes, jnp.float32)
    binned, low, _, step = _bin_tables(token_ids, tokens, codes.shape[-1])
    if not binned.any():
        return codes
    return jnp.where(binned, codes * step + low, codes)


def check_values(
    values: Any,
    token_ids: tuple[int, ...],
    tokens: tuple[TokenType, ...],
    contexts: Mapping[str, Any] | None = None,
    known: Any = None,
) -> None:
    """Refuse values that a model would silently clip or look up wrongly.

    For concrete arrays, on the host: it does nothing while a function is traced, so call it before
    ``jit``. ``encode_values`` itself clips, as published.

    Args:
        values: [..., L, D], as ``encode_values`` takes them.
        token_ids, tokens: type of every position, and the token table.
        contexts: named arrays; with them also pixels on a context's feature map [G, h, w, C] and
            rows of a context's embedding table are checked.
        known: [..., L] bool, which entries to look at; None means all.

    Raises:
        ValueError: naming token type, position, dimension, value and what is allowed. Checked are:
            numbers are finite; binned types lie within their bounds; class codes are whole numbers
            of their dictionary; heat-map pixels lie on the map.
    """
    if isinstance(values, jax.core.Tracer) or isinstance(known, jax.core.Tracer):
        return
    flat = np.asarray(values, np.float32)
    flat = flat.reshape(-1, *flat.shape[-2:])  # [B, L, D]
    looked_at = np.ones(flat.shape[:2], bool)
    if known is not None:
        looked_at &= np.asarray(known, bool).reshape(-1, flat.shape[1])
    for position, token_id in enumerate(token_ids):
        token = tokens[token_id]
        limits = _value_limits(token, contexts or {})
        for dim in range(token.dim):
            low, high, whole = limits[dim]
            column = flat[:, position, dim]
            wrong = ~np.isfinite(column) | (column < low) | (column > high)
            wrong |= whole & (column != np.floor(column))
            wrong &= looked_at[:, position]
            if wrong.any():
                sample = int(np.argmax(wrong))
                kind = "a whole number in" if whole else "finite and in"
                raise ValueError(
                    f"token type {token.name!r}: position {position}, dim {dim} of sample {sample} "
                    f"holds {float(column[sample]):g}, must be {kind} [{low:g}, {high:g}]"
                )


def _value_limits(token: TokenType, contexts: Mapping[str, Any]) -> list[tuple[float, float, bool]]:
    """(lowest value, highest value, whole numbers only?) of every dimension."""
    if token.is_binned and token.bounds is not None:
        pairs = zip(token.bounds[::2], token.bounds[1::2], strict=True)
        return [(float(low), float(high), False) for low, high in pairs]
    anything = [(-np.inf, np.inf, False)] * token.dim
    if token.embeds_from_context:
        table = contexts.get(token.embeds_from_context)
        return anything if table is None else [(0, table.shape[-2] - 1, True)]
    has_own_label = not token.is_control and token.predictor_option("label_name") is None
    if token.embedding == "discrete" or (
        token.predictor == "class" and has_own_label and not token.is_continuous
    ):
        return [(0, size - 1, True) for size in token.dict_sizes]
    source = token.predictor_option("attn_with")
    if token.is_control or token.predictor != "upsample_from_2d_attn":
        return anything
    features = contexts.get(source) if isinstance(source, str) else None
    if isinstance(source, str) and features is None:
        return anything
    height, width = source[1:] if features is None else features.shape[1:3]
    ratio = token.predictor_option("upscale_ratio", 1)
    rows, columns = (0, height * ratio - 1, False), (0, width * ratio - 1, False)
    is_xy = token.predictor_option("token_format", "xy") == "xy"
    return [columns, rows] if is_xy else [rows, columns]
