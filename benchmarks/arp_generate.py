"""How fast does ARP generate, beside the PyTorch reference with the same weights?

The chunk transformer alone (no image encoder), in the published Push-T and ALOHA configurations,
for several chunk sizes, at batch 1 and 32. The sides run in turn, each in its own process, after
their outputs were found equal. Without --reference only ours is measured. Example (15 minutes; huge
pages save page faults of temporaries, see benchmarks/README.md):

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \\
        python benchmarks/arp_generate.py --reference CLONE_OF_MLZXY_ARP --json out.json
"""

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from arp_reference import load_reference, random_weights, reference_model
from hardware import hardware, write_report
from sides import Side, in_turn

from arp_jax.interop.arp import initial_statistics
from arp_jax.models.arp_config import ArpConfig
from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.generate import generate
from arp_jax.policies import arp_aloha_config, arp_config
from arp_jax.policies.plan_labels import chunk_blocks
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from arp_jax.specs import PolicySpec

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch")
TOLERANCE = 1e-3  # of values around 1: two frameworks, up to 120 layers one after the other
PUBLISHED = "published"
CHUNKS = (PUBLISHED, "1", "4", "10", "whole")
# Batch 1 on two cores; what the project promises of the ratio.
TARGETS = {
    ("push_t", PUBLISHED): 8,
    ("push_t", "1"): 12,
    ("aloha", PUBLISHED): 2,
    ("aloha", "1"): 6,
}


class Case(NamedTuple):
    """One sequence to generate: [given tokens | predicted tokens]."""

    config: ArpConfig
    schedule: ChunkSchedule
    prompt_length: int
    context_name: str
    context_tokens: int


class Row(NamedTuple):
    """One measurement; milliseconds are medians over calls."""

    model: str
    chunk: str
    batch: int
    passes: int
    compile_s: float
    ours_ms: float
    reference_ms: float | None
    ratio: float | None
    difference: float | None


def push_t_case(chunk: str) -> Case:
    """2 positions | 4 plan points | 16 actions; context of 2 tokens; 30 layers of width 64."""
    observation = OBSERVATION_SPEC.select(("agent_pos", "image"))
    spec = PolicySpec(observation, ACTION_SPEC, 2, 16, -1)
    config = arp_config.transformer_config(arp_config.published_push_t(), spec)
    # Rows of a table: chunks of 20 tokens need 20 of them.
    config = dataclasses.replace(config, max_chunk_size=20)
    ids = (0, 0, *(1,) * 4, *(2,) * 16)
    if chunk == "whole":
        chunks = (0, 1, *(2,) * 20)
    else:
        size = 16 if chunk == PUBLISHED else int(chunk)
        plan = chunk_blocks(2, 4, min(size, 4))
        chunks = (0, 1, *plan, *chunk_blocks(plan[-1] + 1, 16, size))
    return Case(config, ChunkSchedule(ids, chunks), 2, arp_config.OBSERVATION, 2)


def aloha_case(chunk: str) -> Case:
    """State | 100 actions; context of 301 tokens; 4 layers of width 512."""
    config = arp_aloha_config.published_aloha()
    spec = arp_aloha_config.published_aloha_spec()
    size = spec.horizon if chunk in (PUBLISHED, "whole") else int(chunk)
    chunks = (0, *chunk_blocks(1, spec.horizon, size))
    schedule = ChunkSchedule((0, *(1,) * spec.horizon), chunks)
    transformer = arp_aloha_config.transformer_config(config, spec)
    return Case(transformer, schedule, 1, arp_aloha_config.TOKENS, 301)


CASES = {"push_t": push_t_case, "aloha": aloha_case}


class Inputs(NamedTuple):
    """Prompt [B, P, D] and context [B, S, C], float32."""

    prompt: np.ndarray
    context: np.ndarray


def random_inputs(case: Case, batch: int) -> Inputs:
    """The same for both sides."""
    rng = np.random.default_rng(0)
    width = max(case.config.tokens[t].dim for t in case.schedule.token_ids)
    prompt = rng.uniform(-1, 1, (batch, case.prompt_length, width)).astype(np.float32)
    shape = (batch, case.context_tokens, case.config.embed_dim)
    return Inputs(prompt, rng.standard_normal(shape, np.float32))


