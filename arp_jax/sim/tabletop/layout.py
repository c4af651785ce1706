"""Names for the numbers of an initial condition.

In: named parts, in order. Out: a flat vector [K] and back. It keeps offsets out of the tasks; it
draws nothing and knows no units.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where each part of an initial condition stands.

    Attributes:
        parts: (name of the part, names of its numbers), in order.
    """

    parts: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all K numbers: "part_number"."""
        return tuple(f"{part}_{dim}" for part, dims in self.parts for dim in dims)

    def dims(self, part: str) -> tuple[str, ...]:
        """Names of the numbers of one part."""
        return dict(self.parts)[part]

    def pack(self, **values: ArrayLike) -> Array:
        """The vector float32 [K] of all parts, each given with as many numbers as it has."""
        flat = []
        for part, dims in self.parts:
            value = jnp.ravel(jnp.asarray(values[part], jnp.float32))
            if value.shape != (len(dims),):
                raise ValueError(f"layout: {part} needs {len(dims)} numbers, got {value.shape}")
            flat.append(value)
        return jnp.concatenate(flat)

    def part(self, initial: Any, part: str) -> Any:
        """One part [n] of an initial condition; numbers after the K known ones are ignored."""
        first = 0
        for name, dims in self.parts:
            if name == part:
                return initial[first : first + len(dims)]
            first += len(dims)
        raise ValueError(f"layout: no part {part!r}; there are {[p for p, _ in self.parts]}")

    def poses(self, initial: Any, part: str) -> Any:
        """A part of planar poses as rows [n, 3]: x, y (m, world), yaw (rad)."""
        return self.part(initial, part).reshape(-1, 3)


def pose_names(*bodies: str) -> tuple[str, ...]:
    """Names of the planar poses of bodies, as `Layout.poses` reads them."""
    return tuple(f"{body}_{dim}" for body in bodies for dim in ("x", "y", "yaw"))
