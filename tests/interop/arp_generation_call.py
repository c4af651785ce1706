"""One generation of a golden file: the sequence, and every pass that led to it.

In: an ``ArpCase`` and the name of the call. Out: nothing; every array goes to the case's check.
"""

import functools
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.decode_plan import LOOP_FROM
from arp_jax.models.generate import generate, generate_with_trace
from arp_jax.models.tokens import decode_values, encode_values
from tests.golden_files import FAST_COMPILE
from tests.interop.arp_case import ArpCase

KNOWN = r"prompt_tks|future_json|args_json|ctx/.+|out|step\d+/(emb_in|emb_out|pred/.+)"
STATIC = ("chunk", "fresh", "places")  # parts of a step that are no arrays


def check_generation_call(case: ArpCase, call: str) -> None:
    """Compare every stored result of ``call``."""
    keys = case.keys_of(call, KNOWN)
    data, arguments = case.data, case.arguments(call)
    assert not arguments.get("sample"), "golden generations take the mode"
    prompt, out = data[f"{call}/prompt_tks"], data[f"{call}/out"]
    future = json.loads(str(data[f"{call}/future_json"]))
    schedule, numbers = _schedule(case, arguments, prompt, future)
    contexts = case.contexts(call) | case.chunk_contexts(call, numbers)
    given = _given(case, future, prompt.shape[1])
    pickers = _pickers(case, arguments.get("sample_function"), numbers, schedule, out)
    facts: list[dict[str, Any]] = []  # static parts of the steps, filled while tracing

    arguments = (jnp.asarray(prompt[..., :-1], jnp.float32), schedule, contexts)
    keywords = {"given": given, "statistics": case.statistics, "pickers": pickers}

    @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
    def everything(params: Any) -> tuple[jax.Array, list[dict[str, Any]]]:
        generation = generate_with_trace(case.model, params, *arguments, **keywords)
        facts.extend({k: step[k] for k in STATIC} for step in generation.steps)
        arrays = [{k: v for k, v in s.items() if k not in STATIC} for s in generation.steps]
        return generation.values, arrays

    values, arrays = everything(case.params)
    np.testing.assert_array_equal(out[0, :, -1], schedule.token_ids)
    case.check.compare(f"{call}/out", values[..., : out.shape[-1] - 1], out[..., :-1])
    if len(arrays) >= LOOP_FROM:  # tracing looks at every pass; repeating ones are else a loop
        looped = functools.partial(generate, case.model, **keywords)
        found = jax.jit(lambda params: looped(params, *arguments))(case.params)
        case.check.compare(f"{call}/out", found[..., : out.shape[-1] - 1], out[..., :-1])
    steps = [fact | found for fact, found in zip(facts, arrays, strict=True)]
    stored = {k.split("/")[0] for k in keys if k.startswith("step")}
    if stored:
        assert len(stored) == len(steps), f"{call}: {len(steps)} passes, expected {len(stored)}"
        _compare_steps(case, call, keys, steps, schedule)


def _schedule(
    case: ArpCase, arguments: dict[str, Any], prompt: np.ndarray, future: list[dict[str, Any]]
) -> tuple[ChunkSchedule, dict[int, int]]:
    """The whole layout, and {published chunk id: ours}; published ids may leave gaps."""
    length = prompt.shape[1]
    order = dict.fromkeys(f["chk_id"] for f in future)
    numbers = {chunk: length + i for i, chunk in enumerate(order)}
    prompt_ids = prompt[..., -1].astype(int)
    assert (prompt_ids == prompt_ids[:1]).all(), "rows of one batch differ in their layout"
    schedule = ChunkSchedule(
        (*prompt_ids[0], *(f["tk_id"] for f in future)),
        (*range(length), *(numbers[f["chk_id"]] for f in future)),
        case.blocked(arguments),
        arguments.get("match_layer") or None,
    )
    return schedule, numbers


def _given(case: ArpCase, future: list[dict[str, Any]], length: int) -> dict[int, Any]:
    """Values of future control tokens; the published argument is a code, ours a value."""
    found = {}
    for i, entry in enumerate(future):
        if entry.get("tk_val") is not None:
            token_ids = (int(entry["tk_id"]),)
            code = jnp.full((1, 1, 1), entry["tk_val"], jnp.float32)
            if case.config.tokens[token_ids[0]].dim == 1:
                code = decode_values(code, token_ids, case.config.tokens)
            found[length + i] = code[0, 0, 0]
    return found


def _pickers(
    case: ArpCase, entry: Any, numbers: dict[int, int], schedule: ChunkSchedule, out: np.ndarray
) -> dict[int, Any]:
    """A custom choice is not in the file, its outcome is: hand that back as the choice.

    ``entry`` names chunks in any form; without a number it holds for all of them.
    """
    if not entry:
        return {}
    chosen = [int(i) for i in re.findall(r"\d+", json.dumps(entry))] or list(numbers)
    codes = encode_values(out[..., :-1], schedule.token_ids, case.config.tokens)
    pickers = {}
    for chunk in [numbers[i] for i in chosen if i in numbers]:
        known = codes[:, np.asarray(schedule.chunk_positions(chunk))]
        pickers[chunk] = lambda predictions, rng, known=known: known
    return pickers


def _compare_steps(
    case: ArpCase,
    call: str,
    keys: set[str],
    steps: list[dict[str, Any]],
    schedule: ChunkSchedule,
) -> None:
    """Each pass stored the whole sequence; ours computes its new rows only."""
    batch = case.data[f"{call}/out"].shape[0]
    shape = (batch, schedule.length, case.config.embed_dim)
    values_in, values_out = np.zeros(shape), np.zeros(shape)
    for k, step in enumerate(steps):
        fresh, key = list(step["fresh"]), f"step{k}"
        values_in[:, fresh] = step["rows_in"][:, : len(fresh)]
        values_out[:, fresh] = step["rows_out"][:, : len(fresh)]
        past = schedule.chunk_positions(step["chunk"])[0]
        for name, values in (("in", values_in), ("out", values_out)):
            if f"{key}/emb_{name}" in keys:
                rows = step[f"rows_{name}"][:, len(fresh) :]
                whole = np.concatenate([values[:, :past], rows], axis=1)
                _compare(case, f"{call}/{key}/emb_{name}", whole)
        names = {n.removeprefix(f"{key}/pred/") for n in keys if n.startswith(f"{key}/pred/")}
        for name in names:
            if not name.endswith("/corr_proj"):  # inner part, compared in training calls
                raw = np.asarray(step["predictions"][name])
                expected = case.data[f"{call}/{key}/pred/{name}"]
                _compare(case, f"{call}/{key}/pred/{name}", raw.reshape(expected.shape))


def _compare(case: ArpCase, key: str, found: np.ndarray) -> None:
    case.check.compare(key, found, case.data[key])
