"""What the numbers mean: names, units, frames and limits of observations and actions.

A dataset, a checkpoint and an artifact each carry these specs; `check_match` refuses to join two of
them that differ and names the field. Plain frozen dataclasses with a JSON round trip; no arrays, no
jax, no statistics (those are in `normalize.py`).
"""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Self


class SpecMismatch(ValueError):
    """Two specs that must agree do not; the message names the differing field."""


class _JsonSpec:
    """JSON round trip shared by the spec dataclasses (tuples are lists in JSON)."""

    def to_json(self) -> dict[str, Any]:
        """Returns a dict of plain JSON values."""
        return dataclasses.asdict(self, dict_factory=_spec_fields)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; raises ValueError naming an unknown or absent key."""
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(data) - set(fields))
        if unknown:
            raise ValueError(f"{cls.__name__}: unknown key {unknown[0]!r}; known: {sorted(fields)}")
        hints = typing.get_type_hints(cls)
        values = {key: _decode(hints[key], value) for key, value in data.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"{cls.__name__}: {error}; is the file complete?") from error


def _spec_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """All fields; those of a camera's view only where it is not the whole picture.

    So a spec without them is written as it always was, and older programs read it.
    """
    return {key: value for key, value in pairs if value or key not in ("crop", "keep")}


def _decode(hint: Any, value: Any) -> Any:
    """Turns a JSON value back into what the field's annotation says."""
    if isinstance(value, Mapping):
        return hint.from_json(value)
    if isinstance(value, list | tuple):
        inner = next((a for a in typing.get_args(hint) if a is not type(None)), Any)
        # `tuple[X, ...] | None` hides X one level deeper than `tuple[X, ...]`.
        if typing.get_args(inner):
            inner = typing.get_args(inner)[0]
        return tuple(_decode(inner, item) for item in value)
    return value


@dataclasses.dataclass(frozen=True)
class FeatureSpec(_JsonSpec):
    """A vector observation.

    Attributes:
        name: key in the observation dict.
        dims: one name per dimension; their number is the feature's size.
        unit: physical unit, e.g. "px", "rad", "m".
        frame: what the numbers are relative to, e.g. "world" or "base".
        low, high: limits per dimension in `unit`, or None when unbounded.
    """

    name: str
    dims: tuple[str, ...]
    unit: str
    frame: str
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_limits(f"feature {self.name!r}", len(self.dims), self.low, self.high)

    @property
    def size(self) -> int:
        """Number of dimensions."""
        return len(self.dims)


@dataclasses.dataclass(frozen=True)
class CameraSpec(_JsonSpec):
    """A camera image, uint8 [height, width, 3], channels in `color_order`.

    Rectangles are (left, top, right, bottom) in pixels, right and bottom excluded.

    Attributes:
        crop: part of the picture as captured that is scaled to height x width; None: all of it.
        keep: parts of the image outside of which it is black; (): nothing is.
    """

    name: str
    height: int
    width: int
    color_order: str = "rgb"
    crop: tuple[int, int, int, int] | None = None
    keep: tuple[tuple[int, int, int, int], ...] = ()

    def __post_init__(self) -> None:
        where = f"camera {self.name!r}"
        if self.color_order not in ("rgb", "bgr"):
            raise ValueError(f"{where}: color_order must be 'rgb' or 'bgr'")
        if self.crop is not None:
            _check_rectangle(f"{where}: crop", self.crop)
        for box in self.keep:
            _check_rectangle(f"{where}: keep", box)
            if box[2] > self.width or box[3] > self.height:
                size = f"{self.width} x {self.height}"
                raise ValueError(f"{where}: keep {box} leaves the image of {size}")


