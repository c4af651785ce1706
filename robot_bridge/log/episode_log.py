"""The log of one episode on the robot, written while it runs and readable after any crash.

In: a header (specs, instruction, robot, versions), then a step per tick and markers. Out: a file of
checked records (`log_records.py`), each a msgpack map; and back again, up to the last whole record.
Pictures stay encoded. Becoming a training set is `datasets/convert_bridge_log.py`'s business.

A killed writer loses nothing that `step` returned from; loss of power costs at most the steps since
the last marker.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgpack
import numpy as np

from arp_jax.specs import ActionSpec, ObservationSpec
from robot_bridge.log.log_records import Damage, RecordFile, read_records

SUFFIX = ".arplog"
SOURCES = ("policy", "teach", "takeover", "replay", "script")
MARKERS = ("success", "failure", "intervention_begin", "intervention_end", "note")
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Header:
    """What holds for the whole episode.

    Attributes:
        observation: vector features and cameras of each step.
        action: what is commanded.
        instruction: the task in words, "" when there is none.
        robot: who moves, e.g. {"name": "mycobot320", "port": "/dev/ttyACM0", "firmware": "6.6"}.
        versions: of packages, the artifact and its content hash, ...
        read_after_send: whether a step's `achieved` was read after its command was sent.
        started_ns: wall clock at the start, ns since 1970; 0: now.
    """

    observation: ObservationSpec
    action: ActionSpec
    instruction: str = ""
    robot: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    read_after_send: bool = True
    started_ns: int = 0


@dataclasses.dataclass(frozen=True)
class Step:
    """One tick of the control loop.

    Attributes:
        time_ns: monotonic time at which the newest observation was taken up, ns; rises from step
            to step, even if nothing newer had come. The other times are of the same clock.
        vectors: vector features of the spec, name -> float32 [D].
        frames: camera -> PNG or JPEG bytes, which any viewer shows in the right colors. In the
            file a picture that equals the camera's last one is left out; a read step always has
            all of them.
        frame_times_ns: camera -> when the picture was taken.
        command: float32 [A], what was sent, after all safety checks.
        command_time_ns: when it was sent.
        proposed: float32 [A], what the source wanted before safety; None: the same as `command`.
        achieved: float32 [D], joint readings; None: no reading.
        achieved_time_ns: when they were read.
        source: who chose the action: "policy", "teach" (hand guiding), "takeover" (a person, from
            afar), "replay" (a recorded episode) or "script" (key poses).
        flags: what safety did and noticed, e.g. ("clamped:j3", "gripper_not_measured").
    """

    time_ns: int
    vectors: Mapping[str, np.ndarray]
    frames: Mapping[str, bytes]
    command: np.ndarray
    source: str
    command_time_ns: int = 0
    frame_times_ns: Mapping[str, int] = dataclasses.field(default_factory=dict)
    proposed: np.ndarray | None = None
    achieved: np.ndarray | None = None
    achieved_time_ns: int = 0
    flags: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Marker:
    """Something that happened before step number `step`.

    Attributes:
        name: of `MARKERS`.
        step: number of steps logged before it.
        time_ns: monotonic.
        text: for a person.
    """

    name: str
    step: int
    time_ns: int
    text: str = ""


@dataclasses.dataclass(frozen=True)
class EpisodeLog:
    """A log as read.

    Attributes:
        header, steps, markers: up to the last whole record.
        end: why the episode ended, as its writer said; None: the writer was killed.
        damage: what could not be read, None when nothing was lost.
    """

    path: Path
    header: Header
    steps: tuple[Step, ...]
    markers: tuple[Marker, ...]
    end: str | None
    damage: Damage | None

    @property
    def state(self) -> str:
        """In words: complete, or what is missing."""
        if self.damage is not None:
            return f"{len(self.steps)} steps recovered; {self.damage}"
        if self.end is None:
            return f"{len(self.steps)} steps; its writer was killed, no record is incomplete"
        return f"{len(self.steps)} steps, complete"

    @property
    def outcome(self) -> bool | None:
        """Success (True) or failure (False) by the last such marker, None without one."""
        named = [m.name for m in self.markers if m.name in ("success", "failure")]
        return named[-1] == "success" if named else None

    @property
    def intervened(self) -> np.ndarray:
        """bool [T]: steps between an intervention's begin and its end (or the log's)."""
        inside = np.zeros(len(self.steps), bool)
        for marker in self.markers:
            if marker.name in ("intervention_begin", "intervention_end"):
                inside[marker.step :] = marker.name == "intervention_begin"
        return inside


class EpisodeLogWriter:
    """Writes one log; a context manager, for one thread.

    Every call may wait for the disk (markers always do): not for the thread that keeps the clock.

    Args:
        path: file to create, `SUFFIX` by custom.
        header: of the episode.

    Raises:
        FileExistsError: the file exists.
    """

    def __init__(self, path: Path, header: Header) -> None:
        if header.started_ns == 0:
            header = dataclasses.replace(header, started_ns=time.time_ns())
        self.header, self.steps = header, 0
        self._last_frames: dict[str, bytes] = {}
        self._file = RecordFile(path)
        self._append("header", _header_fields(header), sync=True)

    def step(self, step: Step) -> None:
        """Logs one step; it is with the operating system when this returns.

        Raises:
            ValueError: the step is not what the header's specs say; nothing is written.
            OSError: the disk is full; the log stays readable.
        """
        where = f"{self._file.path}: step {self.steps}"
        _check_step(self.header, step, where, self._last_frames)
        frames = {k: v for k, v in step.frames.items() if self._last_frames.get(k) != v}
        self._append("step", _step_fields(step, self.steps, frames))
        self._last_frames |= frames
        self.steps += 1

    def marker(self, name: str, text: str = "") -> None:
        """Marks the present moment and waits for the disk; `name` is of `MARKERS`."""
        if name not in MARKERS:
            raise ValueError(f"{self._file.path}: marker {name!r} is unknown; use one of {MARKERS}")
        fields = {"name": name, "step": self.steps, "time_ns": time.monotonic_ns(), "text": text}
        self._append("marker", fields, sync=True)

    def close(self, reason: str = "finished") -> None:
        """Writes the end record, waits for the disk and closes the file."""
        self._append("end", {"reason": reason, "steps": self.steps}, sync=True)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        kind, error, _ = raised
        self.close("finished" if kind is None else f"{kind.__name__}: {error}")

    def _append(self, kind: str, fields: Mapping[str, Any], sync: bool = False) -> None:
        self._file.append(msgpack.packb({"kind": kind, **fields}))
        if sync:
            self._file.sync()


def read_log(path: str | Path) -> EpisodeLog:
    """Reads a log up to its last whole record.

    Raises:
        ValueError: the file is no log, its header is lost, or a record that passed its CRC does
            not make sense (another version's writer).
    """
    path = Path(path)
    header: Header | None = None
    steps: list[Step] = []
    markers: list[Marker] = []
    end: str | None = None
    damage: Damage | None = None
    for number, record in enumerate(read_records(path)):
        if isinstance(record, Damage):
            damage = record
            break
        try:
            kind, fields = _unpack_record(record)
            if header is None:
                header = _read_header(kind, fields)
            elif kind == "step":
                steps.append(_read_step(header, fields, steps))
            elif kind == "marker":
                markers.append(Marker(**fields))
            elif kind == "end":
                end = str(fields["reason"])
            else:
                raise ValueError(f"kind {kind!r} is unknown")
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path}: record {number}: {reason}; another version's?") from error
    if header is None:
        lost = f" ({damage})" if damage is not None else ""
        raise ValueError(f"{path}: the log ends before its header{lost}; nothing to recover")
    return EpisodeLog(path, header, tuple(steps), tuple(markers), end, damage)


def _unpack_record(record: bytes) -> tuple[str, dict[str, Any]]:
    try:
        fields = msgpack.unpackb(record)
    except msgpack.UnpackException as error:
        raise ValueError(f"no msgpack ({type(error).__name__})") from error
    if not isinstance(fields, dict) or "kind" not in fields:
        raise ValueError("no map with a kind")
    return fields.pop("kind"), fields


def _header_fields(header: Header) -> dict[str, Any]:
    plain = {f.name: getattr(header, f.name) for f in dataclasses.fields(header)}
    return plain | {
        "version": _VERSION,
        "observation": header.observation.to_json(),
        "action": header.action.to_json(),
        "robot": dict(header.robot),
        "versions": dict(header.versions),
    }


def _read_header(kind: str, fields: dict[str, Any]) -> Header:
    if kind != "header":
        raise ValueError(f"the first record is a {kind}, not the header")
    if (version := fields.pop("version")) != _VERSION:
        raise ValueError(f"log version {version}, this program reads {_VERSION}")
    return Header(
        observation=ObservationSpec.from_json(fields.pop("observation")),
        action=ActionSpec.from_json(fields.pop("action")),
        **fields,
    )


def _check_step(header: Header, step: Step, where: str, known: Mapping[str, bytes]) -> None:
    if step.source not in SOURCES:
        raise ValueError(f"{where}: source {step.source!r} is unknown; use one of {SOURCES}")
    expected = {feature.name: feature.size for feature in header.observation.features}
    if set(step.vectors) != set(expected):
        raise ValueError(f"{where}: vectors {sorted(step.vectors)}, expected {sorted(expected)}")
    cameras = {camera.name for camera in header.observation.cameras}
    if not set(step.frames) <= cameras or not cameras <= set(step.frames) | set(known):
        raise ValueError(f"{where}: pictures of {sorted(step.frames)}, expected {sorted(cameras)}")
    sizes = [(name, step.vectors[name], size) for name, size in expected.items()]
    sizes.append(("command", step.command, header.action.size))
    if step.proposed is not None:
        sizes.append(("proposed", step.proposed, header.action.size))
    for name, value, size in sizes:
        if np.shape(value) != (size,):
            raise ValueError(f"{where}: {name} has shape {np.shape(value)}, expected ({size},)")


def _step_fields(step: Step, number: int, frames: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "step": number,
        "time_ns": step.time_ns,
        "vectors": {name: _pack(value) for name, value in step.vectors.items()},
        "frames": dict(frames),
        "frame_times_ns": dict(step.frame_times_ns),
        "command": _pack(step.command),
        "command_time_ns": step.command_time_ns,
        "proposed": None if step.proposed is None else _pack(step.proposed),
        "achieved": None if step.achieved is None else _pack(step.achieved),
        "achieved_time_ns": step.achieved_time_ns,
        "source": step.source,
        "flags": list(step.flags),
    }


def _read_step(header: Header, fields: dict[str, Any], before: Sequence[Step]) -> Step:
    number, last = len(before), before[-1].frames if before else {}
    if (found := fields.pop("step")) != number:
        raise ValueError(f"step {found} where {number} should be")
    for name in ("command", "proposed", "achieved"):
        fields[name] = None if fields[name] is None else _unpack(fields[name])
    fields["vectors"] = {name: _unpack(value) for name, value in fields["vectors"].items()}
    fields["frames"] = {**last, **fields["frames"]}
    step = Step(**fields | {"flags": tuple(fields["flags"])})
    _check_step(header, step, f"step {number}", {})
    return step


def _pack(values: Any) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def _unpack(content: bytes) -> np.ndarray:
    return np.frombuffer(content, "<f4").astype(np.float32)
