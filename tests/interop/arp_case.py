"""Runs one small-model golden case of ARP: its training calls, gradients and generations."""

import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.arp import (
    config_from_reference,
    convert_arp,
    parameter_rules,
    statistics_rules,
)
from arp_jax.interop.torch_state import leaf
from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.generate import ChunkContexts, generate_with_trace
from arp_jax.models.heatmap_head import updated_statistics
from arp_jax.models.tokens import encode_values
from tests.golden_files import GoldenCheck

Arrays = dict[str, np.ndarray]


class ArpCase:
    """One golden file as a model, its parameters and its calls."""

    def __init__(self, data: Arrays, check: GoldenCheck) -> None:
        self.data, self.check = data, check
        self.config = config_from_reference(json.loads(str(data["cfg_json"])))
        self.model = ChunkTransformer(self.config)
        state = {k[2:]: v for k, v in data.items() if k.startswith("w/")}
        self.params, self.statistics, report = convert_arp(state, self.config)
        report.raise_if_incomplete(check.name)

    def run(self) -> None:
        """Check every call in the file."""
        for call in sorted({k.split("/")[0] for k in self.data}):
            if re.fullmatch(r"train\d*", call):
                self._train(call)
            elif re.fullmatch(r"gen\d+", call):
                self._generate(call)
            else:
                assert call in ("cfg_json", "meta_json", "w"), f"unknown entry {call}"

    # -- arguments ----------------------------------------------------------------------------

    def _arguments(self, call: str) -> dict[str, Any]:
        key = f"{call}/args_json"
        return json.loads(str(self.data[key])) if key in self.data else {}

    def _context(self, name: str, value: np.ndarray) -> jax.Array:
        maps = {
            o
            for t in self.config.tokens
            for o in (t.predictor_option("attn_with"), t.embedding_option("sampling_from"))
        }
        # Published feature maps have channels first, ours last.
        return jnp.asarray(value.transpose(0, 2, 3, 1) if name in maps else value)

    def _contexts(self, call: str, chunk_numbers: dict[int, int]) -> dict[str, Any]:
        arguments = self._arguments(call)
        contexts: dict[str, Any] = {name: None for name in arguments.get("none_contexts", [])}
        per_chunk = arguments.get("per_chunk_context_keys", {})
        for key, value in self.data.items():
            match = re.fullmatch(rf"{call}/ctx/(.+)", key)
            if match and match[1].rsplit("/", 1)[0] not in per_chunk:
                contexts[match[1]] = self._context(match[1], value)
        for name, keys in per_chunk.items():
            members = tuple(
                None
                if k == "default"
                else tuple(chunk_numbers.get(i, -1) for i in (k if isinstance(k, list) else [k]))
                for k in keys
            )
            stored = [self.data.get(f"{call}/ctx/{name}/{j}") for j in range(len(keys))]
            values = tuple(None if v is None else self._context(name, v) for v in stored)
            contexts[name] = ChunkContexts(values, members)
        return contexts

    def _blocked(self, arguments: dict[str, Any]) -> tuple[tuple[int, int], ...]:
        def token_id(entry: str | int) -> int:
            return entry if isinstance(entry, int) else self.config.token_id(entry)

        pairs = arguments.get("block_attn_directions") or []
        return tuple((token_id(a), token_id(b)) for a, b in pairs)

    # -- training -----------------------------------------------------------------------------

    def _train(self, call: str) -> None:
        data, arguments = self.data, self._arguments(call)
        tokens = data[f"{call}/tks"]
        token_ids = tokens[0, :, -1].astype(int)
        chunks = data.get(f"{call}/chk_ids", np.arange(tokens.shape[1]))
        schedule = ChunkSchedule(
            tuple(token_ids),
            tuple(chunks.reshape(-1, tokens.shape[1])[0]),
            self._blocked(arguments),
            arguments.get("match_layer"),
        )
        values = jnp.asarray(tokens[..., :-1], jnp.float32)
        contexts = self._contexts(call, {})
        valid = data.get(f"{call}/valid_tk_mask")
        keywords = {"valid": None if valid is None else jnp.asarray(valid)}
        skip = arguments.get("skip_tokens") or []
        names = [self.config.tokens[i].name if isinstance(i, int) else i for i in skip]
        keywords["skip"] = tuple(names)

        def losses(params: Any, run: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            found = run(params, "losses", **keywords)
            return sum(found.values()), found

        @jax.jit  # one program, so that each call of the file is compiled once
        def everything(params: Any) -> tuple[Any, ...]:
            def run(params: Any, method: str, **keywords: Any) -> Any:
                return self.model.apply(
                    {"params": params}, values, schedule, contexts, method=method, **keywords
                )

            result = jax.value_and_grad(losses, has_aux=True)(params, run)
            log_prob = run(params, "log_prob") if f"{call}/log_prob" in data else None
            return *result, run(params, "trace", **keywords), log_prob

        (total, found), gradients, traced, log_prob = everything(self.params)
        self._compare_losses(call, total, found)
        self._compare_trace(call, traced, valid)
        self._compare_statistics(call, traced["batch_statistics"])
        self._compare_gradients(call, gradients)
        if log_prob is not None:
            self._compare_log_prob(call, np.array(log_prob), schedule)

    def _compare_losses(self, call: str, total: jax.Array, found: dict[str, jax.Array]) -> None:
        prefix = f"{call}/loss/"
        names = {k.removeprefix(prefix) for k in self.data if k.startswith(prefix)}
        assert names == set(found), f"{call}: losses {set(found)}, expected {names}"
        for name in names:
            self.check.compare(prefix + name, found[name], self.data[prefix + name])
        self.check.compare(f"{call}/total_loss", total, self.data[f"{call}/total_loss"])

    def _compare_trace(self, call: str, traced: dict[str, Any], valid: np.ndarray | None) -> None:
        streams = {
            "emb_star_in": "value_in",
            "emb_hat_in": "query_in",
            "emb_star_out": "value_out",
            "emb_hat_out": "query_out",
            "tk_codes": "codes",
        }
        for theirs, ours in streams.items():
            expected = self.data[f"{call}/{theirs}"]
            found = traced[ours][..., : expected.shape[-1]]
            self.check.compare(f"{call}/{theirs}", found, expected)
        for name, raw in traced["predictions"].items():
            expected = self.data[f"{call}/pred/{name}"]
            rows = np.asarray(raw)
            if valid is not None:
                rows = rows[valid[:, np.asarray(traced["positions"][name])]]
            self.check.compare(f"{call}/pred/{name}", rows.reshape(expected.shape), expected)

    def _compare_statistics(self, call: str, batch: dict[str, Any]) -> None:
        """Running statistics after the call, where the file tells them from those before it.

        In the known files they do not: both entries show the memory of the same torch buffer, i.e.
        its final content (equal bit for bit), so the update rule has a test of its own.
        """
        if not batch:
            return
        after = updated_statistics({name: self.statistics[name] for name in batch}, batch)
        for rule in statistics_rules(self.config):
            expected = self.data.get(f"{call}/after/{rule.torch_name}")
            if expected is None or rule.path[0] not in after:
                continue
            if not np.array_equal(expected, self.data[f"w/{rule.torch_name}"]):
                key = f"{call}/after/{rule.torch_name}"
                self.check.compare(key, leaf(after, rule), expected)

    def _compare_gradients(self, call: str, gradients: Any) -> None:
        compared = 0
        for rule in parameter_rules(self.config):
            found = np.asarray(leaf(gradients, rule))
            norm = self.data.get(f"{call}/gradnorm/{rule.torch_name}")
            if norm is not None:
                key = f"{call}/gradnorm/{rule.torch_name}"
                self.check.compare(key, np.linalg.norm(found), norm)
                compared += 1
            full = self.data.get(f"{call}/grad/{rule.torch_name}")
            if full is not None:
                key = f"{call}/grad/{rule.torch_name}"
                self.check.compare(key, found, rule.layout(full))
        stored = [k for k in self.data if k.startswith(f"{call}/gradnorm/")]
        assert compared == len(stored), f"{call}: {compared} of {len(stored)} gradients compared"

    def _compare_log_prob(self, call: str, found: np.ndarray, schedule: ChunkSchedule) -> None:
        for i, token_id in enumerate(schedule.token_ids):
            # The published code returns the negative log-likelihood for these two heads.
            if self.config.tokens[token_id].predictor != "gmm":
                found[:, i] *= -1
        self.check.compare(f"{call}/log_prob", found, self.data[f"{call}/log_prob"])

    # -- generation ---------------------------------------------------------------------------

    def _generate(self, call: str) -> None:
        data, arguments = self.data, self._arguments(call)
        prompt = data[f"{call}/prompt_tks"]
        future = json.loads(str(data[f"{call}/future_json"]))
        length = prompt.shape[1]
        numbers = {c: length + i for i, c in enumerate(dict.fromkeys(f["chk_id"] for f in future))}
        chunks = [*range(length), *(numbers[f["chk_id"]] for f in future)]
        ids = (
            [*prompt[0, :, -1].astype(int), *(f["tk_id"] for f in future)]
            if length
            else [f["tk_id"] for f in future]
        )
        schedule = ChunkSchedule(
            tuple(ids), tuple(chunks), self._blocked(arguments), arguments.get("match_layer")
        )
        given = {length + i: f["tk_val"] for i, f in enumerate(future) if "tk_val" in f}
        out = data[f"{call}/out"]
        pickers = self._pickers(arguments.get("sample_function"), numbers, schedule, out)
        contexts = self._contexts(call, numbers)
        assert not arguments.get("sample"), "golden generations take the mode"
        facts: list[dict[str, Any]] = []  # static parts of the steps, filled while tracing

        @jax.jit
        def everything(params: Any) -> tuple[jax.Array, list[dict[str, Any]]]:
            generation = generate_with_trace(
                self.model,
                params,
                jnp.asarray(prompt[..., :-1], jnp.float32),
                schedule,
                contexts,
                given=given,
                statistics=self.statistics,
                pickers=pickers,
            )
            static = ("chunk", "fresh", "places")
            facts.extend({k: step[k] for k in static} for step in generation.steps)
            arrays = [{k: v for k, v in s.items() if k not in static} for s in generation.steps]
            return generation.values, arrays

        values, arrays = everything(self.params)
        self.check.compare(f"{call}/out", values[..., : out.shape[-1] - 1], out[..., :-1])
        steps = [fact | found for fact, found in zip(facts, arrays, strict=True)]
        self._compare_steps(call, steps, schedule)

    def _pickers(
        self, entry: Any, numbers: dict[int, int], schedule: ChunkSchedule, out: np.ndarray
    ) -> dict[int, Any]:
        """A custom choice is not in the file, its outcome is: hand that back as the choice."""
        chosen = [int(i) for i in re.findall(r"\d+", json.dumps(entry))]
        codes = encode_values(out[..., :-1], schedule.token_ids, self.config.tokens)
        pickers = {}
        for chunk in [numbers[i] for i in chosen if i in numbers]:
            known = codes[:, np.asarray(schedule.chunk_positions(chunk))]
            pickers[chunk] = lambda predictions, rng, known=known: known
        return pickers

    def _compare_steps(
        self, call: str, steps: list[dict[str, Any]], schedule: ChunkSchedule
    ) -> None:
        stored = {k.split("/")[1] for k in self.data if k.startswith(f"{call}/step")}
        assert len(stored) == len(steps), f"{call}: {len(steps)} passes, expected {len(stored)}"
        shape = (self.data[f"{call}/out"].shape[0], schedule.length, self.config.embed_dim)
        values_in, values_out = np.zeros(shape), np.zeros(shape)
        for k, step in enumerate(steps):
            fresh, key = list(step["fresh"]), f"{call}/step{k}"
            values_in[:, fresh] = step["rows_in"][:, : len(fresh)]
            values_out[:, fresh] = step["rows_out"][:, : len(fresh)]
            past = schedule.chunk_positions(step["chunk"])[0]
            for name, values in (("in", values_in), ("out", values_out)):
                rows = step[f"rows_{name}"][:, len(fresh) :]
                whole = np.concatenate([values[:, :past], rows], axis=1)
                self.check.compare(f"{key}/emb_{name}", whole, self.data[f"{key}/emb_{name}"])
            for name, raw in step["predictions"].items():
                expected = self.data[f"{key}/pred/{name}"]
                self.check.compare(
                    f"{key}/pred/{name}", np.asarray(raw).reshape(expected.shape), expected
                )
