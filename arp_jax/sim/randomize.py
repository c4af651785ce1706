"""Domain randomisation: one number an episode for each model field that varies.

In: ranges (`FieldRange`) and a model. Out: draws [R] and the model fields that they mean, as a dict
for `Start.fields`. The draws are part of an episode's initial condition, so that they are recorded
with the results. Nothing is drawn here by itself: the caller passes a key.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

# Field -> kind of object that its rows belong to, for looking up names.
FIELDS = {
    "geom_friction": "geom",
    "geom_rgba": "geom",
    "body_mass": "body",
    "dof_damping": "joint",
    "dof_frictionloss": "joint",
    "dof_armature": "joint",
    "actuator_gainprm": "actuator",
    "actuator_biasprm": "actuator",
    "pair_friction": "pair",
}


@dataclasses.dataclass(frozen=True)
class FieldRange:
    """A model field that one uniform number per episode changes.

    Attributes:
        field: name of an MjModel field, one of `FIELDS`.
        names: the objects whose rows change, all by the same number; () for all.
        low, high: range of the number.
        how: "scale" multiplies the model's values, "add" is added to them.

    Raises:
        ValueError: naming the wrong entry.
    """

    field: str
    names: tuple[str, ...]
    low: float
    high: float
    how: str = "scale"

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if self.field not in FIELDS:
            raise ValueError(f"randomize: field {self.field!r} is none of {sorted(FIELDS)}")
        if self.how not in ("scale", "add"):
            raise ValueError(f"randomize {self.field}: how={self.how!r}; choose 'scale' or 'add'")
        if not self.low <= self.high:
            raise ValueError(f"randomize {self.field}: low {self.low} is above high {self.high}")


def read_ranges(path: Path) -> tuple[FieldRange, ...]:
    """Ranges from a JSON file: a list of objects with the attributes of `FieldRange`.

    Raises:
        ValueError: the file cannot be read or an entry is wrong; the message names the file.
    """
    try:
        return tuple(FieldRange(**entry) for entry in json.loads(path.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: {error}; expected a JSON list of objects with field, names, low, high, how"
        ) from error


def draw(ranges: Sequence[FieldRange], rng: Array) -> Array:
    """One number for each range, float32 [R]."""
    if not ranges:
        return jnp.zeros(0)
    low = jnp.array([r.low for r in ranges], jnp.float32)
    high = jnp.array([r.high for r in ranges], jnp.float32)
    return low + (high - low) * jax.random.uniform(rng, (len(ranges),))


def apply(
    model: mujoco.MjModel,
    ranges: Sequence[FieldRange],
    draws: Array,
    fields: dict[str, Array],
) -> dict[str, Array]:
    """The fields of one episode.

    Args:
        model: where values that nobody changed come from.
        ranges: what varies.
        draws: float32 [R], from `draw`.
        fields: values that the task has set already; later ranges act on earlier ones.
    """
    result = dict(fields)
    for place, one in enumerate(ranges):
        now = result.get(one.field)
        if now is None:
            now = jnp.asarray(np.asarray(getattr(model, one.field)), jnp.float32)
        rows = jnp.array(_rows(model, one))
        changed = now[rows] * draws[place] if one.how == "scale" else now[rows] + draws[place]
        result[one.field] = now.at[rows].set(changed)
    return result


def _rows(model: mujoco.MjModel, one: FieldRange) -> list[int]:
    """Rows of a field that belong to the named objects."""
    kind = FIELDS[one.field]
    if not one.names:
        return list(range(len(getattr(model, one.field))))
    rows: list[int] = []
    for name in one.names:
        try:
            found = getattr(model, kind)(name)
        except KeyError as error:
            raise ValueError(f"randomize {one.field}: the model has no {kind} {name!r}") from error
        if kind == "joint":
            rows += [int(d) for d in np.atleast_1d(found.dofadr)]
        else:
            rows.append(int(found.id))
    return rows
