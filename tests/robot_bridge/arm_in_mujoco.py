"""The simulator's arm as a judge of clearances: MuJoCo's shapes and distances, no code of ours.

Its shapes are a little smaller than the bridge's (real cylinders, boxes, a gripper as modeled), its
chain is 1 mm different: whatever the bridge lets through must not touch here.
"""

import itertools

import mujoco
import numpy as np

from arp_jax.sim.mycobot.arm import add_arm
from arp_jax.sim.mycobot.tools import GRIPPERS, add_gripper

_TOOL = ("gripper", "finger_left", "finger_right")
_WRIST = ("link4", "link5", "link6", *_TOOL)
_MEET = (
    (("link3", *_WRIST), ("base", "link1")),
    (_WRIST, ("link2",)),
    (("link6", *_TOOL), ("link3",)),
)


class ArmInMujoco:
    """The arm with an open gripper, "adaptive" or "force", above its table."""

    def __init__(self, gripper: str = "adaptive") -> None:
        spec = mujoco.MjSpec()
        spec.add_material(name="matte")
        add_gripper(spec, add_arm(spec), gripper)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._data.qpos[6:8] = GRIPPERS[gripper].stroke
        self._pairs = [
            (one, other)
            for left, right in _MEET
            for a, b in itertools.product(left, right)
            for one, other in itertools.product(self._geoms(a), self._geoms(b))
        ]
        table = self._model.geom("table").id
        self._above = [
            (table, geom) for body in ("link2", "link3", *_WRIST) for geom in self._geoms(body)
        ]

    def distances(self, angles: np.ndarray) -> tuple[float, float]:
        """Smallest distance (m) to the table, and between parts of the arm, up to 0.1 m."""
        self._data.qpos[:6] = angles
        mujoco.mj_kinematics(self._model, self._data)
        return self._smallest(self._above), self._smallest(self._pairs)

    def _smallest(self, pairs: list[tuple[int, int]]) -> float:
        return min(
            mujoco.mj_geomDistance(self._model, self._data, one, other, 0.1, None)
            for one, other in pairs
        )

    def _geoms(self, body: str) -> range:
        found = self._model.body(body)
        first, count = int(found.geomadr[0]), int(found.geomnum[0])
        return range(first, first + count)