@dataclasses.dataclass(frozen=True)
class ObservationSpec(_JsonSpec):
    """Everything that a policy may see at one time step: vector features and cameras."""

    features: tuple[FeatureSpec, ...] = ()
    cameras: tuple[CameraSpec, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Keys of the observation dict, features first."""
        return tuple(f.name for f in self.features) + tuple(c.name for c in self.cameras)

    def feature(self, name: str) -> FeatureSpec:
        """The vector feature called `name`; raises ValueError when there is none."""
        for spec in self.features:
            if spec.name == name:
                return spec
        raise ValueError(f"no feature {name!r}; there are {[f.name for f in self.features]}")

    def select(self, names: Iterable[str]) -> "ObservationSpec":
        """The part of the spec with these names; raises ValueError naming an absent one."""
        wanted = tuple(names)
        absent = [name for name in wanted if name not in self.names]
        if absent:
            raise ValueError(f"no observation {absent[0]!r}; there are {list(self.names)}")
        return ObservationSpec(
            features=tuple(f for f in self.features if f.name in wanted),
            cameras=tuple(c for c in self.cameras if c.name in wanted),
        )


@dataclasses.dataclass(frozen=True)
class ActionSpec(_JsonSpec):
    """One action.

    Attributes:
        dims: one name per dimension.
        unit: physical unit of the non-gripper dimensions.
        frame: what the numbers are relative to.
        absolute: per dimension, True for a target, False for a change.
        low, high: limits per dimension, in `unit`.
        rate_hz: control rate at which actions are executed.
        gripper: convention of the gripper dimension ("open=1", "open=0"), or None without gripper.
    """

    dims: tuple[str, ...]
    unit: str
    frame: str
    absolute: tuple[bool, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rate_hz: float
    gripper: str | None = None

    def __post_init__(self) -> None:
        _check_limits("action", len(self.dims), self.low, self.high)
        if len(self.absolute) != len(self.dims):
            raise ValueError(
                f"action: {len(self.absolute)} 'absolute' flags, {len(self.dims)} dims"
            )
        if not self.rate_hz > 0:
            raise ValueError(f"action: rate_hz must be positive, found {self.rate_hz}")

    @property
    def size(self) -> int:
        """Number of action dimensions A."""
        return len(self.dims)


@dataclasses.dataclass(frozen=True)
class PolicySpec(_JsonSpec):
    """Signature of a policy.

    Attributes:
        observation: what it sees at each of `window` (W) time steps.
        action: what it commands.
        window: W, number of observations, the newest last.
        horizon: H, number of actions in one chunk.
        action_offset: time of the chunk's first action relative to the newest observation
            (ARP on Push-T: -(W-1) = -1, the chunk starts at the oldest observation).
    """

    observation: ObservationSpec
    action: ActionSpec
    window: int
    horizon: int
    action_offset: int = 0

    def __post_init__(self) -> None:
        if self.window < 1 or self.horizon < 1:
            raise ValueError(f"window and horizon must be >= 1: {self.window}, {self.horizon}")
        if not 0 <= self.first_executed < self.horizon:
            raise ValueError(f"action_offset {self.action_offset} leaves no action to execute")

    @property
    def observation_shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """name -> (dtype, shape without the batch axis), features first."""
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            feature.name: ("float32", (self.window, feature.size))
            for feature in self.observation.features
        }
        for camera in self.observation.cameras:
            shapes[camera.name] = ("uint8", (self.window, camera.height, camera.width, 3))
        return shapes

    @property
    def first_executed(self) -> int:
        """Index in the chunk of the action that belongs to the newest observation."""
        return -self.action_offset


def _check_limits(
    where: str, size: int, low: tuple[float, ...] | None, high: tuple[float, ...] | None
) -> None:
    if low is None and high is None:
        return
    if low is None or high is None or len(low) != size or len(high) != size:
        raise ValueError(f"{where}: low and high need {size} values each")
    if any(not lo < hi for lo, hi in zip(low, high, strict=True)):
        raise ValueError(f"{where}: every low must be below its high: {low} {high}")


def _check_rectangle(where: str, box: Any) -> None:
    if len(box) != 4 or not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
        raise ValueError(f"{where} must be (left, top, right, bottom) with an area; found {box}")


def check_match(expected: Any, found: Any, where: str) -> None:
    """Raises SpecMismatch naming the first field in which two specs differ.

    Args:
        expected: spec that must be met (for example a checkpoint's).
        found: spec offered (for example an environment's).
        where: how to call the pair in the message, e.g. "checkpoint runs/a and environment push_t".
    """
    difference = _first_difference(expected, found, type(expected).__name__)
    if difference is not None:
        path, left, right = difference
        raise SpecMismatch(f"{where} disagree on {path}: expected {left!r}, found {right!r}")


def _first_difference(left: Any, right: Any, path: str) -> tuple[str, Any, Any] | None:
    """Depth-first search for the first differing leaf; returns (path, left, right)."""
    if type(left) is not type(right):
        return None if left == right else (path, left, right)
    if dataclasses.is_dataclass(left):
        for field in dataclasses.fields(left):
            found = _first_difference(
                getattr(left, field.name), getattr(right, field.name), f"{path}.{field.name}"
            )
            if found is not None:
                return found
        return None
    if isinstance(left, tuple) and len(left) == len(right):
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            name = getattr(a, "name", index)
            found = _first_difference(a, b, f"{path}[{name}]")
            if found is not None:
                return found
        return None
    return None if left == right else (path, left, right)
