"""The bench on which myCobot works, as MJCF: table, arm, tool, cameras; nothing to work on.

In: the tool's name. Out: an `MjSpec` to which a task (`bench.py`) or the robot's digital twin adds
its own things. Only mujoco and numpy: the robot's computer builds it, too.
"""

from typing import Any

import mujoco

from arp_jax.sim.mycobot import tools
from arp_jax.sim.mycobot.arm import add_arm
from arp_jax.sim.mycobot.tools import Gripper
from arp_jax.sim.scene import add_camera_looking_at, add_pair, new_scene
from arp_jax.specs import CameraSpec

TIMESTEP = 0.005  # s


def new_bench(tool: str) -> tuple[mujoco.MjSpec, Any]:
    """Table, arm and fixed cameras, and the tool's flange; `tool` is added by the caller.

    Returns:
        The scene and the flange body.

    Raises:
        ValueError: for an unknown tool.
    """
    if tool not in tools.TOOLS:
        raise ValueError(f"tool={tool!r} is unknown; choose one of {tools.TOOLS}")
    spec = new_scene(TIMESTEP)
    flange = add_arm(spec)
    add_camera_looking_at(spec.worldbody, "top", (0.24, 0, 0.75), (0.24, 0, 0), 45.0, up=(1, 0, 0))
    add_camera_looking_at(spec.worldbody, "front", (0.85, -0.3, 0.5), (0.16, 0, 0.12), 42.0)
    return spec, flange


def new_gripper_bench(kind: str = "adaptive") -> tuple[mujoco.MjSpec, Gripper]:
    """The bench with a gripper, whose pads meet the table, and a camera beside it."""
    spec, flange = new_bench(kind)
    gripper = tools.add_gripper(spec, flange, kind)
    add_camera_looking_at(
        spec.body("gripper"),
        "wrist",
        (0, 0.055, 0.06),
        (0, 0.005, gripper.tip),
        75.0,
        up=(0, -1, 0),
    )
    for pad in tools.PADS:
        add_pair(spec, "table", pad, condim=1)
    return spec, gripper


def camera_specs(with_gripper: bool) -> tuple[CameraSpec, ...]:
    """The bench's cameras, 240 x 320."""
    names = ("top", "front", "wrist") if with_gripper else ("top", "front")
    return tuple(CameraSpec(name, 240, 320) for name in names)
