"""One small-model golden file: its model and parameters through the importer, and its arguments.

In: the arrays of a file. Out: an ``ArpCase`` that runs every call in it; what is compared in a
training call is in ``arp_training_call``, in a generation in ``arp_generation_call``.
"""

import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.arp import config_from_reference, convert_arp
from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.generate import ChunkContexts
from tests.golden_files import GoldenCheck
from tests.interop.formula_weights import formula_state

Arrays = dict[str, np.ndarray]


class ArpCase:
    """One golden file as a model, its parameters and its calls."""

    def __init__(self, data: Arrays, check: GoldenCheck) -> None:
        self.data, self.check = data, check
        self.config = config_from_reference(json.loads(str(data["cfg_json"])))
        self.model = ChunkTransformer(self.config)
        state = {k[2:]: v for k, v in data.items() if k.startswith("w/")}
        if "state_dict_json" in data:
            state |= formula_state(json.loads(str(data["state_dict_json"])))
        self.params, self.statistics, report = convert_arp(state, self.config)
        report.raise_if_incomplete(check.name)

    def calls(self) -> tuple[list[str], list[str]]:
        """Names of the training calls and of the generations; an unknown entry fails."""
        groups = sorted({k.split("/")[0] for k in self.data})
        training = [g for g in groups if re.fullmatch(r"train\d*", g)]
        generations = [g for g in groups if re.fullmatch(r"gen\d+", g)]
        known = {"cfg_json", "meta_json", "state_dict_json", "w", *training, *generations}
        assert set(groups) <= known, f"unknown entries {set(groups) - known}"
        return training, generations

    def keys_of(self, call: str, known: str) -> set[str]:
        """Entries of one call without its name; fails on one that does not match ``known``."""
        keys = {k.removeprefix(f"{call}/") for k in self.data if k.startswith(f"{call}/")}
        strange = {k for k in keys if not re.fullmatch(known, k)}
        assert not strange, f"{call}: unknown entries {strange}"
        return keys

    def arguments(self, call: str) -> dict[str, Any]:
        """The arguments that are not arrays; an unknown one fails."""
        key = f"{call}/args_json"
        found = json.loads(str(self.data[key])) if key in self.data else {}
        known = {"block_attn_directions", "match_layer", "none_contexts", "skip_tokens"}
        known |= {"log_prob", "sample", "sample_function", "per_chunk_context_keys"}
        assert set(found) <= known, f"{call}: unknown arguments {set(found) - known}"
        return found

    def blocked(self, arguments: dict[str, Any]) -> tuple[tuple[int, int], ...]:
        """Blocked directions as type ids, given as names or as ids."""
        return tuple(
            (self.token_id(a), self.token_id(b))
            for a, b in arguments.get("block_attn_directions") or []
        )

    def token_id(self, entry: str | int) -> int:
        """Type id of an id or a name."""
        return self.config.token_id(entry) if isinstance(entry, str) else int(entry)

    # -- contexts -----------------------------------------------------------------------------

    def context(self, name: str, value: np.ndarray) -> jax.Array:
        """A stored context as our models take it."""
        maps = {
            option
            for t in self.config.tokens
            for option in (t.predictor_option("attn_with"), t.embedding_option("sampling_from"))
        }
        # Published feature maps have channels first, ours last.
        return jnp.asarray(value.transpose(0, 2, 3, 1) if name in maps else value)

    def contexts(self, call: str) -> dict[str, Any]:
        """Contexts that hold for a whole call."""
        arguments = self.arguments(call)
        found: dict[str, Any] = {name: None for name in arguments.get("none_contexts") or []}
        per_chunk = arguments.get("per_chunk_context_keys") or {}
        for key, value in self.data.items():
            match = re.fullmatch(rf"{call}/ctx/(.+)", key)
            if match and match[1].rsplit("/", 1)[0] not in per_chunk:
                found[match[1]] = self.context(match[1], value)
        return found

    def chunk_contexts(self, call: str, numbers: dict[int, int]) -> dict[str, ChunkContexts]:
        """Contexts that differ between chunks; ``numbers`` turns published chunk ids into ours."""
        found = {}
        per_chunk = self.arguments(call).get("per_chunk_context_keys") or {}
        for name, keys in per_chunk.items():
            stored = [self.data.get(f"{call}/ctx/{name}/{j}") for j in range(len(keys))]
            values = [None if v is None else self.context(name, v) for v in stored]
            members = [
                None
                if k == "default"
                else tuple(numbers.get(int(i), -1) for i in (k if isinstance(k, list) else [k]))
                for k in keys
            ]
            if None not in members:  # published: such a chunk runs without the context
                members, values = [*members, None], [*values, None]
            found[name] = ChunkContexts(tuple(values), tuple(members))
        return found
