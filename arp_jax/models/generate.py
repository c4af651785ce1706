"""Drawing a sequence chunk by chunk: one traceable program with an exact key/value cache.

In: a prompt [B, P, D] (true values; control tokens, a state, or a human's guidance), a static
schedule of the whole sequence, and contexts. Out: values [B, L, D]. Queries are never seen by
value rows, so the value stream's keys and values are computed once per token; the observation's
keys and values are computed once per call. The chunk loop is unrolled over the schedule.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from arp_jax.models.chunk_schedule import ChunkSchedule, schedule_mask
from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.heads import ClassHead, Sampling
from arp_jax.models.heatmap_head import HeatmapHead
from arp_jax.models.tokens import decode_values, encode_values
from arp_jax.models.transformer_block import StackKeysValues

__all__ = ["ChunkContexts", "Generation", "Sampling", "generate", "generate_with_trace"]

Picker = Callable[[list[jax.Array], jax.Array | None], jax.Array]


@struct.dataclass
class ChunkContexts:
    """A context that differs between chunks: ``values[i]`` serves the chunks ``chunks[i]``.

    ``None`` in ``chunks`` marks the default. Chunks are matched exactly.
    """

    values: tuple[jax.Array | None, ...]
    chunks: tuple[tuple[int, ...] | None, ...] = struct.field(pytree_node=False)

    def select(self, chunk: int, name: str) -> tuple[int, jax.Array | None]:
        """(index, value) of the entry that serves ``chunk``; ValueError if there is none."""
        for i, members in enumerate(self.chunks):
            if members is not None and chunk in members:
                return i, self.values[i]
        if None in self.chunks:
            i = self.chunks.index(None)
            return i, self.values[i]
        raise ValueError(f"context {name!r} has no entry for chunk {chunk} and no default")


@dataclass
class Generation:
    """What ``generate_with_trace`` found: the values and, per predicted chunk, how they arose."""

    values: jax.Array
    steps: list[dict[str, Any]] = field(default_factory=list)


def generate(
    model: ChunkTransformer,
    params: Mapping[str, Any],
    prompt: jax.Array,
    schedule: ChunkSchedule,
    contexts: Mapping[str, jax.Array | ChunkContexts | None],
    rng: jax.Array | None = None,
    sampling: Sampling | Mapping[str, Sampling] = Sampling(),  # noqa: B008 (frozen)
    *,
    given: Mapping[int, float | jax.Array] | None = None,
    statistics: Mapping[str, Any] | None = None,
    pickers: Mapping[int, Picker] | None = None,
) -> jax.Array:
    """Complete a prompt; pure, so it may be jitted with ``schedule`` and ``sampling`` static.

    Args:
        model: the network; ``params`` its parameters (``model.init_params``).
        prompt: [B, P, D] values of the first P positions; P must end a chunk, P = 0 is allowed.
        schedule: layout of all L positions.
        contexts: as in training; ``ChunkContexts`` where one differs between chunks (the past is
            then encoded again under the new contexts).
        rng: key; needed when anything is sampled.
        sampling: one rule, or one per token type name (missing types take the mode).
        given: values of control tokens after the prompt, {position: number or [B, dim]}.
        statistics: {token type: running batch-norm statistics}, for heat-map heads with corr_dim.
        pickers: {chunk: f(predictions per position, rng) -> codes [B, n, D]}, a custom choice. The
            predictions are class logits [B, dim, K], pixel logits [B, H, W] or raw Gaussian output.

    Returns:
        [B, L, D] float32; binned types come back as bin centres.

    Raises:
        ValueError: prompt, schedule, contexts, statistics or rng do not fit together.
    """
    arguments = (prompt, schedule, contexts, rng, sampling, given, statistics, pickers)
    return generate_with_trace(model, params, *arguments).values


def generate_with_trace(
    model: ChunkTransformer,
    params: Mapping[str, Any],
    prompt: jax.Array,
    schedule: ChunkSchedule,
    contexts: Mapping[str, jax.Array | ChunkContexts | None],
    rng: jax.Array | None = None,
    sampling: Sampling | Mapping[str, Sampling] = Sampling(),  # noqa: B008 (frozen)
    given: Mapping[int, float | jax.Array] | None = None,
    statistics: Mapping[str, Any] | None = None,
    pickers: Mapping[int, Picker] | None = None,
) -> Generation:
    """``generate`` with the embeddings, hidden rows and raw predictions of every chunk."""
    prompt = jnp.asarray(prompt, jnp.float32)
    _check(model, prompt, schedule, rng, sampling)

    def run(bound: ChunkTransformer) -> Generation:
        decoder = _Decoder(bound, schedule, contexts, prompt)
        return decoder.run(rng, sampling, given or {}, statistics or {}, pickers or {})

    return nn.apply(run, model)({"params": params})


def _check(
    model: ChunkTransformer,
    prompt: jax.Array,
    schedule: ChunkSchedule,
    rng: jax.Array | None,
    sampling: Sampling | Mapping[str, Sampling],
) -> None:
    schedule.check(model.config)
    if prompt.ndim != 3 or prompt.shape[1] > schedule.length:
        raise ValueError(
            f"prompt must be [B, P <= {schedule.length}, D], found {tuple(prompt.shape)}"
        )
    end = prompt.shape[1]
    ids = schedule.chunk_ids
    if 0 < end < schedule.length and ids[end - 1] == ids[end]:
        raise ValueError(
            f"prompt of {end} tokens ends inside chunk {ids[end]}; give its known tokens a chunk "
            "of their own in the schedule"
        )
    rules = [sampling] if isinstance(sampling, Sampling) else list(sampling.values())
    if rng is None and any(rule.sample for rule in rules):
        raise ValueError("generate: sampling needs an rng key, found None")


class _Decoder:
    """State of one generation while it is traced: codes so far, caches, values not yet cached."""

    def __init__(
        self,
        model: ChunkTransformer,
        schedule: ChunkSchedule,
        contexts: Mapping[str, jax.Array | ChunkContexts | None],
        prompt: jax.Array,
    ) -> None:
        self.model, self.schedule, self.contexts = model, schedule, contexts
        self.mask = schedule_mask(schedule)
        _, self.filled, width = prompt.shape
        self.width = max(width, max(model.config.tokens[t].dim for t in schedule.token_ids))
        prompt_ids = schedule.token_ids[: self.filled]
        codes = encode_values(prompt, prompt_ids, model.config.tokens)
        pad = [(0, 0), (0, schedule.length - self.filled), (0, self.width - width)]
        self.codes = jnp.pad(codes, pad)  # [B, L, D]
        self.cached = 0  # positions whose keys and values are in ``caches``
        self.caches: tuple[StackKeysValues | None, ...] | None = None
        self.selected: tuple[int, ...] | None = None
        self.now: dict[str, jax.Array | None] = {}
        self.prepared: tuple[jax.Array | None, ...] = ()

    def run(
        self,
        rng: jax.Array | None,
        sampling: Sampling | Mapping[str, Sampling],
        given: Mapping[int, float | jax.Array],
        statistics: Mapping[str, Any],
        pickers: Mapping[int, Picker],
    ) -> Generation:
        """Fill every position after the prompt."""
        schedule, tokens = self.schedule, self.model.config.tokens
        found = Generation(self.codes)
        first = (
            schedule.num_chunks
            if self.filled == schedule.length
            else (schedule.chunk_ids[self.filled])
        )
        for chunk in range(first, schedule.num_chunks):
            positions = schedule.chunk_positions(chunk)
            controls = [tokens[schedule.token_ids[i]].is_control for i in positions]
            if all(controls):
                self._write_given(positions, given)
            elif any(controls):
                raise ValueError(f"chunk {chunk} mixes control and predicted tokens")
            else:
                key = None if rng is None else jax.random.fold_in(rng, chunk)
                step = self._decode(chunk, positions, statistics)
                chosen = self._pick(step, positions, key, sampling, pickers.get(chunk))
                self.codes = self.codes.at[:, np.asarray(positions)].set(chosen)
                found.steps.append(step)
            self.filled += len(positions)
        found.values = decode_values(self.codes, schedule.token_ids, tokens)
        return found

    def _write_given(
        self, positions: Sequence[int], given: Mapping[int, float | jax.Array]
    ) -> None:
        for position in positions:
            if position not in given:
                raise ValueError(
                    f"position {position} is a control token after the prompt: pass its value in "
                    f"given={{{position}: ...}}"
                )
            value = jnp.asarray(given[position], jnp.float32)
            value = value.reshape(1, 1) if value.ndim == 0 else value
            token_ids = (self.schedule.token_ids[position],)
            codes = encode_values(value[:, None], token_ids, self.model.config.tokens)[:, 0]
            self.codes = self.codes.at[:, position, : codes.shape[-1]].set(codes)

    def _select_contexts(self, chunk: int) -> None:
        """Contexts of ``chunk``; a change makes the cache of the past invalid."""
        entries, now = [], {}
        for name, context in self.contexts.items():
            entry = 0
            if isinstance(context, ChunkContexts):
                entry, context = context.select(chunk, name)
            entries.append(entry)
            now[name] = context
        if self.selected == tuple(entries):
            return
        self.selected, self.now = tuple(entries), now
        self.prepared = self.model.prepare_contexts(now, self.schedule.layer_match)
        self.cached, self.caches = 0, None

    def _decode(
        self, chunk: int, positions: Sequence[int], statistics: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Run the values not yet cached together with the queries of ``chunk``."""
        self._select_contexts(chunk)
        model, schedule = self.model, self.schedule
        fresh = list(range(self.cached, self.filled))
        queries = model.embed_queries(positions, schedule)
        rows = jnp.broadcast_to(queries, (self.codes.shape[0], *queries.shape))
        if fresh:
            values = model.embed_values(self.codes, fresh, schedule, self.now)
            rows = jnp.concatenate([values, rows], axis=1)
        row_index = [*fresh, *(schedule.length + i for i in positions)]
        key_index = [*range(self.filled), *(schedule.length + i for i in positions)]
        out, kept = model.run_layers(
            model.enter(rows, [*fresh, *positions]),
            self.prepared,
            self.caches,
            self.mask[np.ix_(row_index, key_index)],
            schedule.layer_match,
            keep_keys=True,
        )
        self._extend_caches(kept, len(fresh))
        hidden = out[:, len(fresh) :]
        step: dict[str, Any] = {
            "chunk": chunk,
            "fresh": tuple(fresh),
            "rows_in": rows,
            "rows_out": out,
            "predictions": {},
            "places": {},
        }
        for token_id in sorted({schedule.token_ids[i] for i in positions}):
            token = model.config.tokens[token_id]
            places = [k for k, i in enumerate(positions) if schedule.token_ids[i] == token_id]
            known = statistics.get(token.name)
            head = model.heads[token.name]
            if known is None and isinstance(head, HeatmapHead) and head.has_statistics:
                raise ValueError(
                    f"token type {token.name!r} normalises by running statistics: pass "
                    f"statistics={{{token.name!r}: ...}}"
                )
            raw, _ = model.predict(token.name, hidden[:, np.asarray(places)], self.now, known)
            step["predictions"][token.name], step["places"][token.name] = raw, places
        return step

    def _extend_caches(self, kept: Sequence[StackKeysValues | None], fresh: int) -> None:
        """Append keys and values [.., B, H, M, d] of the fresh value rows (never of queries)."""
        self.cached = self.filled
        if fresh == 0:
            return
        new = jax.tree.map(lambda x: x[..., :fresh, :], tuple(kept))
        if self.caches is not None:
            new = jax.tree.map(lambda *x: jnp.concatenate(x, axis=-2), self.caches, new)
        self.caches = new

    def _pick(
        self,
        step: Mapping[str, Any],
        positions: Sequence[int],
        key: jax.Array | None,
        sampling: Sampling | Mapping[str, Sampling],
        picker: Picker | None,
    ) -> jax.Array:
        """Codes [B, n, D] of the chunk, each token drawn independently of the others."""
        batch, heads = self.codes.shape[0], self.model.heads
        if picker is not None:
            codes = jnp.asarray(picker(self._per_position(step, len(positions)), key), jnp.float32)
            return jnp.pad(codes, [(0, 0), (0, 0), (0, self.width - codes.shape[-1])])
        out = jnp.zeros((batch, len(positions), self.width), jnp.float32)
        for name, raw in step["predictions"].items():
            token_id = self.model.config.token_id(name)
            rule = sampling if isinstance(sampling, Sampling) else sampling.get(name, Sampling())
            head_key = None if key is None else jax.random.fold_in(key, token_id)
            value = heads[name].pick(raw, head_key, rule)
            token = self.model.config.tokens[token_id]
            if token.predictor == "gmm":  # heads of binned types return codes, Gaussians values
                ids = (token_id,) * value.shape[1]
                value = encode_values(value, ids, self.model.config.tokens)
            places = np.asarray(step["places"][name])
            out = out.at[:, places, : token.dim].set(value)
        return out

    def _per_position(self, step: Mapping[str, Any], count: int) -> list[jax.Array]:
        found: list[Any] = [None] * count
        for name, raw in step["predictions"].items():
            head = self.model.heads[name]
            raw = head.padded(raw) if isinstance(head, ClassHead) else raw
            for k, place in enumerate(step["places"][name]):
                found[place] = raw[:, k]
        return found
