"""What is seen at one tick: vector features and pictures, each with its time.

Cameras (`capture.py`) deliver frames from threads of their own; the control loop gathers the newest
of each with the arm's reading into one `Observation`, which policies and recorder share.
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from arp_jax.specs import CameraSpec


@dataclasses.dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        time_ns: monotonic time at which it was taken.
        image: uint8 [height, width, 3] in the declared colour order, cropped and masked.
    """

    time_ns: int
    image: np.ndarray


class Camera(Protocol):
    """A source of pictures; `latest` never blocks."""

    name: str
    spec: CameraSpec

    def latest(self) -> Frame | None:
        """The newest picture, however old; None before the first."""
        ...

    def close(self) -> None:
        """Stops capturing; twice does no harm."""
        ...


@dataclasses.dataclass(frozen=True)
class Observation:
    """The world at one tick.

    Attributes:
        time_ns: monotonic time of the arm's reading.
        vectors: feature -> float32 [D], in the spec's units.
        frames: camera -> its newest picture.
    """

    time_ns: int
    vectors: Mapping[str, np.ndarray]
    frames: Mapping[str, Frame] = dataclasses.field(default_factory=dict)

    @property
    def oldest_ns(self) -> int:
        """Time of the oldest part: what the age limit is about."""
        return min([self.time_ns, *(frame.time_ns for frame in self.frames.values())])
