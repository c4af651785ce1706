"""One generation with an exact key/value cache, as a traceable program.

Queries are never seen by value rows, so the value stream's keys and values are computed once per
token; what the layers need of the observation is computed once per call. Every chunk is one pass:
[values not yet cached | queries of the chunk]. Passes that repeat (one token per chunk, hundreds of
chunks) share one loop body. Internal to ``generate``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from arp_jax.models.chunk_schedule import ChunkSchedule, schedule_mask
from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.decode_inputs import ChunkContexts, Guide, Inputs
from arp_jax.models.decode_plan import ChunkStep, Run, group_runs, plan_steps
from arp_jax.models.heads import ClassHead
from arp_jax.models.heatmap_head import HeatmapHead
from arp_jax.models.sampling import Sampling
from arp_jax.models.tokens import check_values, decode_values, encode_values
from arp_jax.models.transformer_block import StackKeysValues, StackPrepared

Caches = tuple[StackKeysValues | None, ...]
Index = int | jax.Array


@struct.dataclass
class Values:
    """State: codes, in the end values [B, L, D]; log_prob [B, L]; caches."""

    values: jax.Array
    log_prob: jax.Array | None = None
    caches: Caches | None = None


@dataclass(frozen=True)
class _At:
    """Where a pass stands: plain numbers, or traced ones inside a loop."""

    chunk: Index
    cached: Index
    filled: Index
    mask: np.ndarray | jax.Array  # [T, M + T]


class Decoder:
    """Everything about one generation that does not change from chunk to chunk."""

    def __init__(
        self,
        model: ChunkTransformer,
        params: Mapping[str, Any],
        schedule: ChunkSchedule,
        contexts: Mapping[str, jax.Array | ChunkContexts | None],
        rules: Mapping[str, Sampling],
        inputs: Inputs,
    ) -> None:
        schedule.check(model.config)
        self.model, self.params, self.schedule = model, params, schedule
        self.contexts, self.rules, self.inputs = contexts, rules, inputs
        self.tokens = model.config.tokens
        self.mask = schedule_mask(schedule)
        self.width = max(self.tokens[t].dim for t in schedule.token_ids)
        self._prepared: dict[tuple[int, ...], tuple[StackPrepared, ...]] = {}

    def run(
        self,
        prompt: jax.Array,
        rng: jax.Array | None,
        scored: bool,
        trace: list[dict[str, Any]] | None = None,
    ) -> Values:
        """Fill every position after the prompt [B, P, D]; facts of each pass go to ``trace``."""
        schedule, length = self.schedule, prompt.shape[1]
        views, given = self._of_several_views(prompt.shape[0]), self.inputs.given
        steps = plan_steps(schedule, self.tokens, length, given, self._selection, views)
        apart = set(range(schedule.num_chunks)) if trace is not None else set(self.inputs.pickers)
        apart |= {schedule.chunk_ids[position] for position in self.inputs.given}
        state = self._begin(prompt, scored)
        guide = self._guide_codes(state.values)
        for step in steps:  # outside every loop and sample axis: once per observation
            if step.is_predicted:
                self._prepare(step.selection)
        for run in group_runs(steps, schedule, apart):
            if run.repeats > 1:
                state = self._loop(state, run, rng, guide)
            elif run.steps[0].is_predicted:
                step = run.steps[0]
                at = _At(step.chunk, step.cached, step.filled, self._mask(step, step.cached))
                state = self._pass(state, step, at, rng, guide, trace)
            else:
                known = self._write_given(state.values, run.steps[0].queries)
                state = replace(state, values=known)
        values = decode_values(state.values, schedule.token_ids, self.tokens)
        return Values(values, state.log_prob)

    def _begin(self, prompt: jax.Array, scored: bool) -> Values:
        batch, length, given_width = prompt.shape
        self.width = max(self.width, given_width)
        codes = encode_values(prompt, self.schedule.token_ids[:length], self.tokens)
        pad = [(0, 0), (0, self.schedule.length - length), (0, self.width - given_width)]
        log_prob = jnp.zeros((batch, self.schedule.length)) if scored else None
        return Values(jnp.pad(codes, pad), log_prob)

    # -- what is known beforehand ---------------------------------------------------------------

    def _selection(self, chunk: int) -> tuple[int, ...]:
        return tuple(
            context.select(chunk, name) if isinstance(context, ChunkContexts) else 0
            for name, context in self.contexts.items()
        )

    def _of_several_views(self, batch: int) -> set[int]:
        """Types embedded from maps [B * views, ...] with more than one view."""
        found = set()
        for token_id, token in enumerate(self.tokens):
            entry = self.contexts.get(token.embedding_option("sampling_from"))
            maps = entry.values if isinstance(entry, ChunkContexts) else (entry,)
            found |= {token_id for x in maps if x is not None and x.shape[0] > batch}
        return found

    def _now(self, selection: tuple[int, ...]) -> dict[str, jax.Array | None]:
        pairs = zip(self.contexts.items(), selection, strict=True)
        return {
            name: context.values[i] if isinstance(context, ChunkContexts) else context
            for (name, context), i in pairs
        }

    def _prepare(self, selection: tuple[int, ...]) -> tuple[StackPrepared, ...]:
        if selection not in self._prepared:
            now, match = self._now(selection), self.schedule.layer_match
            found: Any = self.model.apply(
                {"params": self.params}, now, match, method="prepare_contexts"
            )
            self._prepared[selection] = found
        return self._prepared[selection]

    def _guide_codes(self, codes: jax.Array) -> Guide | None:
        guide = self.inputs.guide
        if guide is None:
            return None
        values, known = jnp.asarray(guide.values, jnp.float32), jnp.asarray(guide.known, bool)
        good = values.ndim == 3 and values.shape[:2] == known.shape
        if not good or known.shape[1] != codes.shape[1] or known.shape[0] not in (1, len(codes)):
            raise ValueError(
                f"guide must hold values [B, {codes.shape[1]}, D] and known [B, {codes.shape[1]}], "
                f"found {tuple(values.shape)} and {tuple(known.shape)}"
            )
        check_values(values, self.schedule.token_ids, self.tokens, known=known)
        pad = max(self.width - values.shape[2], 0)
        values = jnp.pad(values, [(0, 0), (0, 0), (0, pad)])[..., : self.width]
        return Guide(encode_values(values, self.schedule.token_ids, self.tokens), known)

    def _write_given(self, codes: jax.Array, positions: Sequence[int]) -> jax.Array:
        for position in positions:
            if position not in self.inputs.given:
                continue
            value = jnp.asarray(self.inputs.given[position], jnp.float32)
            value = value.reshape(1, 1) if value.ndim == 0 else value
            token_ids = (self.schedule.token_ids[position],)
            code = encode_values(value[:, None], token_ids, self.tokens)[:, 0]
            codes = codes.at[:, position, : code.shape[-1]].set(code)
        return codes

    # -- passes ---------------------------------------------------------------------------------

    def _mask(self, step: ChunkStep, capacity: int) -> np.ndarray:
        """[T, capacity + T] for the rows of ``step``; cache slots not yet filled are hidden."""
        length = self.schedule.length
        own = [*step.fresh, *(length + i for i in step.queries)]
        mask = self.mask[np.ix_(own, [*range(capacity), *own])].copy()
        mask[:, step.cached : capacity] = False
        return mask

    def _loop(self, state: Values, run: Run, rng: jax.Array | None, guide: Guide | None) -> Values:
        """A repeating run as one scan; caches get their final length first."""
        last = run.steps[-1]
        capacity = last.filled
        grow = capacity - run.steps[0].cached

        def lengthen(x: jax.Array) -> jax.Array:
            return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, grow), (0, 0)])

        state = replace(state, caches=jax.tree.map(lengthen, state.caches))
        pattern = run.steps[: run.period]
        shape = (run.repeats, run.period)
        facts = {
            name: jnp.asarray([getattr(s, name) for s in run.steps]).reshape(shape)
            for name in ("chunk", "cached", "filled")
        }
        masks = tuple(
            np.stack([self._mask(s, capacity) for s in run.steps[k :: run.period]])
            for k in range(run.period)
        )

        def body(state: Values, xs: tuple[Any, Any]) -> tuple[Values, None]:
            now, mask = xs
            for k, step in enumerate(pattern):
                at = _At(now["chunk"][k], now["cached"][k], now["filled"][k], mask[k])
                state = self._pass(state, step, at, rng, guide, None)
            return state, None

        return jax.lax.scan(body, state, (facts, masks))[0]

    def _pass(
        self,
        state: Values,
        step: ChunkStep,
        at: _At,
        rng: jax.Array | None,
        guide: Guide | None,
        trace: list[dict[str, Any]] | None,
    ) -> Values:
        """Encode the fresh values, predict the queries of one chunk, pick their values."""
        key = None if rng is None else jax.random.fold_in(rng, at.chunk)

        def bound_pass(model: ChunkTransformer) -> tuple[Any, ...]:
            rows, out, kept = self._run_layers(model, state, step, at)
            hidden = out[:, len(step.fresh) :]
            facts = self._predict(model, step, hidden)
            codes = self._pick(model, step, facts, key)
            if guide is not None:
                here = _slice(guide.values, at.filled, len(step.queries))
                known = _slice(guide.known, at.filled, len(step.queries))
                codes = jnp.where(known[..., None], here, codes)
            values = _update(state.values, codes, at.filled)
            if any(position in self.inputs.given for position in step.queries):
                values = self._write_given(values, step.queries)
                codes = _slice(values, at.filled, len(step.queries))
            log_prob = state.log_prob
            if log_prob is not None:
                scores = self._score(model, step, facts, codes)
                log_prob = _update(log_prob, scores, at.filled)
            caches = self._extended(state.caches, kept, step, at)
            return Values(values, log_prob, caches), rows, out, facts

        state, rows, out, facts = nn.apply(bound_pass, self.model)({"params": self.params})
        if trace is not None:
            seen = {"chunk": step.chunk, "fresh": tuple(step.fresh), "rows_in": rows}
            trace.append(seen | {"rows_out": out} | facts)
        return state

    def _run_layers(
        self, model: ChunkTransformer, state: Values, step: ChunkStep, at: _At
    ) -> tuple[jax.Array, jax.Array, Caches]:
        """Rows in, rows out, keys and values of [fresh values | queries]."""
        fresh, schedule = len(step.fresh), self.schedule
        ids = schedule.token_ids[step.cached : step.stop]
        queries = model.embed_queries(range(len(ids) - fresh), ids[fresh:])
        rows = jnp.broadcast_to(queries, (state.values.shape[0], *queries.shape))
        if fresh:
            codes = _slice(state.values, at.cached, fresh)
            values = model.embed_values(codes, ids[:fresh], self._now(step.selection))
            rows = jnp.concatenate([values, rows], axis=1)
        out, kept = model.run_layers(
            model.enter(rows, at.cached + np.arange(len(ids))),
            self._prepare(step.selection),
            None if step.cached == 0 else state.caches,
            at.mask,
            schedule.layer_match,
            keep_keys=True,
        )
        return rows, out, kept

    def _extended(
        self, caches: Caches | None, kept: Caches, step: ChunkStep, at: _At
    ) -> Caches | None:
        """Caches with keys and values [.., B, H, M, d] of the fresh rows (never of queries)."""
        fresh = len(step.fresh)
        if fresh == 0:
            return None if step.cached == 0 else caches
        new: Caches = jax.tree.map(lambda x: x[..., :fresh, :], kept)
        if step.cached == 0:
            return new
        if isinstance(at.cached, int):
            return jax.tree.map(lambda *x: jnp.concatenate(x, axis=-2), caches, new)
        return jax.tree.map(
            lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, at.cached, axis=-2),
            caches,
            new,
        )

    def _predict(
        self, model: ChunkTransformer, step: ChunkStep, hidden: jax.Array
    ) -> dict[str, Any]:
        """Raw predictions per type, and the places of its tokens in the chunk."""
        found: dict[str, Any] = {"predictions": {}, "places": {}}
        ids = [self.schedule.token_ids[i] for i in step.queries]
        for token_id in sorted(set(ids)):
            name = self.tokens[token_id].name
            places = [k for k, i in enumerate(ids) if i == token_id]
            known, head = self.inputs.statistics.get(name), model.heads[name]
            if known is None and isinstance(head, HeatmapHead) and head.has_statistics:
                raise ValueError(
                    f"token type {name!r} normalises by running statistics: pass "
                    f"statistics={{{name!r}: ...}}"
                )
            now = self._now(step.selection)
            raw, _ = model.predict(name, hidden[:, np.asarray(places)], now, known)
            found["predictions"][name], found["places"][name] = raw, places
        return found

    def _pick(
        self,
        model: ChunkTransformer,
        step: ChunkStep,
        facts: Mapping[str, Any],
        key: jax.Array | None,
    ) -> jax.Array:
        """Codes [B, n, D] of the chunk, each token drawn independently of the others."""
        count = len(step.queries)
        batch = next(iter(facts["predictions"].values())).shape[0]
        if step.chunk in self.inputs.pickers:
            picker = self.inputs.pickers[step.chunk]
            codes = jnp.asarray(picker(_per_position(model, facts, count), key), jnp.float32)
            return jnp.pad(codes, [(0, 0), (0, 0), (0, self.width - codes.shape[-1])])
        out = jnp.zeros((batch, count, self.width), jnp.float32)
        for name, raw in facts["predictions"].items():
            token_id = model.config.token_id(name)
            head_key = None if key is None else jax.random.fold_in(key, token_id)
            value = model.heads[name].pick(raw, head_key, self.rules[name])
            token = self.tokens[token_id]
            if token.predictor == "gmm":  # heads of binned types return codes, Gaussians values
                value = encode_values(value, (token_id,) * value.shape[1], self.tokens)
            out = out.at[:, np.asarray(facts["places"][name]), : token.dim].set(value)
        return out

    def _score(
        self, model: ChunkTransformer, step: ChunkStep, facts: Mapping[str, Any], codes: jax.Array
    ) -> jax.Array:
        """Log-likelihood [B, n] of the chunk's codes [B, n, D]."""
        total = jnp.zeros(codes.shape[:2], jnp.float32)
        for name, raw in facts["predictions"].items():
            token_id, places = model.config.token_id(name), np.asarray(facts["places"][name])
            token, value = self.tokens[token_id], codes[:, places]
            if token.predictor == "gmm":
                value = decode_values(value, (token_id,) * len(places), self.tokens)
            scores = model.heads[name].log_prob(raw, value[..., : token.dim])
            total = total.at[:, places].set(scores)
        return total


def _slice(x: jax.Array, start: Index, count: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(x, start, count, axis=1)


def _update(x: jax.Array, part: jax.Array, start: Index) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(x, part, start, axis=1)


def _per_position(model: ChunkTransformer, facts: Mapping[str, Any], count: int) -> list[jax.Array]:
    """Predictions in the order of the chunk's positions, for a custom picker."""
    found: list[Any] = [None] * count
    for name, raw in facts["predictions"].items():
        head = model.heads[name]
        raw = head.padded(raw) if isinstance(head, ClassHead) else raw
        for k, place in enumerate(facts["places"][name]):
            found[place] = raw[:, k]
    return found
