"""One training call of a golden file: losses, streams, predictions, gradients, likelihoods.

In: an ``ArpCase`` and the name of the call. Out: nothing; every array goes to the case's check.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.arp import parameter_rules, statistics_rules
from arp_jax.interop.torch_state import leaf
from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.heatmap_head import CorrelationProjector, updated_statistics
from tests.golden_files import FAST_COMPILE
from tests.interop.arp_case import ArpCase

KNOWN = (
    r"tks|chk_ids|valid_tk_mask|args_json|ctx/.+|tk_codes|emb_(star|hat)_(in|out)|pred/.+|loss/.+|"
    r"total_loss|log_prob|gradnorm/.+|grad/.+|after/.+"
)
STREAMS = {
    "emb_star_in": "value_in",
    "emb_hat_in": "query_in",
    "emb_star_out": "value_out",
    "emb_hat_out": "query_out",
    "tk_codes": "codes",
}


def check_training_call(case: ArpCase, call: str) -> None:
    """Compare every stored result of ``call``."""
    TrainingCall(case, call).run()


class TrainingCall:
    """Arguments of one call in our terms, and its comparisons."""

    def __init__(self, case: ArpCase, call: str) -> None:
        self.case, self.call = case, call
        self.check, self.model = case.check, case.model
        self.keys = case.keys_of(call, KNOWN)
        arguments = case.arguments(call)
        tokens = self.stored("tks")
        length = tokens.shape[1]
        layout = tokens[..., -1].astype(int)
        chunks = self.stored("chk_ids", np.arange(length)).reshape(-1, length).astype(int)
        for rows in (layout, chunks):
            assert (rows == rows[0]).all(), f"{call}: rows of one batch differ in their layout"
        self.schedule = ChunkSchedule(
            tuple(layout[0]),
            tuple(chunks[0] - chunks[0, 0]),
            case.blocked(arguments),
            arguments.get("match_layer") or None,
        )
        self.values = jnp.asarray(tokens[..., :-1], jnp.float32)
        self.contexts = case.contexts(call)
        self.valid = self.stored("valid_tk_mask")
        skip = arguments.get("skip_tokens") or []
        self.skip = tuple(case.config.tokens[case.token_id(i)].name for i in skip)
        self.labels: dict[str, jax.Array] = {}
        self._spread_compact_contexts()

    def stored(self, key: str, default: Any = None) -> Any:
        return self.case.data.get(f"{self.call}/{key}", default)

    def compare(self, key: str, found: Any) -> None:
        self.check.compare(f"{self.call}/{key}", found, self.stored(key))

    # -- contexts given for the valid tokens only ---------------------------------------------

    def _spread_compact_contexts(self) -> None:
        """Published calls pass label and feature rows of valid tokens only; ours of all tokens.

        Such rows are put at their tokens, with copies of the first in between: no result may
        depend on those.
        """
        if self.valid is None:
            return
        tokens = list(self.case.config.tokens)
        for i, token in enumerate(tokens):
            if i not in self.schedule.token_ids or token.is_control or token.name in self.skip:
                continue
            mask = self.valid[:, np.asarray(self.schedule.positions_of(i))].reshape(-1)
            count = int(mask.sum())
            if count in (0, mask.size):
                continue
            place = np.where(mask, np.cumsum(mask) - 1, 0)
            label = self.contexts.get(token.predictor_option("label_name", ""))
            if label is not None and label.shape[0] == count:
                self.labels[token.name] = label[place]
            source = token.predictor_option("attn_with")
            features = self.contexts.get(source) if isinstance(source, str) else None
            if features is not None and features.shape[0] == count != 1:
                # Two types may share a map but not their valid tokens: each gets its own name.
                own = f"{source} of {token.name}"
                self.contexts[own] = features[place]
                options = dict(token.predictor_options) | {"attn_with": own}
                tokens[i] = dataclasses.replace(token, predictor_options=options)
        self.model = ChunkTransformer(dataclasses.replace(self.case.config, tokens=tuple(tokens)))

    # -- the run ------------------------------------------------------------------------------

    def run(self) -> None:
        values, schedule, contexts = self.values, self.schedule, self.contexts
        valid = None if self.valid is None else jnp.asarray(self.valid)
        keywords = {"valid": valid, "skip": self.skip, "labels": self.labels}
        is_whole = valid is None and not self.skip

        def losses(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            found = self.model.apply({"params": params}, values, schedule, contexts, **keywords)
            return sum(found.values(), start=jnp.zeros(())), found

        has_gradients = any(k.startswith("grad") for k in self.keys)

        @functools.partial(jax.jit, compiler_options=FAST_COMPILE)  # one program per call
        def everything(params: Any) -> tuple[Any, ...]:
            if has_gradients:
                result = jax.value_and_grad(losses, has_aux=True)(params)
            else:
                result = losses(params), None
            traced, kept = self.model.apply(
                {"params": params},
                values,
                schedule,
                contexts,
                method="trace",
                capture_intermediates=lambda m, _: isinstance(m, CorrelationProjector),
                mutable=["intermediates"],
                **keywords,
            )
            log_prob = None
            if "log_prob" in self.keys and is_whole:
                log_prob = self.model.apply(
                    {"params": params}, values, schedule, contexts, method="log_prob"
                )
            elif "log_prob" in self.keys:
                log_prob = nn.apply(self._log_prob_of, self.model)({"params": params}, traced)
            return *result, traced, kept.get("intermediates", {}), log_prob

        (total, found), gradients, traced, kept, log_prob = everything(self.case.params)
        is_defined = self._compare_losses(total, found)
        self._compare_trace(traced, kept)
        self._compare_statistics(traced["batch_statistics"])
        if is_defined:
            self._compare_gradients(gradients)
        if log_prob is not None:
            self._compare_log_prob(np.array(log_prob))

    def _log_prob_of(self, model: ChunkTransformer, traced: dict[str, Any]) -> jax.Array:
        """[B, L] from a trace: what ``log_prob`` has no arguments for (valid, skip)."""
        total = jnp.zeros(self.values.shape[:2])
        for name, raw in traced["predictions"].items():
            each = model.heads[name].log_prob(raw, traced["labels"][name])
            places = np.asarray(traced["positions"][name])
            kept = True if self.valid is None else self.valid[:, places]
            total = total.at[:, places].set(jnp.where(kept, each, 0.0))
        return total

    def _compare_losses(self, total: jax.Array, found: dict[str, jax.Array]) -> bool:
        """True unless a type has no valid token: the published mean is then NaN, ours 0."""
        names = {k.removeprefix("loss/") for k in self.keys if k.startswith("loss/")}
        assert names == set(found), f"{self.call}: losses {set(found)}, expected {names}"
        empty = {name for name in names if np.isnan(self.stored(f"loss/{name}"))}
        for name in names - empty:
            self.compare(f"loss/{name}", found[name])
        for name in empty:
            places = self.schedule.positions_of(self.case.token_id(name.rsplit(".", 1)[0]))
            assert not self.valid[:, np.asarray(places)].any(), f"{self.call}: {name} is NaN"
            assert found[name] == 0, f"{self.call}: {name} without a valid token is {found[name]}"
        if "total_loss" in self.keys and not empty:
            self.compare("total_loss", total)
        return not empty

    def _compare_trace(self, traced: dict[str, Any], kept: dict[str, Any]) -> None:
        for theirs in self.keys & set(STREAMS):
            width = self.stored(theirs).shape[-1]
            self.compare(theirs, traced[STREAMS[theirs]][..., :width])
        for key in [k for k in self.keys if k.startswith("pred/")]:
            name = key.removeprefix("pred/")
            if name.endswith("/corr_proj"):
                name = name.removesuffix("/corr_proj")
                rows = kept[f"heads_{name}"]["projector"]["__call__"][0][0]
                rows = np.asarray(rows).transpose(0, 3, 1, 2)
                rows = rows.reshape(len(self.values), -1, *rows.shape[1:])
            else:
                rows = np.asarray(traced["predictions"][name])
            if self.valid is not None:
                rows = rows[self.valid[:, np.asarray(traced["positions"][name])]]
            self.compare(key, rows.reshape(self.stored(key).shape))

    def _compare_statistics(self, batch: dict[str, Any]) -> None:
        """Running statistics after the call, where the file tells them from those before it.

        In the known files they do not: both entries show the memory of the same torch buffer, i.e.
        its final content (equal bit for bit), so the update rule has a test of its own.
        """
        before = {name: self.case.statistics[name] for name in batch}
        after = updated_statistics(before, batch) if batch else {}
        for rule in statistics_rules(self.case.config):
            key = f"after/{rule.torch_name}"
            if key not in self.keys or rule.path[0] not in after:
                continue
            if not np.array_equal(self.stored(key), self.case.data[f"w/{rule.torch_name}"]):
                self.compare(key, leaf(after, rule))

    def _compare_gradients(self, gradients: Any) -> None:
        rules = {rule.torch_name: rule for rule in parameter_rules(self.case.config)}
        for key in self.keys:
            kind, _, name = key.partition("/")
            if kind == "gradnorm":
                self.compare(key, np.linalg.norm(np.asarray(leaf(gradients, rules[name]))))
            elif kind == "grad":
                expected = rules[name].layout(self.stored(key))
                found = np.asarray(leaf(gradients, rules[name]))
                self.check.compare(f"{self.call}/{key}", found, expected)

    def _compare_log_prob(self, found: np.ndarray) -> None:
        for i, token_id in enumerate(self.schedule.token_ids):
            # The published code returns the negative log-likelihood for these two heads.
            if self.case.config.tokens[token_id].predictor != "gmm":
                found[:, i] *= -1
        self.compare("log_prob", found)
