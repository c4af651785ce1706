"""A mixture of datasets: each one's share, what they must agree on, a table of what will be seen.

Flows in: a `Mix` (`mixes.py`), the members' specs and sizes. Flows out: exact shares, notes on
differences, or a SpecMismatch. The first member is the target: the robot and task that the policy
is for. Reading is `mixture_loader.py`.

    python -m arp_jax.data.mixtures                           lists the named mixes
    python -m arp_jax.data.mixtures a=3,b=1 --source DATA     the table of packs in DATA
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arp_jax.data.folders import find_dataset
from arp_jax.data.mixes import MIXES, WEIGHTINGS, Mix, find_mix, override
from arp_jax.data.order import block_counts
from arp_jax.data.store import open_pack
from arp_jax.specs import ActionSpec, ObservationSpec, SpecMismatch


@dataclasses.dataclass(frozen=True)
class MemberShare:
    """A member of an opened mixture.

    Attributes:
        name, weight: as in `Mix`.
        episodes, examples: what there is of it to train on; examples that were not counted (of a
            stream) are None.
        count: its examples in a block of `block` examples.
        notes: in what it differs from the target.
    """

    name: str
    weight: float
    episodes: int
    examples: int | None
    count: int
    block: int
    notes: tuple[str, ...] = ()

    @property
    def fraction(self) -> float:
        """Effective share of the training examples."""
        return self.count / self.block

    def epochs(self, drawn: int) -> float | None:
        """How often each of its examples was seen after `drawn` examples of the mixture."""
        return None if self.examples is None else drawn * self.fraction / self.examples


def raw_shares(mix: Mix, episodes: Sequence[int], examples: Sequence[int | None]) -> np.ndarray:
    """Shares [M] of the members, not adding up to 1: weight, times size where the mix says so.

    Args:
        mix: members and weighting.
        episodes, examples: of each member, what is trained on; examples only where they count.
    """
    weights = np.asarray([weight for _, weight in mix.members])
    sizes = {"draw": np.ones(len(weights)), "step": examples, "episode": episodes}[mix.weighting]
    return weights * np.asarray(sizes, np.float64)


def member_shares(
    mix: Mix,
    episodes: Sequence[int],
    examples: Sequence[int | None],
    notes: Sequence[Sequence[str]] | None = None,
) -> list[MemberShare]:
    """Shares of the members, exact as the loader will draw them.

    Args:
        mix: members and weighting.
        episodes, examples: as for `raw_shares`.
        notes: of each member, see `MemberShare`.

    Raises:
        ValueError: a member is too rare; see `order.block_counts`.
    """
    shares = raw_shares(mix, episodes, examples)
    counts = block_counts((shares / shares.sum()).tolist())
    return [
        MemberShare(
            *mix.members[index],
            int(episodes[index]),
            examples[index],
            int(counts[index]),
            int(counts.sum()),
            tuple(notes[index]) if notes else (),
        )
        for index in range(len(shares))
    ]


def check_agreement(
    mix: Mix, specs: Sequence[tuple[ObservationSpec, ActionSpec]]
) -> list[list[str]]:
    """What the members' specs differ in, where they may.

    Names, order and units of dimensions, absolute or delta, the gripper's convention, sizes and
    colors of cameras must be the target's. Rate, limits and frame may differ where the mix says so.

    Args:
        mix: the members' names and what they may differ in.
        specs: (observation, action) of each member, of the observations that are used.

    Returns:
        Notes of each member, "rate_hz 5.0 (target 10.0)".

    Raises:
        SpecMismatch: naming the member, the field and both values.
    """
    target, expected = mix.members[0][0], dict(_fields(*specs[0]))
    notes = []
    for (name, _), spec in zip(mix.members, specs, strict=True):
        found, differing = dict(_fields(*spec)), []
        for field, (kind, value) in expected.items():
            other = found.get(field, (kind, None))[1]
            if other == value:
                continue
            if kind not in mix.differences:
                way = f"; allow it with data.mixture_differences={kind!r}" if kind else ""
                raise SpecMismatch(
                    f"mixture: {name} and {target} differ in {field}: expected {value!r}, "
                    f"found {other!r}{way}"
                )
            differing.append(f"{field} {_short(other)} (target {_short(value)})")
        notes.append(differing)
    return notes


def _fields(
    observation: ObservationSpec, action: ActionSpec
) -> Iterator[tuple[str, tuple[str, Any]]]:
    """(name of a field, (kind of `DIFFERENCES` or "", value))."""
    for name in ("dims", "unit", "absolute", "gripper"):
        yield f"action.{name}", ("", getattr(action, name))
    yield "action.rate_hz", ("rate", action.rate_hz)
    yield "action.frame", ("frame", action.frame)
    yield "action limits", ("limits", (action.low, action.high))
    for feature in observation.features:
        yield f"{feature.name}.dims", ("", feature.dims)
        yield f"{feature.name}.unit", ("", feature.unit)
        yield f"{feature.name}.frame", ("frame", feature.frame)
        yield f"{feature.name} limits", ("limits", (feature.low, feature.high))
    for camera in observation.cameras:
        yield f"size of {camera.name}", ("", (camera.height, camera.width))
        yield f"{camera.name}.color_order", ("", camera.color_order)
        yield f"view of {camera.name}", ("", (camera.crop, camera.keep))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def mixture_table(shares: Sequence[MemberShare], batches: int, batch_size: int) -> Table:
    """What will be seen of each member in `batches` batches."""
    drawn = batches * batch_size
    title = f"mixture: {batches:,} batches of {batch_size}"
    table = Table("dataset", title=title, box=box.SIMPLE, title_justify="left")
    for column in ("weight", "episodes", "examples", "share", "drawn", "epochs"):
        table.add_column(column, justify="right")
    table.add_column("differs from the target in")
    for member in shares:
        table.add_row(
            escape(member.name),
            f"{member.weight:g}",
            f"{member.episodes:,}",
            _or_dash(member.examples, ",d"),
            f"{member.fraction:.2%}",
            f"{drawn * member.fraction:,.0f}",
            _or_dash(member.epochs(drawn), ".2f"),
            escape("\n".join(member.notes)),
        )
    return table


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _list_mixes() -> Table:
    table = Table("mix", "members (weight)", "weights by", "statistics of", "about", box=box.SIMPLE)
    for name, mix in MIXES.items():
        members = ", ".join(f"{member} ({weight:g})" for member, weight in mix.members)
        stats = ", ".join(mix.stats) or "all"
        table.add_row(name, members, mix.weighting, stats, mix.about)
    return table


def _table_of_packs(mix: Mix, source: Path, steps: int, batch_size: int) -> Table:
    packs = [open_pack(find_dataset(source / name), memory_budget=0) for name, _ in mix.members]
    specs = []
    for pack in packs:
        if pack.observation_spec is None or pack.action_spec is None:
            raise ValueError(f"{pack.directory}: the pack says nothing about its units")
        specs.append((pack.observation_spec, pack.action_spec))
    shared = [n for n in specs[0][0].names if all(n in spec.names for spec, _ in specs)]
    notes = check_agreement(mix, [(spec.select(shared), action) for spec, action in specs])
    episodes, examples = [p.num_episodes for p in packs], [p.num_steps for p in packs]
    return mixture_table(member_shares(mix, episodes, examples, notes), steps, batch_size)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m arp_jax.data.mixtures",
        description="Without arguments: the named mixes. With one: what training would see of it.",
    )
    parser.add_argument("mixture", nargs="?", help="a name, or PATH=WEIGHT,PATH=WEIGHT")
    parser.add_argument("--source", default="", help="folder of the members' packs")
    parser.add_argument("--weights", choices=WEIGHTINGS, help="instead of the mix's own")
    parser.add_argument("--differences", help="what may differ, e.g. rate,limits")
    parser.add_argument("--steps", type=int, default=10_000, help="training steps")
    parser.add_argument("--batch_size", type=int, default=128)
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        if args.mixture is None:
            console.print(_list_mixes())
            return 0
        mix = override(find_mix(args.mixture), args.weights or "", args.differences or "")
        console.print(_table_of_packs(mix, Path(args.source), args.steps, args.batch_size))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
