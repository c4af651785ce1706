"""What a dry run in the twin has shown: numbers, JSON, a picture, and whether the arm may move.

In: the rows that `preflight.py` collected. Out: a `PreflightReport`, which refuses with reasons or
does not. The picture needs matplotlib; without it there is only JSON.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robot_bridge.arm import JOINTS

# Kinds of things that must keep apart, as `clearance.py` names them ("table:forearm", ...).
GROUPS = ("table", "self", "workspace")
APPROACH, RUN = "approach", "run"


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a dry run must keep to be allowed on the arm.

    Attributes:
        intervened_share: of the run's ticks at which safety changed the wish.
        held_share: of the run's ticks at which safety kept the arm where it was.
        clearance_m: that the twin keeps from table, itself and the workspace's walls. It follows
            its targets late and cuts corners, so the targets' own distance would be too much.
    """

    intervened_share: float = 0.25
    held_share: float = 0.05
    clearance_m: float = 0.0

    def __post_init__(self) -> None:
        for name in ("intervened_share", "held_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"preflight {name} must be 0 ... 1, found {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class Row:
    """One tick.

    Attributes:
        time_s: since the dry run began.
        phase: `APPROACH` or `RUN`.
        wish, command, achieved: [A] what was wanted, what safety made of it, where the twin was
            at that moment; rad and opening.
        speeds: [6] of the twin, rad/s.
        clearances: [C] m, of `achieved`, in the order of `Clearance.names`.
        interventions: by name.
        touching: bodies on the table.
    """

    time_s: float
    phase: str
    wish: np.ndarray
    command: np.ndarray
    achieved: np.ndarray
    speeds: np.ndarray
    clearances: np.ndarray
    interventions: tuple[str, ...]
    touching: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Closest:
    """The smallest distance of one group: between what, and when."""

    distance_m: float
    what: str
    time_s: float


@dataclasses.dataclass(frozen=True)
class PreflightReport:
    """A dry run.

    Attributes:
        source: who wished.
        reasons: why the arm may not move; () when it may.
        rows: every tick.
        names: of the clearances' columns.
        period_s: of the control loop.
        finished: the source came to its end.
        wall_s: how long the dry run took.
    """

    source: str
    reasons: tuple[str, ...]
    rows: tuple[Row, ...]
    names: tuple[str, ...]
    period_s: float
    finished: bool
    wall_s: float

    @property
    def verdict(self) -> str:
        """ "ok" or "refuse"."""
        return "refuse" if self.reasons else "ok"

    @property
    def run(self) -> tuple[Row, ...]:
        """The ticks at which the source decided."""
        return tuple(row for row in self.rows if row.phase == RUN)

    @property
    def interventions(self) -> dict[str, int]:
        """Of safety, while the source decided: name -> ticks."""
        return dict(Counter(name for row in self.run for name in row.interventions).most_common())

    @property
    def closest(self) -> dict[str, Closest]:
        """Of each of `GROUPS`, over approach and run; {} without a tick."""
        return closest_of(self.rows, self.names)

    def speeds(self) -> dict[str, np.ndarray]:
        """Largest of the run, [6] rad/s: wished and commanded (from tick to tick), achieved."""
        none = np.zeros(len(JOINTS))
        # The wish that ended it may be no number.
        run = [row for row in self.run if np.isfinite(row.wish).all()]
        if len(run) < 2:
            return {"wished": none, "commanded": none, "achieved": none}
        steps = {
            name: np.abs(np.diff([getattr(row, field)[: len(JOINTS)] for row in run], axis=0))
            for name, field in (("wished", "wish"), ("commanded", "command"))
        }
        speeds = {name: step.max(axis=0) / self.period_s for name, step in steps.items()}
        return speeds | {"achieved": np.abs([row.speeds for row in run]).max(axis=0)}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; angles in degrees, for people."""
        speeds = {name: np.round(np.degrees(v), 2).tolist() for name, v in self.speeds().items()}
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "source": self.source,
            "finished": self.finished,
            "ticks": {phase: count_of(self.rows, phase) for phase in (APPROACH, RUN)},
            "simulated_s": round(len(self.rows) * self.period_s, 3),
            "wall_s": round(self.wall_s, 3),
            "interventions": self.interventions,
            "largest_speed_deg_s": {"joints": list(JOINTS), **speeds},
            "closest": {k: dataclasses.asdict(v) for k, v in self.closest.items()},
        }


def count_of(rows: Sequence[Row], phase: str) -> int:
    """Number of ticks of a phase."""
    return sum(row.phase == phase for row in rows)


def closest_of(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Closest]:
    """The smallest distance of each of `GROUPS`; {} without a tick."""
    if not rows:
        return {}
    distances, found = np.array([row.clearances for row in rows]), {}
    for group in GROUPS:
        columns = [i for i, name in enumerate(names) if name.startswith(f"{group}:")]
        if not columns:
            continue
        worst = int(distances[:, columns].argmin())
        row, column = worst // len(columns), columns[worst % len(columns)]
        distance = round(float(distances[row, column]), 5)
        found[group] = Closest(distance, names[column], rows[row].time_s)
    return found


def broken_rules(rows: Sequence[Row], names: Sequence[str], rules: Rules) -> list[str]:
    """Reasons against the arm's doing the same, in words."""
    reasons, run = [], [row for row in rows if row.phase == RUN]
    for group, closest in closest_of(rows, names).items():
        if closest.distance_m < rules.clearance_m:
            reasons.append(
                f"{group}: the twin came to {1000 * closest.distance_m:.0f} mm "
                f"({closest.what.split(':')[1]}, at {closest.time_s:.1f} s); "
                f"{1000 * rules.clearance_m:.0f} mm are required"
            )
    touched = next((row for row in rows if row.touching), None)
    if touched is not None:
        bodies = ", ".join(touched.touching)
        reasons.append(f"the twin touched the table ({bodies}, at {touched.time_s:.1f} s)")
    if run:
        held = sum(any(n.startswith("held:") for n in row.interventions) for row in run)
        intervened = sum(bool(row.interventions) for row in run)
        for count, allowed, what in (
            (held, rules.held_share, "held the arm"),
            (intervened, rules.intervened_share, "changed the wish"),
        ):
            if count > allowed * len(run):
                reasons.append(
                    f"safety {what} at {count} of {len(run)} ticks; "
                    f"{100 * allowed:.0f} % are allowed"
                )
    return reasons


def save_picture(report: PreflightReport, path: Path) -> bool:
    """Draws wishes, commands, the twin's angles and its clearances over time.

    Returns:
        Whether the picture was written: matplotlib is optional, and there must be a tick.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not report.rows:
        return False
    times = [row.time_s for row in report.rows]
    size = len(report.rows[0].command)
    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.subplots(4, 2, sharex=True).ravel()
    for joint, axis in enumerate(axes[:size]):
        angle = joint < len(JOINTS)
        for field, style in (("wish", ":"), ("command", "-"), ("achieved", "--")):
            values = np.array([getattr(row, field)[joint] for row in report.rows])
            axis.plot(times, np.degrees(values) if angle else values, style, label=field)
        middle, half = float(np.mean(axis.get_ylim())), 0.5 * float(np.ptp(axis.get_ylim()))
        half = max(half, 1.0 if angle else 0.05)  # rounding must not look like motion
        axis.set_ylim(middle - half, middle + half)
        axis.set_title(f"{JOINTS[joint]}, degrees" if angle else "gripper, 0 ... 1", fontsize=9)
    axes[0].legend(fontsize=8)
    distances = np.array([row.clearances for row in report.rows])
    for group in GROUPS:
        columns = [i for i, name in enumerate(report.names) if name.startswith(f"{group}:")]
        axes[7].plot(times, 1000 * distances[:, columns].min(axis=1), label=group)
    axes[7].axhline(0, color="black", linewidth=0.5)
    axes[7].set_title("clearance of the twin, mm", fontsize=9)
    axes[7].legend(fontsize=8)
    figure.suptitle("\n".join([f"{report.source}: {report.verdict}", *report.reasons]), fontsize=9)
    FigureCanvasAgg(figure).print_png(str(path))
    return True
