"""How fast do the policies train and act, beside their published PyTorch code with equal weights?

One training step (forward, backward, AdamW; dropout on) and one query, float32, of ACT (batch 8 and
1), Diffusion Policy (U-Net on key points, DDPM of 100 levels; batch 32 and 1), ARP (Push-T's
transformer and heads without the image encoder; batch 32 and 1) and a query of VINN. The sides run
in turn, each in its own process, after their outputs without dropout and noise were found equal:
actions, the style encoder's output, the U-Net's output, the loss. Without a clone only ours is
measured. Example (a quarter of an hour on 2 quiet cores; diffusers is for --diffusion_policy):

    pip install torch==2.13.0 einops diffusers
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python benchmarks/policies.py --act CLONE \\
        --diffusion_policy CLONE --vinn CLONE_OF_ACT_PLUS_PLUS --arp CLONE --json out.json
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import arp_generate
import arp_train
import numpy as np
import policies_ours as ours
import policies_reference as reference
from arp_reference import load_reference
from hardware import hardware, write_report
from sides import Side, in_turn

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "einops", "diffusers")
POLICIES = ("arp", "act", "diffusion", "vinn")
TOLERANCE = 1e-3  # of outputs around 1, relative to their largest
TARGETS = {"training step": 1.0, "query": 2.0}
TURN = {"training step": 8.0, "query": 1.0}  # seconds: steps follow each other, as in training
Build = Callable[..., Callable[[], Any]]


class Task(NamedTuple):
    """What is measured: a builder of each side with its arguments behind the clone."""

    policy: str
    what: str
    batch: int
    our_side: Build
    our_arguments: tuple[Any, ...]
    reference_side: Build
    reference_arguments: tuple[Any, ...]


class Row(NamedTuple):
    """One measurement.

    Attributes:
        first_s: seconds of our first call: compilation, and computing what is compared.
        ours_ms, reference_ms: medians over calls; ratio: theirs over ours.
        difference: of what both sides returned first, relative to its largest entry.
        stand_ins: packages that are replaced for the published code, see `policies_reference`.
    """

    policy: str
    what: str
    size: str
    batch: int
    first_s: float
    ours_ms: float
    reference_ms: float | None
    ratio: float | None
    difference: float | None
    stand_ins: tuple[str, ...]


def tasks(policy: str, size: str) -> list[Task]:
    """The measurements of a policy. ARP's are those of arp_train.py and arp_generate.py."""
    step, query = TARGETS
    if policy == "arp":
        published = ("push_t", arp_generate.PUBLISHED, 1)
        return [
            Task(policy, step, 32, arp_train.our_side, (32,), arp_train.reference_side, (32,)),
            Task(policy, query, 1, arp_generate.our_side, published,
                 arp_generate.reference_side, published),
        ]  # fmt: skip
    if policy == "vinn":
        sides = (ours.our_query, (size,), reference.vinn_query, (size,))
        return [Task(policy, query, 1, *sides)]
    batch = 8 if policy == "act" else 32
    training = getattr(reference, f"{policy}_training")
    inference = getattr(reference, f"{policy}_inference")
    train = (ours.our_training, (policy, size, batch), training, (size, batch))
    act = (ours.our_inference, (policy, size, 1), inference, (size, 1))
    return [Task(policy, step, batch, *train), Task(policy, query, 1, *act)]


def measure(task: Task, size: str, clone: Path | None, seconds: float) -> Row:
    """One row; raises SystemExit when the two sides disagree."""
    sides = [Side(task.our_side, *task.our_arguments)]
    missing: tuple[str, ...] = ()
    difference = ratio = theirs = None
    if clone is not None:
        sides.append(Side(task.reference_side, clone, *task.reference_arguments))
        missing = tuple(reference.stand_ins(task.policy)) if task.policy != "arp" else ()
        found, expected = (np.asarray(side.first, np.float64) for side in sides)
        difference = float(np.abs(found - expected).max() / np.abs(expected).max())
        if not difference < TOLERANCE:
            raise SystemExit(f"{task.policy}, {task.what}: the sides differ by {difference:.1e}")
    medians = [statistics.median(t) for t in in_turn(sides, seconds, TURN[task.what])]
    for side in sides:
        side.close()
    if clone is not None:
        theirs, ratio = medians[1], medians[1] / medians[0]
    place = (task.policy, task.what, size, task.batch, sides[0].first_seconds)
    return Row(*place, medians[0], theirs, ratio, difference, missing)


def describe(row: Row) -> str:
    """A line of the table."""
    line = f"{row.policy:10s} {row.what:14s} {row.batch:5d} {row.first_s:9.1f} {row.ours_ms:9.2f}"
    if row.ratio is not None:
        line += f" {row.reference_ms:12.2f} {row.ratio:6.2f}x {row.difference:.1e}"
        line += f"  (target {TARGETS[row.what]:g}x)"
    if row.stand_ins:
        line += f"  stand-ins: {', '.join(row.stand_ins)}"
    return line


def parse() -> argparse.Namespace:
    """The command line; a path that is no clone ends it before any measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--arp", type=Path, help="a clone of github.com/mlzxy/arp")
    add("--act", type=Path, help="a clone of github.com/tonyzhaozh/act")
    add("--diffusion_policy", type=Path, dest="diffusion", metavar="DIFFUSION_POLICY",
        help="a clone of github.com/real-stanford/diffusion_policy")  # fmt: skip
    add("--vinn", type=Path, help="a clone of github.com/MarkFzp/act-plus-plus")
    add("--only", default=",".join(POLICIES), help="some of " + ",".join(POLICIES))
    add("--what", choices=tuple(TARGETS), help="only the training step, or only the query")
    add("--size", choices=(ours.REFERENCE, ours.SMALL), default=ours.REFERENCE,
        help="small: minutes less, to try the benchmark (ARP has one size)")  # fmt: skip
    add("--seconds", type=float, default=40.0, help="measuring time of each row")
    add("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    for name in args.only.split(","):
        if name not in POLICIES:
            raise SystemExit(f"--only {name}: choose some of {','.join(POLICIES)}")
        clone = getattr(args, name)
        if clone is None:
            continue
        load_reference(clone) if name == "arp" else reference.check_clone(name, clone)
    return args


def main() -> None:
    """Measures, prints a line per measurement, and writes JSON when asked."""
    args = parse()
    machine = hardware(PACKAGES)
    print(json.dumps(machine))
    print("policy     what           batch   first_s   ours_ms reference_ms   ratio difference")
    rows = []
    for policy in args.only.split(","):
        clone = getattr(args, policy)
        if clone is None:
            print(f"no clone of {policy}: only ours is measured, there is no ratio")
        for task in tasks(policy, args.size):
            if args.what not in (None, task.what):
                continue
            rows.append(measure(task, args.size, clone, args.seconds))
            print(describe(rows[-1]), flush=True)
            if args.json is not None:
                write_report(args.json, machine, rows)


if __name__ == "__main__":
    main()
