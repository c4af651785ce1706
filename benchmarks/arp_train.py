"""How fast does ARP train, beside the PyTorch reference with the same weights?

One training step (forward, backward, AdamW; dropout on) of the published Push-T transformer with
its heat-map and Gaussian heads, without the image encoder: 22 tokens, 30 layers of width 64. Both
sides run in turn, each in its own process, after their losses without dropout were found equal.
Without --reference only ours is measured. Example (5 minutes; huge pages save page faults):

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \\
        python benchmarks/arp_train.py --reference CLONE_OF_MLZXY_ARP --json out.json
"""

import argparse
import dataclasses
import functools
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from arp_generate import PACKAGES, PUBLISHED, Case, push_t_case
from arp_reference import load_reference, random_weights, reference_model
from hardware import hardware, write_report
from sides import Side, in_turn

from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.tokens import freeze_options
from arp_jax.policies.plan_labels import gaussian_heatmaps

TOLERANCE = 1e-4  # of the loss, relative
TARGET = 1.5
TURN = 12.0  # seconds: steps follow each other, as in training
LEARNING_RATE, BETAS, WEIGHT_DECAY = 1e-4, (0.95, 0.999), 1e-3
MAP = "smooth-heatmap"


class Row(NamedTuple):
    """One measurement; milliseconds are medians over steps."""

    batch: int
    compile_s: float
    ours_ms: float
    reference_ms: float | None
    ratio: float | None
    difference: float | None


class Sample(NamedTuple):
    """A batch: values [B, 22, 2], context [B, 2, C], label maps [B * 4, 96, 96], float32."""

    values: np.ndarray
    context: np.ndarray
    maps: np.ndarray


def labelled_case() -> Case:
    """The published Push-T sequence, its plan points labelled by the context `MAP`."""
    case = push_t_case(PUBLISHED)
    plan = case.config.tokens[1]
    options = {**dict(plan.predictor_options), "label_name": MAP}
    plan = dataclasses.replace(plan, predictor_options=freeze_options(options))
    tokens = (case.config.tokens[0], plan, *case.config.tokens[2:])
    return case._replace(config=dataclasses.replace(case.config, tokens=tokens))


def random_sample(case: Case, batch: int) -> Sample:
    """Positions and actions in [-1, 1], plan points in pixels with their label maps."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, (batch, case.schedule.length, 2)).astype(np.float32)
    plan = case.schedule.positions_of(1)
    values[:, plan[0] : plan[-1] + 1] = rng.integers(0, 96, (batch, len(plan), 2))
    points = jnp.asarray(values[:, plan[0] : plan[-1] + 1].reshape(-1, 1, 2))
    maps = np.asarray(gaussian_heatmaps(points, 96, 96, 1.0)).reshape(-1, 96, 96)
    shape = (batch, case.context_tokens, case.config.embed_dim)
    return Sample(values, rng.standard_normal(shape, np.float32), maps)


def our_side(batch: int) -> Callable[[], float]:
    """One call = one training step. The first returns the loss without dropout, before any step."""
    case = labelled_case()
    model = ChunkTransformer(case.config)
    tx = optax.adamw(LEARNING_RATE, *BETAS, weight_decay=WEIGHT_DECAY)
    values, context, maps = map(jnp.asarray, random_sample(case, batch))

    def loss(params: Any, key: jax.Array | None) -> jax.Array:
        found: Any = model.apply(
            {"params": params},
            values,
            case.schedule,
            {case.context_name: context, MAP: maps},
            train=key is not None,
            method="losses",
            rngs=None if key is None else {"dropout": key},
        )
        return sum(found.values())

    @functools.partial(jax.jit, donate_argnums=(0, 1))  # as arp_jax.train does
    def update(params: Any, opt_state: Any, step: jax.Array) -> tuple[Any, Any, jax.Array]:
        key = jax.random.fold_in(jax.random.key(0), step)
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, opt_state = tx.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    params = jax.tree.map(jnp.asarray, random_weights(case.config))
    state = {"now": (params, tx.init(params), 0)}

    def run() -> float:
        params, opt_state, step = state["now"]
        first = float(jax.jit(lambda p: loss(p, None))(params)) if step == 0 else None
        params, opt_state, value = update(params, opt_state, step)
        state["now"] = (params, opt_state, step + 1)
        value = float(value)
        return value if first is None else first

    return run


def reference_side(clone: Path, batch: int) -> Callable[[], float]:
    """The same of the reference."""
    module, case = load_reference(clone), labelled_case()
    import torch

    model = reference_model(module, case.config, random_weights(case.config))
    sample = random_sample(case, batch)
    ids = np.asarray(case.schedule.token_ids, np.float32)[None, :, None]
    ids = np.broadcast_to(ids, (*sample.values.shape[:2], 1))
    tokens = torch.tensor(np.concatenate([sample.values, ids], axis=-1))
    chunks = torch.tensor(case.schedule.chunk_ids)
    contexts = {case.context_name: torch.tensor(sample.context), MAP: torch.tensor(sample.maps)}
    optimizer = torch.optim.AdamW(
        model.parameters(), LEARNING_RATE, BETAS, weight_decay=WEIGHT_DECAY
    )

    def loss() -> Any:
        return sum(model.compute_loss(tokens, chunks, contexts=contexts).values())

    def run() -> float:
        first = None
        if not model.training:
            with torch.no_grad():
                first = float(loss())
            model.train()
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return float(value.detach()) if first is None else first

    return run


def measure(batch: int, clone: Path | None, seconds: float) -> Row:
    """One row; raises SystemExit when the two sides disagree."""
    sides = [Side(our_side, batch)]
    if clone is not None:
        sides.append(Side(reference_side, clone, batch))
    difference = None
    if clone is not None:
        loss, expected = sides[0].first, sides[1].first
        difference = abs(loss - expected) / abs(expected)
        if not difference < TOLERANCE:
            raise SystemExit(f"batch {batch}: loss {loss}, the reference has {expected}")
    medians = [statistics.median(times) for times in in_turn(sides, seconds, TURN)]
    for side in sides:
        side.close()
    reference_ms = medians[1] if clone is not None else None
    ratio = None if reference_ms is None else reference_ms / medians[0]
    return Row(batch, sides[0].first_seconds, medians[0], reference_ms, ratio, difference)


def main() -> None:
    """Measures, prints a line per batch size, and writes JSON when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--reference", type=Path, help="a clone of github.com/mlzxy/arp")
    parser.add_argument("--batches", default="32,128", help="examples per step")
    parser.add_argument("--seconds", type=float, default=60.0, help="measuring time of each row")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    if args.reference is not None:
        load_reference(args.reference)  # a bad path fails here, before any measurement
    machine = hardware(PACKAGES)
    print(json.dumps(machine))
    if args.reference is None:
        print("no --reference: only ours is measured, there is no ratio", file=sys.stderr)
    print("batch compile_s   ours_ms reference_ms  ratio loss_difference")
    rows = []
    for batch in map(int, args.batches.split(",")):
        row = measure(batch, args.reference, args.seconds)
        rows.append(row)
        line = f"{row.batch:5d} {row.compile_s:9.1f} {row.ours_ms:9.0f}"
        if row.reference_ms is not None:
            line += f" {row.reference_ms:12.0f} {row.ratio:6.2f}x {row.difference:.1e}"
            line += f"  (target {TARGET}x)"
        print(line, flush=True)
    if args.json is not None:
        write_report(args.json, machine, rows)


if __name__ == "__main__":
    main()
