"""The arm of the digital twin: MuJoCo's model of arm and gripper, its servos, power and free mode.

In: targets (rad, opening), power, a hand's pushes, and how many steps of time to take. Out: joint
angles, opening, error code, what touches the table. The model is the simulated tasks' own
(`arp_jax.sim.mycobot`), so speed and lag are theirs; the table is solid here for every link.
No clock, no thread, no limits of safety.
"""

import mujoco
import numpy as np

from arp_jax.sim.mycobot import bench_scene, tools
from arp_jax.sim.mycobot.arm import FREQUENCY, JOINTS, LIMITS
from arp_jax.sim.mycobot.tools import Gripper

STEP_NS = round(bench_scene.TIMESTEP * 1e9)
FLANGE = "link6"
TABLE = "table"
TOOLS = (*tools.GRIPPERS, "rod", "none")
_ROD_RADIUS = 0.006  # m
_ARM = slice(0, len(JOINTS))
_FINGERS = slice(len(JOINTS), len(JOINTS) + len(tools.FINGERS))


def build_model(tool: str) -> tuple[mujoco.MjModel, Gripper | None]:
    """The bench with its cameras, the arm, and one of `TOOLS`.

    Raises:
        ValueError: for another tool.
    """
    if tool not in TOOLS:
        raise ValueError(f"sim: tool {tool!r} is unknown; choose one of {TOOLS}")
    gripper = None
    if tool in tools.GRIPPERS:
        spec, gripper = bench_scene.new_gripper_bench(tool)
    else:
        spec, flange = bench_scene.new_bench("peg")
        if tool == "rod":
            tools.add_peg(flange, _ROD_RADIUS, 2 * _ROD_RADIUS)
    for geom in spec.geoms:
        if geom.name == TABLE:
            geom.conaffinity = 1
        # Pads meet the table already, by a pair of their own.
        elif geom.name not in tools.PADS:
            geom.contype = 1
    return spec.compile(), gripper


class TwinPhysics:
    """The simulated arm; for one thread.

    Attributes:
        model: MuJoCo's; owned, power changes it.
        gripper: None without one.
        error: the controller's code: n after a target beyond joint n's limit, which is refused;
            stays until somebody sets it to 0, or switches the power on.
        powered, free: state of the servos.

    Args:
        tool: of `TOOLS`.
        angles: where the arm stands [6], rad.
        opening: of the gripper, 0 ... 1.
    """

    def __init__(self, tool: str, angles: np.ndarray, opening: float = 1.0) -> None:
        self.model, self.gripper = build_model(tool)
        self.error, self.powered, self.free = 0, True, False
        self._carried = self.model.body_gravcomp.copy()
        self._data = mujoco.MjData(self.model)
        self.place(angles, opening)

    @property
    def angles(self) -> np.ndarray:
        """float64 [6], rad."""
        return self._data.qpos[_ARM].copy()

    @property
    def speeds(self) -> np.ndarray:
        """float64 [6], rad/s."""
        return self._data.qvel[_ARM].copy()

    @property
    def opening(self) -> float:
        """Of the gripper, 0 ... 1; without one the last command."""
        if self.gripper is None:
            return self._opening
        measured = float(self._data.qpos[_FINGERS].mean()) / self.gripper.stroke
        return min(max(measured, 0.0), 1.0)

    @property
    def positions(self) -> np.ndarray:
        """float64 [nq], what a renderer needs."""
        return self._data.qpos.copy()

    def place(self, angles: np.ndarray, opening: float) -> None:
        """Puts the arm there, at rest and gripped, without moving it there."""
        self._data.qpos[_ARM], self._data.qvel[:] = angles, 0.0
        if self.gripper is not None:
            self._data.qpos[_FINGERS] = opening * self.gripper.stroke
        mujoco.mj_forward(self.model, self._data)
        self._opening = opening
        self.grip()

    def flange(self) -> tuple[np.ndarray, np.ndarray]:
        """Position [3] (m) and rotation [3, 3] of the flange in the controller's base frame."""
        mujoco.mj_kinematics(self.model, self._data)
        base, link = self._data.body("base"), self._data.body(FLANGE)
        turn = base.xmat.reshape(3, 3)
        return turn.T @ (link.xpos - base.xpos), turn.T @ link.xmat.reshape(3, 3)

    def touching(self) -> tuple[str, ...]:
        """Names of the bodies that touch the table now."""
        table = self.model.geom(TABLE).id
        bodies = set()
        for contact in self._data.contact:
            if table in contact.geom and contact.dist <= 0:
                other = next(geom for geom in contact.geom if geom != table)
                bodies.add(self.model.body(self.model.geom_bodyid[other]).name)
        return tuple(sorted(bodies))

    def aim(self, angles: np.ndarray, opening: float | None) -> None:
        """Sets the servos' targets; without power or in free mode they are taken and forgotten.

        Raises:
            ValueError: not six finite angles, or no finite opening.
        """
        values = np.asarray(angles, np.float64)
        finite = np.isfinite(values).all() and (opening is None or np.isfinite(opening))
        if values.shape != (len(JOINTS),) or not finite:
            raise ValueError(f"a target is {len(JOINTS)} finite angles, found {angles}, {opening}")
        beyond = np.flatnonzero(np.abs(values) > np.asarray(LIMITS))
        if beyond.size:
            self.error = int(beyond[0]) + 1
        if beyond.size or not self.powered or self.free:
            return
        self._data.ctrl[_ARM] = values
        if opening is not None:
            self._set_opening(opening)

    def stop(self) -> None:
        """Brakes: the targets become where the servos come to rest without turning back."""
        self._data.ctrl[_ARM] = self.angles + self.speeds / FREQUENCY

    def grip(self) -> None:
        """The targets become where the arm is now; out of free mode."""
        self.free = False
        self._data.ctrl[_ARM] = self.angles
        self._set_opening(self.opening)

    def set_power(self, on: bool) -> None:
        """Servos on (where they are) or off: an unpowered arm sinks, slowly in its gears."""
        flag = int(mujoco.mjtDisableBit.mjDSBL_ACTUATION)
        flags = int(self.model.opt.disableflags)
        self.model.opt.disableflags = flags & ~flag if on else flags | flag
        self.model.body_gravcomp[:] = self._carried if on else 0.0
        if on:
            self.error = 0
            if not self.powered:
                self.grip()
        self.powered = on

    def let_go(self) -> None:
        """Free mode: a hand carries the arm, which stays until `push`."""
        self.grip()
        self.free = True

    def push(self, angles: np.ndarray) -> None:
        """Where the hand moves the free arm [6], rad; it follows as fast as the gears allow.

        Raises:
            ValueError: the arm is not free.
        """
        if not self.free:
            raise ValueError("the joints are gripped; set_free(True) first")
        self._data.ctrl[_ARM] = angles

    def step(self, count: int) -> None:
        """Time goes on by `count` steps of `STEP_NS`."""
        mujoco.mj_step(self.model, self._data, nstep=count)

    def _set_opening(self, opening: float) -> None:
        self._opening = min(max(opening, 0.0), 1.0)
        if self.gripper is not None:
            self._data.ctrl[_FINGERS] = self._opening * self.gripper.stroke
