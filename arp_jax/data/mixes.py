"""Which datasets are trained on together: the named mixes, and free ones.

Flows in: a name, or a list "PATH=WEIGHT,PATH=WEIGHT". Flows out: a `Mix`: members, weights, whose
statistics, what may differ. Plain data; a mix knows no sizes and opens no file. What becomes of it
with datasets at hand is `mixtures.py`.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

# "draw": a weight is the probability of being drawn. "step", "episode": it is multiplied by the
# member's number of examples or of episodes; with equal weights every step, or every episode's
# share of the steps, counts the same.
WEIGHTINGS = ("draw", "step", "episode")
# What members of a mix that says so may differ in.
DIFFERENCES = ("rate", "limits", "frame")


@dataclasses.dataclass(frozen=True)
class Mix:
    """What is mixed, and how.

    Attributes:
        members: (name, weight) each; the name is a folder. The first is the target.
        weighting: one of `WEIGHTINGS`.
        stats: members whose statistics normalise all; () means all members.
        validation_fraction: share of the target's episodes held out, as published; None where
            nothing is published.
        differences: what members may differ in, of `DIFFERENCES`.
        action_space: "rtx" where members are packed with the actions of RT-1-X, "" with their own.
        about: where it comes from.
    """

    members: tuple[tuple[str, float], ...]
    weighting: str = "step"
    stats: tuple[str, ...] = ()
    validation_fraction: float | None = None
    differences: tuple[str, ...] = ()
    action_space: str = ""
    about: str = ""

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise ValueError(
                f"mixture_weights {self.weighting!r} is unknown; choose one of {WEIGHTINGS}"
            )
        names = [name for name, _ in self.members]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"mixture: name every member once, found {names}")
        for name, weight in self.members:
            if not 0 < weight < float("inf"):
                raise ValueError(f"mixture: weight of {name!r} must be positive, found {weight}")
        for difference in self.differences:
            if difference not in DIFFERENCES:
                raise ValueError(
                    f"mixture_differences {difference!r} is unknown; choose from {DIFFERENCES}"
                )


# The set of static ALOHA; the folders of the others are named by their task.
STATIC = "aloha_compressed_dataset"


def _cotraining(train_ratio: float, weights: Mapping[str, float], stats: Sequence[str] = ()) -> Mix:
    """A Mobile ALOHA configuration; the first member is the task itself."""
    members = tuple(weights.items())
    return Mix(
        members,
        weighting="draw",
        stats=tuple(stats) or (members[0][0],),
        validation_fraction=round(1 - train_ratio, 6),
        about="Mobile ALOHA" + (", co-training with static ALOHA" if STATIC in weights else ""),
    )


_CABINET = {"cabinet": 6.0, "cabinet_handles": 1.0, "cabinet_grasp_pots": 1.0}
_ELEVATOR = {"elevator_truncated": 3.0, "elevator_2": 3.0, "elevator_button": 2.0}
_ELEVATOR_STATS = ("elevator_truncated", "elevator_2")

MIXES: dict[str, Mix] = {
    "rtx": Mix(
        members=(
            ("fractal20220817_data", 150.0),
            ("bridge", 50.0),
            ("taco_play", 5.0),
            ("jaco_play", 20.0),
            ("berkeley_cable_routing", 20.0),
            ("roboturk", 10.0),
            ("nyu_door_opening_surprising_effectiveness", 5.0),
            ("viola", 3.0),
            ("berkeley_autolab_ur5", 5.0),
            ("toto", 5.0),
        ),
        weighting="draw",
        differences=DIFFERENCES,
        action_space="rtx",
        about="RT-1-X training notebook, which leaves out kuka (20) and language_table (30)",
    ),
    "rtx_metric": Mix(
        members=(
            ("fractal20220817_data", 150.0),
            ("bridge", 50.0),
            ("taco_play", 5.0),
            ("roboturk", 10.0),
            ("berkeley_autolab_ur5", 5.0),
        ),
        weighting="draw",
        differences=DIFFERENCES,
        about="the members of rtx whose actions are relative and in metres and radians",
    ),
    "bridge_fractal": Mix(
        members=(("bridge", 1.0), ("fractal20220817_data", 1.0)),
        differences=DIFFERENCES,
        about="the two largest single-arm sets, every step equally likely",
    ),
    "wash_pan": _cotraining(0.9, {"wash_pan": 5, STATIC: 5}),
    "wipe_wine": _cotraining(0.9, {"wipe_wine": 5, STATIC: 5}),
    "wipe_wine_2": _cotraining(0.9, {"wipe_wine_2": 5, STATIC: 5}),
    "chair_truncated": _cotraining(0.95, {"chair_truncated": 5, STATIC: 5}),
    "shrimp_truncated": _cotraining(0.99, {"shrimp_truncated": 5, STATIC: 5}),
    "high_five": _cotraining(0.9, {"high_five": 7.5, STATIC: 2.5}),
    "cabinet": _cotraining(0.99, _CABINET | {STATIC: 2}),
    "cabinet_alone": _cotraining(0.99, _CABINET),
    "elevator_truncated": _cotraining(0.99, _ELEVATOR | {STATIC: 1}, _ELEVATOR_STATS),
    "elevator_truncated_alone": _cotraining(0.99, _ELEVATOR, _ELEVATOR_STATS),
}


def find_mix(text: str) -> Mix:
    """A named mix, or a free one of "PATH=WEIGHT,PATH=WEIGHT".

    Raises:
        ValueError: unknown name, or a part that is not PATH=WEIGHT.
    """
    if text in MIXES:
        return MIXES[text]
    if "=" not in text:
        close = difflib.get_close_matches(text, MIXES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(MIXES)}"
        raise ValueError(f"mixture {text!r} is unknown; {hint}, or write PATH=WEIGHT,PATH=WEIGHT")
    members = []
    for part in text.split(","):
        name, _, weight = (word.strip() for word in part.rpartition("="))
        try:
            members.append((name, float(weight)))
        except ValueError:
            name = ""
        if not name:
            raise ValueError(f"mixture: {part!r} is not PATH=WEIGHT")
    return Mix(tuple(members), about="free")


def override(mix: Mix, weighting: str, differences: str) -> Mix:
    """The mix with another weighting, or other permitted differences ("rate,limits"); "" keeps."""
    if weighting:
        mix = dataclasses.replace(mix, weighting=weighting)
    if differences:
        words = tuple(word.strip() for word in differences.split(","))
        mix = dataclasses.replace(mix, differences=words)
    return mix
