"""What the checks of a dataset speak of: findings, their kinds, an episode as a check sees it.

In: nothing but plain values. Out: `Finding`, the table `KINDS` (how serious a kind of finding is
and what to do about it), `EpisodeView`, and the rule that a consequence is not reported beside its
cause. The checks are in `checks/`, reading and reporting in `validate*.py`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from arp_jax.data.rlds import DatasetSpecs

ACTION = "action"
OBSERVATION = "observation/"
SEVERITIES = ("error", "warning", "note")
# Sentence vectors are [T, 512] of one value each: not a signal that moves.
EMBEDDING = "embedding"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of finding: "error", "warning" or "note", and what to do about it."""

    severity: str
    advice: str


KINDS: Mapping[str, Kind] = {
    # Reading
    "unreadable": Kind("error", "copy the file again or rebuild the dataset; --fix drops it"),
    "missing_field": Kind("error", "the specs name an observation that the episode lacks"),
    "wrong_shape": Kind("error", "make the specs and the stored array agree"),
    # Steps
    "one_step": Kind("error", "nothing can be learned from it; --fix drops it"),
    "length_outlier": Kind("warning", "look whether the recording was cut or forgotten"),
    "flag_missing": Kind("error", "the other episodes have it; --fix sets it"),
    "flag_misplaced": Kind("error", "readers that trust the flags cut here; --fix sets it"),
    "flags_unset": Kind("warning", "usual in published sets; our readers do not need it"),
    "time_backwards": Kind("error", "time must rise from step to step: repair the recording"),
    "time_gap": Kind("warning", "steps were lost: cut the episode there"),
    "time_rate": Kind("warning", "the specs' rate_hz is another: correct one of them"),
    # Numbers
    "not_finite": Kind("error", "training would end in NaN; --fix trims or drops"),
    "action_range": Kind("error", "correct the limits in the specs, or --fix with --clip"),
    "observation_range": Kind("warning", "correct the limits in the specs, or the sensor"),
    "constant_dim": Kind("warning", "it teaches nothing; is the sensor connected?"),
    "at_rest": Kind("note", "nothing to learn from it; leave it out of the observation"),
    "jump": Kind("warning", "one step of movement that no other episode has"),
    "value_outlier": Kind("warning", "far outside of what the other episodes hold"),
    "degrees": Kind("error", "degrees where radians are declared, or the reverse: convert"),
    "scale": Kind("error", "the unit is another than the declared one: convert"),
    # Action against state
    "stuck_sensor": Kind("warning", "the value stays while its action moves"),
    "no_motion": Kind("warning", "the action never changes in this episode"),
    "first_action_jump": Kind("warning", "the robot would leap when it starts to play this back"),
    "delta_as_absolute": Kind("error", "the action is a change; the specs say target"),
    "absolute_as_delta": Kind("error", "the action is a target; the specs say change"),
    "misaligned": Kind("error", "action and observation are shifted against each other"),
    "gripper_stuck": Kind("warning", "the measured gripper stays while it is commanded"),
    "gripper_range": Kind("error", "the specs' convention is 0 .. 1"),
    "gripper_inverted": Kind("error", "open and closed are exchanged in this episode"),
    "gripper_sense": Kind("warning", "the measured gripper is stored with the opposite sense"),
    # Pictures and words
    "undecodable": Kind("error", "the picture is damaged; --fix trims or drops"),
    "blank_frame": Kind("error", "one picture of a single color; --fix trims or drops"),
    "blank_camera": Kind("warning", "the camera shows a single color all along: leave it out"),
    "duplicate_frames": Kind("warning", "the picture stays while the robot moves"),
    "slow_camera": Kind("note", "does the camera run slower than the control rate?"),
    "image_size": Kind("error", "make the specs and the pictures agree"),
    "camera_size": Kind("warning", "all pictures have one other size: correct the specs or card"),
    "language_missing": Kind("warning", "write the instruction, or train without language"),
    "language_changes": Kind("warning", "one episode, one task: cut it or correct the text"),
    # Episodes among each other
    "duplicate_episode": Kind("warning", "the same numbers twice; --fix drops the second"),
}

