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

import jax
import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim import scene as contact
from arp_jax.sim.aloha import joints, objects, scene
from arp_jax.sim.task import Memory, Outcome, Readings, Task, staged_outcome
from arp_jax.specs import ObservationSpec

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
PEG_AREA = objects.Area(x=(0.1, 0.2), y=(0.4, 0.6))
SOCKET_AREA = objects.Area(x=(-0.2, -0.1), y=(0.4, 0.6))
SUCCESS_REWARD = 4


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
    right_touches = objects.touch_test(model, "right/right_finger_pad", [PEG])
    left_touches = objects.touch_test(model, "left/left_finger_pad", walls)
    on_table = objects.touch_test(model, scene.TABLE, [PEG, *walls])
    in_socket = objects.touch_test(model, PEG, walls)
    at_pin = objects.touch_test(model, PEG, [PIN])
    places = {f"{name}_pose": objects.object_place(model, name) for name in (PEG, SOCKET)}

    def observe(readings: Readings, memory: Memory) -> dict[str, Array]:
        del memory
        return joints.observe(readings, SIDES, places)

    def outcome(readings: Readings, memory: Memory) -> Outcome:
        del memory
        held = right_touches(readings) & left_touches(readings)
        lifted = ~on_table(readings)
        reward = jnp.where(held, jnp.where(lifted, 2, 1), 0)
        reward = jnp.where(in_socket(readings) & lifted, 3, reward)
        return staged_outcome(jnp.where(at_pin(readings), 4, reward), SUCCESS_REWARD)

    def initial_condition(rng: jax.Array) -> Array:
        peg, socket = jax.random.split(rng)
        return jnp.concatenate([PEG_AREA.draw(peg), SOCKET_AREA.draw(socket)])

    return Task(
        name="insertion",
        load_model=load_model,
        observation_spec=ObservationSpec(
            joints.feature_specs(SIDES, list(places)), joints.camera_specs(SIDES)
        ),
        action_spec=joints.action_spec(SIDES),
        substeps=scene.SUBSTEPS,
        max_episode_steps=400,
        success_metric="reward",
        initial_condition=initial_condition,
        start=objects.start_with(model, [PEG, SOCKET]),
        observe=observe,
        outcome=outcome,
        fields=("qpos", "qvel", "geom_xpos", "geom_xmat"),
        control=joints.control,
        sub_goals=(
            "both hands touch their objects",
            "both hands lift their objects",
            "the peg touches the socket in the air",
            "the peg touches the pin",
        ),
        factors=(
            PEG_AREA.quadrant("peg_quadrant", 0),
            SOCKET_AREA.quadrant("socket_quadrant", 2),
        ),
        initial_names=("peg_x", "peg_y", "socket_x", "socket_y"),
    )
