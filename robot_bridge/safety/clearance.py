"""How far a pose is from the table, from the arm itself and from the walls of its workspace.

In: joint angles [S, 6]. Out: signed distances [S, C] (m), one column per thing that must not
happen, with its name and the distance it requires. Links and tools are capsules: estimates from the
bounding boxes of the vendor's meshes, generous where in doubt. What to do about a pose that is too
close is `safety_filter.py`'s business.
"""

import dataclasses
import itertools

import numpy as np

from robot_bridge.kinematics import link_frames


@dataclasses.dataclass(frozen=True)
class Capsule:
    """All points within `radius` of a segment, fixed to a link.

    Attributes:
        name: for people, in interventions.
        link: 0 the base, 1 ... 5 the links, 6 the flange and what it carries.
        start, end: of the segment in the link's frame, m.
        radius: m.
    """

    name: str
    link: int
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float


@dataclasses.dataclass(frozen=True)
class Tool:
    """What the flange carries; capsules of link 6. `length` is flange to farthest point, m."""

    name: str
    length: float
    capsules: tuple[Capsule, ...]


@dataclasses.dataclass(frozen=True)
class Box:
    """Where the flange and the tool's farthest point may be, m, in the controller's base frame."""

    low: tuple[float, float, float] = (-0.7, -0.7, -0.7)
    high: tuple[float, float, float] = (0.7, 0.7, 1.0)

    def __post_init__(self) -> None:
        for axis, low, high in zip("xyz", self.low, self.high, strict=True):
            if not (np.isfinite([low, high]).all() and low < high):
                raise ValueError(f"workspace {axis}: need finite low < high, found {low}, {high}")


FIXED = (
    Capsule("base", 0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.1), 0.075),
    Capsule("column", 0, (0.0, 0.0, 0.1), (0.0, 0.0, 0.174), 0.0385),
    Capsule("shoulder", 1, (0.0, -0.036, 0.0), (0.0, 0.0, 0.0), 0.038),
)
LINKS = (
    Capsule("upper_arm", 2, (0.0, 0.0, -0.016), (0.135, 0.0, -0.016), 0.038),
    Capsule("forearm", 3, (0.0, 0.0, 0.008), (0.12, 0.0, 0.008), 0.034),
    Capsule("wrist1", 4, (0.0, -0.028, 0.0), (0.0, 0.0, 0.0), 0.030),
    Capsule("wrist2", 5, (0.0, -0.016, 0.0), (0.0, 0.026, 0.0), 0.030),
    Capsule("flange", 6, (0.0, 0.0, -0.0113), (0.0, 0.0, 0.0079), 0.029),
)
NO_TOOL = Tool("none", 0.008, ())

# Lengths of the adaptive gripper: from the URDF's pivots (its fingers reach farther when closed),
# and of the simpler model in `arp_jax.sim.mycobot.tools`. Yours is worth a ruler.
ADAPTIVE_LENGTH = 0.165
SIMULATED_LENGTH = 0.133


def two_finger_gripper(length: float, half_opening: float, half_width: float) -> Tool:
    """Housing, knuckles and two open fingers; closing along the flange's x axis.

    Args:
        length: flange to fingertips, m.
        half_opening: middle of the housing to the middle of an open finger, m.
        half_width: of housing and knuckles along x, m.

    Raises:
        ValueError: the fingers would end inside the housing.
    """
    if not length >= 0.1:
        raise ValueError(f"tool length {length} m: a gripper's fingers end 0.1 m or more away")
    radius, reach = 0.0125, half_width - 0.036
    housing = Capsule("housing", 6, (-reach, 0.0, 0.035), (reach, 0.0, 0.035), 0.036)
    x, end = half_opening, length - radius
    fingers = (
        Capsule(f"finger_{side}", 6, (sign * x, 0.0, 0.06), (sign * x, 0.0, end), radius)
        for side, sign in (("left", 1.0), ("right", -1.0))
    )
    return Tool("gripper", length, (housing, *fingers))


def rod(length: float, radius: float) -> Tool:
    """A straight tool of this radius along the flange's axis, e.g. a peg; lengths in m."""
    end = max(length - radius, 0.0)
    return Tool("rod", length, (Capsule("rod", 6, (0.0, 0.0, 0.0), (0.0, 0.0, end), radius),))


def adaptive_gripper(length: float = ADAPTIVE_LENGTH) -> Tool:
    """The vendor's adaptive gripper: knuckles 105 mm wide, fingers that mirror each other."""
    return two_finger_gripper(length, half_opening=0.04, half_width=0.053)


