"""What each dimension of a dataset is: its unit, its limits, whether it is an angle or a gripper.

In: `DatasetSpecs`. Out: a table of `Dim`s, and `Pair`s: which dimension of the action drives which
measured one. Specs name one unit for a vector ("rad"), or several ("px, px, rad", "m, rad, gripper
0..1"); the rules by which a dimension gets its own are here. No values are read.
"""

import dataclasses
import re

from arp_jax.data.checks.findings import ACTION, EMBEDDING, OBSERVATION
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.specs import ActionSpec, FeatureSpec

LENGTHS, ANGLES = ("m", "cm", "mm", "px"), ("rad", "deg")
_GRIPPER = re.compile(r"gripper|finger", re.IGNORECASE)
_POSITION = re.compile(r"(^|_)[xyz]$")
_ANGLE = re.compile(r"(^|_)(roll|pitch|yaw|angle|theta|r[xyz])$")
_QUATERNION = re.compile(r"(^|_)q[wxyz0-3]$")
# Rates and forces jump when something is touched, and no action is their target.
_RATE = re.compile(r"/s|^N( |$)|vel|force|torque|effort|current", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Dim:
    """One dimension of a vector.

    Attributes:
        field: "action" or "observation/NAME".
        index, name: in that vector.
        unit: "rad", "m", ...; "" when the specs do not tell.
        low, high: limits, or None.
        gripper: whether it is a gripper's opening.
        rate: whether it is a velocity, force or the like.
        absolute: of the action: target or change; True for observations.
    """

    field: str
    index: int
    name: str
    unit: str
    low: float | None
    high: float | None
    gripper: bool
    rate: bool
    absolute: bool = True

    @property
    def angle(self) -> bool:
        """Whether its unit is one of angles."""
        return self.unit in ANGLES

    @property
    def turn(self) -> float | None:
        """What is the same angle again; None for other units."""
        return {"rad": 2 * 3.141592653589793, "deg": 360.0}.get(self.unit)

    @property
    def quaternion(self) -> bool:
        """Whether it belongs to a quaternion, whose sign may flip."""
        return self.unit == "quaternion"

    @property
    def extent(self) -> float:
        """high - low; 0 without limits."""
        return 0.0 if self.low is None or self.high is None else self.high - self.low


@dataclasses.dataclass(frozen=True)
class Pair:
    """An action dimension and the measured dimension that it drives."""

    action: Dim
    state: Dim


def dims_of(specs: DatasetSpecs) -> dict[str, tuple[Dim, ...]]:
    """Every vector field of the specs, embeddings of sentences left out, with its dimensions."""
    table = {ACTION: _action_dims(specs.action)}
    for feature in specs.observation.features:
        if EMBEDDING not in feature.name:
            table[OBSERVATION + feature.name] = _feature_dims(feature)
    return table


def pairs_of(specs: DatasetSpecs) -> tuple[Pair, ...]:
    """Action dimensions that have a measured one of the same name.

    Positions and angles pair where frame and unit are the same; grippers always. The feature
    that shares most names with the action comes first.
    """
    table = dims_of(specs)
    actions = table.pop(ACTION)
    frames = {OBSERVATION + f.name: f.frame for f in specs.observation.features}
    names = {dim.name for dim in actions}
    fields = sorted(table, key=lambda f: -sum(d.name in names for d in table[f]))
    pairs = []
    for action in actions:
        for field in fields:
            match = next((d for d in table[field] if d.name == action.name and not d.rate), None)
            if match is None:
                continue
            like = frames[field] == specs.action.frame and match.unit == action.unit
            if like or action.gripper:
                pairs.append(Pair(action, match))
                break
    return tuple(pairs)


def unit_of(name: str, index: int, size: int, units: str) -> str:
    """The unit of one dimension of a vector of `size` whose specs say `units`.

    "px, px, rad" names one a dimension; otherwise the dimension's name chooses among those named.
    """
    parts = [part.strip() for part in units.split(",") if part.strip()]
    if len(parts) == size and len(set(parts)) > 1:
        is_quaternion = parts[index] == "1" and _QUATERNION.search(name)
        return "quaternion" if is_quaternion else parts[index]
    # "gripper 0..1" is a remark on the gripper, not a unit of the others.
    plain = [part.split(" ")[0] for part in parts if not _GRIPPER.search(part)]
    if _GRIPPER.search(name):
        return ""
    if _QUATERNION.search(name) and "rad" not in plain:
        return "quaternion"
    wanted = LENGTHS if _POSITION.search(name) else ANGLES if _ANGLE.search(name) else ()
    chosen = [unit for unit in plain if unit in wanted]
    if chosen:
        return chosen[0]
    return plain[0] if len(plain) == 1 else ""


def _action_dims(spec: ActionSpec) -> tuple[Dim, ...]:
    return tuple(
        _dim(ACTION, i, spec.dims, spec.unit, "", spec.low, spec.high, spec.absolute[i])
        for i in range(spec.size)
    )


def _feature_dims(spec: FeatureSpec) -> tuple[Dim, ...]:
    field = OBSERVATION + spec.name
    return tuple(
        _dim(field, i, spec.dims, spec.unit, spec.name, spec.low, spec.high, True)
        for i in range(spec.size)
    )


def _dim(
    field: str,
    index: int,
    names: tuple[str, ...],
    units: str,
    title: str,
    low: tuple[float, ...] | None,
    high: tuple[float, ...] | None,
    absolute: bool,
) -> Dim:
    unit = unit_of(names[index], index, len(names), units)
    return Dim(
        field=field,
        index=index,
        name=names[index],
        unit=unit,
        low=None if low is None else low[index],
        high=None if high is None else high[index],
        gripper=bool(_GRIPPER.search(names[index])),
        rate=bool(_RATE.search(unit) or _RATE.search(title)),
        absolute=absolute,
    )
