"""ARP: one transformer over action tokens, trained on all chunks at once by two streams.

In: values [B, L, D] of a sequence laid out by a static ``ChunkSchedule``, and named contexts
(visual tokens, feature maps, label maps). Out: one loss per predicted token type,
log-likelihoods, or the streams themselves. Drawing sequences is ``generate``; units, images and
data are the policy's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.arp_config import ArpConfig
from arp_jax.models.attention import Mask
from arp_jax.models.chunk_schedule import ChunkSchedule, relative_index, schedule_mask
from arp_jax.models.heads import ClassHead, GaussianHead, Head
from arp_jax.models.heatmap_head import HeatmapHead
from arp_jax.models.token_embeddings import (
    Contexts,
    QueryEmbedding,
    ValueEmbedding,
    required_context,
    table_init,
)
from arp_jax.models.tokens import TokenType, encode_values
from arp_jax.models.transformer_block import (
    OUTPUT_NORM_EPSILON,
    BlockStack,
    LayerConfig,
    StackKeysValues,
    StackPrepared,
)

__all__ = ["ArpConfig", "ChunkTransformer", "LayerConfig"]


class ChunkTransformer(nn.Module):
    """Chunking autoregressive transformer (Zhang et al. 2024).

    ``dtype`` is the compute type of the layers and heads (bfloat16 for speed); embeddings, softmax
    and every likelihood stay float32.
    """

    config: ArpConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        cfg = self.config
        self.value_embeddings = {t.name: ValueEmbedding(t, cfg.embed_dim) for t in cfg.tokens}
        self.query_embedding = QueryEmbedding(cfg.max_chunk_size, len(cfg.tokens), cfg.embed_dim)
        self.position_table = self.param(
            "position_table", table_init, (cfg.max_seq_len, cfg.embed_dim)
        )
        self.embed_drop = nn.Dropout(cfg.embed_dropout)
        self.stacks = [
            BlockStack(
                layer,
                depth,
                cfg.embed_dim,
                cfg.layer_norm_every_block,
                self.dtype,
            )
            for layer, depth in cfg.stacks()
        ]
        self.heads = {t.name: self._head(t) for t in cfg.tokens if not t.is_control}
        if not cfg.layer_norm_every_block:
            self.final_norm = nn.LayerNorm(OUTPUT_NORM_EPSILON, dtype=self.dtype)

    def _head(self, token: TokenType) -> Head:
        if token.predictor == "class":
            return ClassHead(token, self.dtype)
        if token.predictor == "gmm":
            return GaussianHead(token, self.config.embed_dim, self.dtype)
        return HeatmapHead(token, self.config.embed_dim, self.dtype)

    # -- parameters -----------------------------------------------------------------------------

    def init_params(self, rng: jax.Array) -> dict[str, Any]:
        """All parameters as a nested dict of float32 arrays; needs no batch and no schedule."""
        return self.init(rng, method="_touch")["params"]

    def _touch(self) -> None:
        """Run every part once on zeros, so that ``init`` creates all parameters."""
        cfg = self.config
        contexts: dict[str, jax.Array] = {}
        for token in cfg.tokens:
            if token.embeds_from_context:
                contexts[token.embeds_from_context] = jnp.zeros((1, cfg.embed_dim))
            for name in (
                token.embedding_option("sampling_from"),
                token.predictor_option("attn_with"),
            ):
                if isinstance(name, str):
                    contexts[name] = jnp.zeros((1, 1, 1, cfg.embed_dim))
        for layer in cfg.layers:
            if layer.condition_on:
                # A name may serve several uses; cross-attention flattens a map itself.
                contexts.setdefault(layer.condition_on, jnp.zeros((1, 1, cfg.embed_dim)))
        rows = self.query_embedding(np.zeros(1, int), np.zeros(1, int))[None]
        rows, _ = self.run_layers(rows, self.prepare_contexts(contexts, None), None, None)
        for token in cfg.tokens:
            self.value_embeddings[token.name](jnp.zeros((1, 1, token.dim)), contexts)
            if not token.is_control:
                self.heads[token.name](rows, contexts, None, None)

    # -- parts shared by training and generation ------------------------------------------------

    def embed_values(
        self, codes: jax.Array, token_ids: Sequence[int], contexts: Contexts
    ) -> jax.Array:
        """Codes [B, T, D] of types token_ids [T] -> value embeddings [B, T, C], no positions."""
        order, parts = [], []
        for token_id, token in enumerate(self.config.tokens):
            chosen = [i for i, t in enumerate(token_ids) if t == token_id]
            if not chosen:
                continue
            rows = codes[:, np.asarray(chosen), : token.dim]
            parts.append(self.value_embeddings[token.name](rows, contexts).astype(jnp.float32))
            order += chosen
        joined = jnp.concatenate(parts, axis=1)
        if order == sorted(order):
            return joined
        return joined[:, np.argsort(order)]

    def embed_queries(self, slots: Sequence[int], token_ids: Sequence[int]) -> jax.Array:
        """Query embeddings [T, C] of slots [T] in their chunks and types [T], no positions."""
        return self.query_embedding(np.asarray(slots, int), np.asarray(token_ids, int))

    def enter(self, rows: jax.Array, positions: Any, train: bool = False) -> jax.Array:
        """Add the learned position rows of positions [T], drop out, cast to the compute type."""
        rows = rows + jnp.take(self.position_table, positions, axis=0)
        return self.embed_drop(rows, deterministic=not train).astype(self.dtype)

    def prepare_contexts(
        self, contexts: Contexts, layer_match: str | None
    ) -> tuple[StackPrepared, ...]:
        """What every stack needs of the observation (None: nothing), once per observation."""
        found: list[StackPrepared] = []
        for stack, (layer, _) in zip(self.stacks, self.config.stacks(), strict=True):
            name = layer.condition_on
            if not name or not _runs(layer, layer_match):
                found.append(None)
                continue
            if name not in contexts:  # None is allowed, but only when it is said
                required_context(contexts, name, f"layer {layer.name!r}")
            context = contexts[name]
            if context is not None and context.ndim == 4:  # a map is attended to as its cells
                context = context.reshape(context.shape[0], -1, context.shape[-1])
            found.append(None if context is None else stack.prepare(context))
        return tuple(found)

    def run_layers(
        self,
        rows: jax.Array,
        prepared: Sequence[StackPrepared],
        caches: Sequence[StackKeysValues | None] | None,
        mask: Mask,
        layer_match: str | None = None,
        train: bool = False,
        keep_keys: bool = False,
    ) -> tuple[jax.Array, tuple[StackKeysValues | None, ...]]:
        """rows [B, T, C] through the stacks that ``layer_match`` selects, then the last norm.

        Returns the rows and, with ``keep_keys``, each stack's keys and values [.., B, H, T, d].
        """
        kept: list[StackKeysValues | None] = []
        for i, (stack, (layer, _)) in enumerate(
            zip(self.stacks, self.config.stacks(), strict=True)
        ):
            if not _runs(layer, layer_match):
                kept.append(None)
                continue
            cache = None if caches is None else caches[i]
            rows, keys_values = stack(rows, prepared[i], cache, mask, train, keep_keys)
            kept.append(keys_values)
        if not self.config.layer_norm_every_block:
            rows = self.final_norm(rows)
        return rows, tuple(kept)

    def predict(
        self,
        name: str,
        rows: jax.Array,
        contexts: Contexts,
        statistics: Mapping[str, Any] | None = None,
        weights: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Raw prediction of token type ``name`` from query rows [B, N, C]; see ``Head``."""
        return self.heads[name](rows, contexts, statistics, weights)

    # -- training -------------------------------------------------------------------------------

    def __call__(
        self, values: jax.Array, schedule: ChunkSchedule, contexts: Contexts, **kwargs: Any
    ) -> dict[str, jax.Array]:
        """Same as ``losses``."""
        return self.losses(values, schedule, contexts, **kwargs)

    def trace(
        self,
        values: jax.Array,
        schedule: ChunkSchedule,
        contexts: Contexts,
        *,
        valid: jax.Array | None = None,
        train: bool = False,
        labels: Mapping[str, jax.Array] | None = None,
        skip: tuple[str, ...] = (),
        every_row: bool = True,
    ) -> dict[str, Any]:
        """One two-stream pass with everything it computes on the way.

        Args: as ``losses``. ``every_row`` False leaves out rows no loss depends on: values of the
        last chunk (no query is younger) and queries of chunks without a predicted token.

        Returns:
            codes [B, L, D]; value_in, query_in, value_out, query_out [B, *, C]; predictions
            {type: raw [B, N, ...]}; labels; positions {type: positions}; batch_statistics.
        """
        cfg = self.config
        schedule.check(cfg)
        self._check_values(values, schedule)
        for name in (*skip, *(labels or ())):
            cfg.token_id(name)  # refuses a name that no type has
        codes = encode_values(values, schedule.token_ids, cfg.tokens)
        predicted = [
            t.name
            for i, t in enumerate(cfg.tokens)
            if i in schedule.token_ids and not t.is_control and t.name not in skip
        ]
        value_rows, query_rows = self._rows(schedule, predicted, every_row)
        ids, slots = schedule.token_ids, relative_index(schedule.chunk_ids)
        value_in = None
        if value_rows:
            # A map per view shares out all points of a type, so none may be left out before.
            value_in = self.embed_values(codes, ids, contexts)[:, np.asarray(value_rows)]
        query_in = self.embed_queries([slots[i] for i in query_rows], [ids[i] for i in query_rows])
        query_in = jnp.broadcast_to(query_in, (values.shape[0], *query_in.shape))
        both = query_in if value_in is None else jnp.concatenate([value_in, query_in], axis=1)
        rows = self.enter(both, np.asarray((*value_rows, *query_rows)), train)
        length = schedule.length
        index = np.asarray((*value_rows, *(length + i for i in query_rows)))
        mask = schedule_mask(schedule)[np.ix_(index, index)]
        prepared = self.prepare_contexts(contexts, schedule.layer_match)
        rows, _ = self.run_layers(rows, prepared, None, mask, schedule.layer_match, train)
        out: dict[str, Any] = {
            "codes": codes,
            "value_in": value_in,
            "query_in": query_in,
            "value_out": rows[:, : len(value_rows)],
            "query_out": rows[:, len(value_rows) :],
            "predictions": {},
            "labels": {},
            "positions": {},
            "batch_statistics": {},
        }
        for name in predicted:
            self._add_prediction(out, name, query_rows, values, schedule, contexts, valid, labels)
        return out

    def _check_values(self, values: jax.Array, schedule: ChunkSchedule) -> None:
        width = max(self.config.tokens[t].dim for t in schedule.token_ids)
        if values.ndim != 3 or values.shape[1] != schedule.length or values.shape[2] < width:
            raise ValueError(
                f"values must be [B, {schedule.length}, D >= {width}] for this schedule, found "
                f"{tuple(values.shape)}"
            )

    def _rows(
        self, schedule: ChunkSchedule, predicted: Sequence[str], every_row: bool
    ) -> tuple[list[int], list[int]]:
        """Positions kept in the value stream and in the query stream."""
        everything = list(range(schedule.length))
        if every_row or not predicted:
            return everything, everything
        ids = {self.config.token_id(name) for name in predicted}
        pairs = list(zip(schedule.token_ids, schedule.chunk_ids, strict=True))
        needed = {chunk for token_id, chunk in pairs if token_id in ids}
        query_rows = [i for i, chunk in enumerate(schedule.chunk_ids) if chunk in needed]
        value_rows = [i for i, chunk in enumerate(schedule.chunk_ids) if chunk < max(needed)]
        return value_rows, query_rows

    def _add_prediction(
        self,
        out: dict[str, Any],
        name: str,
        query_rows: Sequence[int],
        values: jax.Array,
        schedule: ChunkSchedule,
        contexts: Contexts,
        valid: jax.Array | None,
        labels: Mapping[str, jax.Array] | None,
    ) -> None:
        """Fill in prediction, label, positions and batch statistics of one type."""
        token_id = self.config.token_id(name)
        token = self.config.tokens[token_id]
        positions = np.asarray(schedule.positions_of(token_id))
        place = {position: k for k, position in enumerate(query_rows)}
        rows = out["query_out"][:, np.asarray([place[i] for i in positions])]
        weights = None if valid is None else valid[:, positions]
        raw, statistics = self.predict(name, rows, contexts, None, weights)
        own = values if token.predictor == "gmm" else out["codes"]
        label = own[:, positions, : token.dim]
        label_name = token.predictor_option("label_name")
        # Published single Gaussians ignore label_name: their label is the sequence's own value.
        single_gaussian = token.predictor == "gmm" and token.predictor_option("num_latents", 1) == 1
        if labels is not None and name in labels:
            label = labels[name]
        elif label_name is not None and not single_gaussian:
            label = required_context(contexts, label_name, f"label of token type {name!r}")
        if token.predictor != "upsample_from_2d_attn":
            label = label.reshape(values.shape[0], len(positions), token.dim)
        out["predictions"][name], out["labels"][name] = raw, label
        out["positions"][name] = tuple(int(i) for i in positions)
        if statistics:
            out["batch_statistics"][name] = statistics

    def losses(
        self,
        values: jax.Array,
        schedule: ChunkSchedule,
        contexts: Contexts,
        *,
        valid: jax.Array | None = None,
        train: bool = False,
        labels: Mapping[str, jax.Array] | None = None,
        skip: tuple[str, ...] = (),
    ) -> dict[str, jax.Array]:
        """Loss of every predicted token type: {"<type>.<ce_loss|nll_loss|2d_ce_loss>": scalar}.

        Args:
            values: [B, L, D] float, true values of the sequence; unused dims are ignored.
            schedule: layout of the sequence (static).
            contexts: named arrays. Feature maps are channels last [G, h, w, C]; a layer given None
                runs without conditioning.
            valid: [B, L] bool; False removes a token from the losses (it is still attended to).
            train: dropout on; needs ``rngs={"dropout": key}``.
            labels: {type: label} overriding the sequence's own value, as does a ``label_name``
                context: [B, N, dim], or soft maps [B * N, H, W] for heat-map heads.
            skip: token types without a loss here.

        Raises:
            ValueError: the schedule does not fit the configuration, or a context is missing.
        """
        out = self.trace(
            values,
            schedule,
            contexts,
            valid=valid,
            train=train,
            labels=labels,
            skip=skip,
            every_row=False,
        )
        return self.losses_of(out, valid)

    def losses_of(
        self, traced: Mapping[str, Any], valid: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """The losses of a ``trace``: means over valid tokens, 0 where a type has none."""
        found = {}
        for name, raw in traced["predictions"].items():
            head = self.heads[name]
            each = head.token_loss(raw, traced["labels"][name])  # [B, N]
            if valid is None:
                found[f"{name}.{head.loss_name}"] = each.mean()
                continue
            weights = valid[:, np.asarray(traced["positions"][name])].astype(each.dtype)
            total = jnp.where(weights > 0, each, 0.0).sum()
            found[f"{name}.{head.loss_name}"] = total / jnp.maximum(weights.sum(), 1.0)
        return found

    def log_prob(
        self,
        values: jax.Array,
        schedule: ChunkSchedule,
        contexts: Contexts,
        *,
        labels: Mapping[str, jax.Array] | None = None,
    ) -> jax.Array:
        """Log-likelihood [B, L] of every token given all earlier chunks; 0 for given tokens.

        Always higher = likelier, and defined for every head (published code mixes signs and
        cannot do single Gaussians). A heat-map token with a soft label (``labels`` or its context)
        scores sum p log q, without one the log-probability of its own pixel.
        """
        labels = dict(labels or {})
        for token_id, token in enumerate(self.config.tokens):
            name, soft = token.name, token.predictor_option("label_name")
            is_heatmap = not token.is_control and token.predictor == "upsample_from_2d_attn"
            if is_heatmap and name not in labels and contexts.get(soft) is None:
                labels[name] = values[:, np.asarray(schedule.positions_of(token_id), int), :2]
        out = self.trace(values, schedule, contexts, labels=labels, every_row=False)
        total = jnp.zeros(values.shape[:2], jnp.float32)
        for name, raw in out["predictions"].items():
            each = self.heads[name].log_prob(raw, out["labels"][name])
            total = total.at[:, np.asarray(out["positions"][name])].set(each)
        return total


def _runs(layer: LayerConfig, layer_match: str | None) -> bool:
    return layer_match is None or layer_match in layer.name