def force_gripper(length: float = SIMULATED_LENGTH) -> Tool:
    """The force-controlled parallel gripper, 110 mm wide, opening to 100 mm."""
    return two_finger_gripper(length, half_opening=0.056, half_width=0.055)


# Which capsules can meet at all: what hangs on one joint or its neighbors cannot.
_SELF = (
    ("forearm", ("base", "column", "shoulder")),
    ("wrist1", ("base", "column", "shoulder", "upper_arm")),
    ("wrist2", ("base", "column", "shoulder", "upper_arm")),
    ("flange", ("base", "column", "shoulder", "upper_arm", "forearm")),
)
_TOOL_MEETS = ("base", "column", "shoulder", "upper_arm", "forearm")


class Clearance:
    """Distances of one arm with one tool in one place.

    Args:
        tool: at the flange.
        box: workspace of the flange and the tool's farthest point.
        table_z: height of the table, m.
        table_distance, self_distance: required from the table, and between links, m.
    """

    def __init__(
        self, tool: Tool, box: Box, table_z: float, table_distance: float, self_distance: float
    ) -> None:
        moving = (*LINKS, *tool.capsules)
        capsules = (*FIXED, *moving)
        index = {capsule.name: i for i, capsule in enumerate(capsules)}
        pairs = [(a, b) for a, others in _SELF for b in others]
        pairs += list(itertools.product((c.name for c in tool.capsules), _TOOL_MEETS))
        self.names = (
            *(f"table:{capsule.name}" for capsule in moving),
            *(f"self:{a}-{b}" for a, b in pairs),
            *(f"workspace:{axis}_{side}" for side in ("low", "high") for axis in "xyz"),
        )
        self.required = np.concatenate(
            [np.full(len(moving), table_distance), np.full(len(pairs), self_distance), np.zeros(6)]
        )
        self._links = np.array([capsule.link for capsule in capsules])
        # Homogeneous end points [K, 4, 2], so that one product moves both.
        ends = [np.transpose([[*c.start, 1.0], [*c.end, 1.0]]) for c in capsules]
        self._ends = np.array(ends)
        self._radii = np.array([capsule.radius for capsule in capsules])
        self._first_moving = len(FIXED)
        self._left = np.array([index[a] for a, _ in pairs])
        self._right = np.array([index[b] for _, b in pairs])
        self._reach = self._radii[self._left] + self._radii[self._right]
        self._table_z, self._low, self._high = table_z, np.array(box.low), np.array(box.high)
        self._tip = tool.length

    def distances(self, angles: np.ndarray) -> np.ndarray:
        """Signed distances [S, C] (m) for angles [S, 6] (rad); negative: inside each other."""
        frames = link_frames(angles)
        ends = np.matmul(frames[:, self._links, :3], self._ends)  # [S, K, 3, 2]
        moving = slice(self._first_moving, None)
        table = ends[:, moving, 2].min(axis=-1) - self._radii[moving] - self._table_z
        starts, ends = ends[..., 0], ends[..., 1]
        gaps = segment_distances(
            starts[:, self._left],
            ends[:, self._left],
            starts[:, self._right],
            ends[:, self._right],
        )
        flange = frames[:, 6, :3, 3]
        tip = flange + self._tip * frames[:, 6, :3, 2]
        low = np.minimum(flange, tip) - self._low
        high = self._high - np.maximum(flange, tip)
        return np.concatenate([table, gaps - self._reach, low, high], axis=1)


def segment_distances(a0: np.ndarray, a1: np.ndarray, b0: np.ndarray, b1: np.ndarray) -> np.ndarray:
    """Distances [...] between segments a0-a1 and b0-b1, end points [..., 3], lengths above 0."""
    u, v, r = a1 - a0, b1 - b0, a0 - b0
    uu, vv = _dot(u, u), _dot(v, v)
    uv, ur, vr = _dot(u, v), _dot(u, r), _dot(v, r)
    # Closest points of the lines, the first one clipped to its segment; then the best answer of
    # the second, clipped, and the best answer of the first to that. For parallel segments any
    # first choice will do.
    scale = uu * vv - uv * uv
    s = np.clip((uv * vr - ur * vv) / np.maximum(scale, 1e-15), 0.0, 1.0)
    t = np.clip((uv * s + vr) / vv, 0.0, 1.0)
    s = np.clip((uv * t - ur) / uu, 0.0, 1.0)
    gap = r + s[..., None] * u - t[..., None] * v
    return np.sqrt(_dot(gap, gap))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...i->...", a, b)