_BY_SIZE = ("action_range", "observation_range", "jump", "value_outlier", "first_action_jump")
_BY_PAIR = ("misaligned", "stuck_sensor", "no_motion", "scale", "duplicate_frames")
# What a defect of one kind makes other checks see as well, and how near the two must be: in the
# same episode ("episode"), field ("field") or dimension ("dim").
CONSEQUENCES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "degrees": (
        "episode",
        (*_BY_SIZE, *_BY_PAIR, "delta_as_absolute", "absolute_as_delta", "gripper_range"),
    ),
    "scale": ("episode", (*_BY_SIZE, "misaligned", "delta_as_absolute", "absolute_as_delta")),
    "delta_as_absolute": ("episode", (*_BY_SIZE, *_BY_PAIR, "gripper_range")),
    "absolute_as_delta": ("episode", (*_BY_SIZE, *_BY_PAIR, "degrees")),
    "one_step": ("episode", ("length_outlier", "duplicate_episode", "blank_camera")),
    "length_outlier": ("episode", ("no_motion", "value_outlier")),
    "no_motion": ("episode", ("misaligned", "first_action_jump", "stuck_sensor")),
    "gripper_range": ("episode", ("action_range", "jump", "value_outlier")),
    "gripper_inverted": ("episode", ("jump", "value_outlier")),
    "gripper_stuck": ("dim", ("stuck_sensor", "constant_dim")),
    "constant_dim": ("dim", ("stuck_sensor", "gripper_stuck")),
    "stuck_sensor": (
        "episode",
        ("misaligned", "jump", "delta_as_absolute", "absolute_as_delta", "scale"),
    ),
    "not_finite": ("field", ("stuck_sensor", "jump", "no_motion", "misaligned")),
    "action_range": ("dim", ("jump", "value_outlier", "first_action_jump")),
    "observation_range": ("dim", ("jump", "value_outlier")),
    "jump": ("dim", ("value_outlier", "first_action_jump")),
    "first_action_jump": ("dim", ("jump",)),
    "undecodable": ("field", ("image_size", "duplicate_frames", "blank_frame")),
    "blank_frame": ("field", ("duplicate_frames",)),
    "blank_camera": ("field", ("duplicate_frames",)),
    "time_backwards": ("field", ("time_gap", "time_rate")),
    "flags_unset": ("field", ("flag_missing",)),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One defect, or one suspicion.

    Attributes:
        kind: key of `KINDS`.
        message: what was found, in numbers.
        episode: number in the split; None for the dataset as a whole.
        step: the first step concerned, counted from 0.
        field: "action", "observation/state", "is_last", ...; "" for the episode as a whole.
        dim: name of the dimension, or "".
        file: the shard that holds the episode.
        steps: how many steps are concerned.
        last: the last step concerned, where that differs from the first.
    """

    kind: str
    message: str
    episode: int | None = None
    step: int | None = None
    field: str = ""
    dim: str = ""
    file: str = ""
    steps: int = 1
    last: int | None = None

    @property
    def severity(self) -> str:
        """ "error", "warning" or "note"."""
        return KINDS[self.kind].severity

    @property
    def signal(self) -> str:
        """The field with the dimension, e.g. "action[x]"."""
        return f"{self.field}[{self.dim}]" if self.dim else self.field

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"severity": self.severity, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class EpisodeView:
    """One episode as the checks see it.

    Attributes:
        number: of the episode in its split.
        length: T.
        specs: of the dataset.
        vectors: "action" and "observation/NAME" -> float64 [T, D], of the specs' sizes and finite
            (NaN and infinity were reported and bridged).
        images: camera -> [T] encoded pictures or uint8 [T, H, W, 3].
        flags: "is_first", "is_last", "is_terminal" -> bool [T], those that are stored.
        times: names of stored time stamps -> float64 [T].
        texts: names of stored instructions -> T strings.
        language: the episode's instructions; None where the dataset has no language at all.
    """

    number: int
    length: int
    specs: DatasetSpecs
    vectors: Mapping[str, np.ndarray]
    images: Mapping[str, Sequence[bytes] | np.ndarray]
    flags: Mapping[str, np.ndarray]
    times: Mapping[str, np.ndarray]
    texts: Mapping[str, Sequence[str]]
    language: tuple[str, ...] | None

    def finding(self, kind: str, message: str, **where: Any) -> Finding:
        """A finding in this episode."""
        return Finding(kind, message, self.number, **where)


def without_consequences(findings: Iterable[Finding]) -> list[Finding]:
    """The findings without those that another one of the same episode explains."""
    found = list(findings)
    places: dict[tuple[str, int | None], set[str]] = {}
    for finding in found:
        scope, hidden = CONSEQUENCES.get(finding.kind, ("", ()))
        for kind in hidden:
            key = (kind, finding.episode)
            places.setdefault(key, set()).add(_place(finding, scope))
    return [f for f in found if not _explained(f, places)]


def _place(finding: Finding, scope: str) -> str:
    return {"episode": "", "field": finding.field, "dim": finding.signal}[scope]


def _explained(finding: Finding, places: Mapping[tuple[str, int | None], set[str]]) -> bool:
    # A finding on the whole dataset explains those of every episode.
    causes = places.get((finding.kind, finding.episode), set()) | places.get(
        (finding.kind, None), set()
    )
    return bool(causes & {"", finding.field, finding.signal})
