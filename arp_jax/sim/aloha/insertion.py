"""Bimanual insertion: the right hand pushes a peg into a socket that the left hand holds.

Reset: a red peg (12 x 2 x 2 cm) lies at x 0.1 ... 0.2 m and a blue socket (12 cm long, opening
3.6 x 3.6 cm, with a pin inside) at x -0.2 ... -0.1 m, both at y 0.4 ... 0.6 m, uniform and parallel
to the table; both arms are in their start pose. The initial condition is the peg's x and y, then
the socket's.

Action: 14 absolute joint positions at 50 Hz, left arm then right arm: six angles in rad and a
gripper, 0 closed and 1 open. Servos are stiff position servos without damping.

Success: reward 4, the peg touches the pin in the middle of the socket. Reward 1: the right hand's
right finger touches the peg and the left hand's left finger a wall of the socket; 2: and neither
lies on the table; 3: the peg touches a wall of the socket and neither lies on the table. A later
condition overrides an earlier one (as published by ACT).
"""

import functools

import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim import scene as contact
from arp_jax.sim.aloha import objects, scene
from arp_jax.sim.aloha.table_task import table_task
from arp_jax.sim.areas import Area
from arp_jax.sim.task import Memory, Readings, Task

SIDES = ("left", "right")
PEG, SOCKET, PIN = "peg", "socket", "pin"
PEG_HALF = (0.06, 0.01, 0.01)
PIN_HALF = (0.04, 0.01, 0.01)
# Walls of the socket: half size and place, m.
WALLS = {
    "wall_bottom": ((0.06, 0.018, 0.002), (0.0, 0.0, -0.02)),
    "wall_top": ((0.06, 0.018, 0.002), (0.0, 0.0, 0.02)),
    "wall_far": ((0.06, 0.002, 0.018), (0.0, 0.02, 0.0)),
    "wall_near": ((0.06, 0.002, 0.018), (0.0, -0.02, 0.0)),
}
WALL_FRICTION = (1.0, 1.0, 0.05, 0.001, 0.001)
PEG_AREA = Area(x=(0.1, 0.2), y=(0.4, 0.6))
SOCKET_AREA = Area(x=(-0.2, -0.1), y=(0.4, 0.6))


@functools.cache
def load_model() -> mujoco.MjModel:
    """The scene, compiled: qpos is 8 a arm and 7 for the peg and the socket, 30 in all."""
    spec = scene.table_scene(SIDES)
    scene.add_box(scene.add_free_body(spec, PEG), PEG, PEG_HALF, scene.RED)
    socket = scene.add_free_body(spec, SOCKET)
    for name, (half, pos) in WALLS.items():
        scene.add_box(socket, name, half, scene.BLUE, pos)
    scene.add_box(socket, PIN, PIN_HALF, scene.RED)
    scene.add_object_pairs(spec, SIDES, [PEG])
    for wall in WALLS:
        for pad in scene.pads(SIDES):
            contact.add_pair(spec, pad, wall, friction=WALL_FRICTION)
        contact.add_pair(spec, scene.TABLE, wall, friction=WALL_FRICTION)
        contact.add_pair(spec, PEG, wall, condim=3)
    contact.add_pair(spec, PEG, PIN, condim=3)
    return spec.compile()


def make_task() -> Task:
    """The task; see the top of this file."""
    model = load_model()
    walls = list(WALLS)
    right_touches = objects.touches_any(model, "right/right_finger_pad", [PEG])
    left_touches = objects.touches_any(model, "left/left_finger_pad", walls)
    on_table = objects.touches_any(model, scene.TABLE, [PEG, *walls])
    in_socket = objects.touches_any(model, PEG, walls)
    at_pin = objects.touches_any(model, PEG, [PIN])

    def reward(readings: Readings, memory: Memory) -> Array:
        del memory
        held = right_touches(readings) & left_touches(readings)
        lifted = ~on_table(readings)
        stage = jnp.where(held, jnp.where(lifted, 2, 1), 0)
        stage = jnp.where(in_socket(readings) & lifted, 3, stage)
        return jnp.where(at_pin(readings), 4, stage)

    return table_task(
        name="insertion",
        load_model=load_model,
        sides=SIDES,
        areas={PEG: PEG_AREA, SOCKET: SOCKET_AREA},
        poses={f"{name}_pose": name for name in (PEG, SOCKET)},
        reward=reward,
        sub_goals=(
            "both hands touch their objects",
            "both hands lift their objects",
            "the peg touches the socket in the air",
            "the peg touches the pin",
        ),
    )