def our_side(model: str, chunk: str, batch: int) -> Callable[[], Any]:
    """Our generation as a call that returns values [B, L, D]."""
    case = CASES[model](chunk)
    network, known = ChunkTransformer(case.config), initial_statistics(case.config)

    @jax.jit
    def run(params: Any, prompt: jax.Array, context: jax.Array) -> jax.Array:
        contexts = {case.context_name: context}
        return generate(network, params, prompt, case.schedule, contexts, statistics=known)

    tree = (random_weights(case.config), *random_inputs(case, batch))
    on_device = jax.tree.map(jnp.asarray, tree)
    return lambda: np.asarray(run(*on_device))


def reference_side(clone: Path, model: str, chunk: str, batch: int) -> Callable[[], Any]:
    """The reference's generation of the same sequence."""
    module, case = load_reference(clone), CASES[model](chunk)
    import torch

    policy = reference_model(module, case.config, random_weights(case.config))
    inputs = random_inputs(case, batch)
    ids = np.asarray(case.schedule.token_ids[: case.prompt_length], np.float32)
    ids = np.broadcast_to(ids[None, :, None], (*inputs.prompt.shape[:2], 1))
    tokens = torch.tensor(np.concatenate([inputs.prompt, ids], axis=-1))
    future = [
        {"chk_id": case.schedule.chunk_ids[i], "tk_id": case.schedule.token_ids[i]}
        for i in range(case.prompt_length, case.schedule.length)
    ]
    contexts = {case.context_name: torch.tensor(inputs.context)}

    def run() -> np.ndarray:
        with torch.inference_mode():
            return policy.generate(tokens, future, contexts=contexts).numpy()[..., :-1]

    return run


def measure(model: str, chunk: str, batch: int, clone: Path | None, seconds: float) -> Row:
    """One row; raises SystemExit when the two sides disagree."""
    case, arguments = CASES[model](chunk), (model, chunk, batch)
    passes = case.schedule.num_chunks - case.schedule.chunk_ids[case.prompt_length]
    sides = [Side(our_side, *arguments)]
    if clone is not None:
        sides.append(Side(reference_side, clone, *arguments))
    difference = None
    if clone is not None:
        difference = float(np.abs(sides[0].first - sides[1].first).max())
        if not difference < TOLERANCE:
            raise SystemExit(f"{model}, chunk {chunk}, batch {batch}: differ by {difference}")
    medians = [statistics.median(times) for times in in_turn(sides, seconds)]
    for side in sides:
        side.close()
    reference_ms = medians[1] if clone is not None else None
    ratio = None if reference_ms is None else reference_ms / medians[0]
    compile_s = sides[0].first_seconds
    return Row(model, chunk, batch, passes, compile_s, medians[0], reference_ms, ratio, difference)


def print_row(row: Row) -> None:
    """One line of the table."""
    line = f"{row.model:7s} {row.chunk:>9s} {row.batch:5d} {row.passes:6d} {row.compile_s:9.1f}"
    line += f" {row.ours_ms:9.1f}"
    if row.reference_ms is not None and row.ratio is not None:
        line += f" {row.reference_ms:12.1f} {row.ratio:6.1f}x {row.difference:10.1e}"
        target = TARGETS.get((row.model, row.chunk)) if row.batch == 1 else None
        line += f"  (target {target}x)" if target else ""
    print(line, flush=True)


def main() -> None:
    """Measures, prints a line per case, and writes JSON when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--reference", type=Path, help="a clone of github.com/mlzxy/arp")
    parser.add_argument("--models", default="push_t,aloha", help="which of push_t, aloha")
    parser.add_argument("--chunks", default=",".join(CHUNKS), help="tokens per chunk")
    parser.add_argument("--batches", default="1,32", help="observations at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="measuring time of each row")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    models, chunks = args.models.split(","), args.chunks.split(",")
    for flag, found, known in (("models", models, CASES), ("chunks", chunks, CHUNKS)):
        unknown = [name for name in found if name not in known]
        if unknown:
            parser.error(f"--{flag} {unknown[0]!r} is unknown; choose from {', '.join(known)}")

    if args.reference is not None:
        load_reference(args.reference)  # a bad path fails here, before any measurement
    machine = hardware(PACKAGES)
    print(json.dumps(machine))
    if args.reference is None:
        print("no --reference: only ours is measured, there is no ratio", file=sys.stderr)
    print("model       chunk batch passes compile_s   ours_ms reference_ms  ratio difference")
    rows = []
    for model in models:
        for batch in map(int, args.batches.split(",")):
            for chunk in chunks:
                rows.append(measure(model, chunk, batch, args.reference, args.seconds))
                print_row(rows[-1])
    if args.json is not None:
        write_report(args.json, machine, rows)


if __name__ == "__main__":
    main()
