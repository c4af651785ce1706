"""Scripted experts of the tabletop tasks: key frames planned from the initial condition.

In: an initial condition (where things lie) and a key. Out: the whole episode's key frames,
[length, 8]. They go above, down, close, up, over, down, open, up, always with the tool pointing
down; `noise` shifts the key frames above things, never those that touch. No looking, no feedback:
a demonstration that fails is for the success filter of the recorder.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from arp_jax.sim.experts.expert import Expert, open_loop
from arp_jax.sim.tabletop import (
    arm,
    close_lid,
    insert_peg,
    keyframes,
    pick_and_lift,
    place_on_color,
    push_buttons,
    put_item_in_drawer,
    reach_target,
    stack_blocks,
    things,
)
from arp_jax.sim.task import Task

OPEN, CLOSED = 1.0, 0.0
# Height of the tool over the middle of a thing before and after it is grasped, m.
ABOVE = 0.12
LIFT = 0.2
# Stacked things are released this far above, m.
DROP = 0.003
# Blocks look the same after a quarter turn.
QUARTER = jnp.pi / 2

Plan = Callable[[Array, Array, Array], Array]


def make_expert(task: Task) -> Expert:
    """The expert of a tabletop task, by its name."""
    plan, length = _PLANS[task.name]
    return open_loop(plan, length)


def _short_turn(yaw: Array, period: float) -> Array:
    """The yaw nearest to 0 that looks the same to the gripper."""
    return yaw - period * jnp.round(yaw / period)


def _down(x: Array, y: Array, z: Array | float, yaw: Array | float, gripper: float) -> Array:
    """A key frame with the tool pointing down."""
    position = jnp.stack([x, y, jnp.asarray(z, jnp.float32)])
    return keyframes.keyframe(position, keyframes.tool_down(jnp.asarray(yaw)), gripper)


def _shaken(frames: list[Array], free: list[int], key: Array, noise: Array) -> Array:
    """Stacks key frames [length, 8]; positions of the `free` ones are shifted by up to `noise`."""
    plan = jnp.stack(frames)
    shift = jax.random.uniform(key, (len(free), 3), minval=-1.0, maxval=1.0) * noise
    return plan.at[jnp.array(free), :3].add(shift)


def _pick(x: Array, y: Array, z: float, yaw: Array) -> list[Array]:
    """Above, grasp, lift: three key frames for a thing whose middle is at z."""
    return [
        _down(x, y, z + ABOVE, yaw, OPEN),
        _down(x, y, z, yaw, CLOSED),
        _down(x, y, z + LIFT, yaw, CLOSED),
    ]


def _place(x: Array, y: Array, z: Array | float, yaw: Array) -> list[Array]:
    """Above, release, up: three key frames for a held thing whose middle shall be at z."""
    return [
        _down(x, y, z + ABOVE, yaw, CLOSED),
        _down(x, y, z, yaw, OPEN),
        _down(x, y, z + ABOVE, yaw, OPEN),
    ]


def _in_frame(pose: Array, x: float, y: float) -> tuple[Array, Array]:
    """World x and y of a point in the frame of a planar pose [3]."""
    cos, sin = jnp.cos(pose[2]), jnp.sin(pose[2])
    return pose[0] + cos * x - sin * y, pose[1] + sin * x + cos * y


def _reach_target(initial: Array, key: Array, noise: Array) -> Array:
    x, y, z = reach_target.LAYOUT.part(initial, "spheres")[:3]
    return _shaken([_down(x, y, z + 0.1, 0.0, OPEN), _down(x, y, z, 0.0, OPEN)], [0], key, noise)


def _push_buttons(initial: Array, key: Array, noise: Array) -> Array:
    top = push_buttons.CAP_TOP + arm.TIP  # tool height at which the tips touch the cap
    frames: list[Array] = []
    for x, y, _ in push_buttons.LAYOUT.poses(initial, "buttons")[: push_buttons.ORDERED]:
        above = _down(x, y, top + 0.06, 0.0, CLOSED)
        frames += [above, _down(x, y, top - push_buttons.TRAVEL, 0.0, CLOSED), above]
    return _shaken(frames, [0, 2, 3, 5, 6, 8], key, noise)


def _pick_and_lift(initial: Array, key: Array, noise: Array) -> Array:
    x, y, yaw = pick_and_lift.LAYOUT.poses(initial, "blocks")[0]
    frames = _pick(x, y, things.BLOCK_REST, _short_turn(yaw, QUARTER))
    return _shaken(frames, [0], key, noise)


def _place_on_color(initial: Array, key: Array, noise: Array) -> Array:
    block, square = place_on_color.LAYOUT.poses(initial, "things")[:2]
    frames = _pick(block[0], block[1], things.BLOCK_REST, _short_turn(block[2], QUARTER))
    frames += _place(square[0], square[1], things.BLOCK_REST, _short_turn(square[2], QUARTER))
    return _shaken(frames, [0, 2, 3, 5], key, noise)


def _stack_blocks(initial: Array, key: Array, noise: Array) -> Array:
    top, bottom = stack_blocks.LAYOUT.poses(initial, "blocks")[:2]
    height = things.BLOCK_REST + 2 * things.BLOCK + DROP
    frames = _pick(top[0], top[1], things.BLOCK_REST, _short_turn(top[2], QUARTER))
    frames += _place(bottom[0], bottom[1], height, _short_turn(bottom[2], QUARTER))
    return _shaken(frames, [0, 2, 3, 5], key, noise)


def _put_item_in_drawer(initial: Array, key: Array, noise: Array) -> Array:
    drawer = put_item_in_drawer
    cabinet = drawer.LAYOUT.part(initial, "cabinet")
    item = drawer.LAYOUT.poses(initial, "items")[0]
    handle_x, handle_y, handle_z = drawer.HANDLE
    height = arm.TABLE_TOP + handle_z
    # The fingers close along the drawer's way.
    turn = cabinet[2] + QUARTER
    shut = _in_frame(cabinet, handle_x, handle_y)
    pulled = _in_frame(cabinet, handle_x - drawer.PULL, handle_y)
    frames = [
        _down(*shut, height + ABOVE, turn, OPEN),
        _down(*shut, height, turn, CLOSED),
        _down(*pulled, height, turn, OPEN),
        _down(*pulled, height + LIFT, turn, OPEN),
    ]
    frames += _pick(item[0], item[1], things.BLOCK_REST, _short_turn(item[2], QUARTER))
    # The middle of the part of the drawer that is outside of the cabinet.
    inside = _in_frame(cabinet, -drawer.HALF_DEPTH - drawer.PULL / 2 + 0.01, 0.0)
    frames += _place(*inside, arm.TABLE_TOP + drawer.FLOOR + 2 * things.BLOCK, cabinet[2])
    return _shaken(frames, [0, 3, 4, 6, 7, 9], key, noise)


def _insert_peg(initial: Array, key: Array, noise: Array) -> Array:
    peg, socket = insert_peg.LAYOUT.poses(initial, "things")[:2]
    grip = insert_peg.PEG_REST + 0.02  # the upper half: the tips stay above the socket
    frames = _pick(peg[0], peg[1], grip, _short_turn(peg[2], QUARTER))
    frames += _place(socket[0], socket[1], grip + 0.002, _short_turn(socket[2], QUARTER))
    return _shaken(frames, [0, 2, 5], key, noise)


def _close_lid(initial: Array, key: Array, noise: Array) -> Array:
    box = close_lid.LAYOUT.poses(initial, "boxes")[0]
    rim = arm.TABLE_TOP + close_lid.HEIGHT
    behind = _in_frame(box, close_lid.HALF + 0.08, 0.0)
    before = _in_frame(box, -0.03, 0.0)
    frames = [
        _down(*behind, rim + 0.25, box[2], CLOSED),
        _down(*behind, rim + 0.1, box[2], CLOSED),
        _down(*before, rim + 0.1, box[2], CLOSED),
        _down(*before, rim + 2 * close_lid.LID + arm.TIP - 0.002, box[2], CLOSED),
    ]
    return _shaken(frames, [0], key, noise)


# Name of the task -> plan and number of its key frames.
_PLANS: dict[str, tuple[Plan, int]] = {
    "reach_target": (_reach_target, 2),
    "push_buttons": (_push_buttons, 9),
    "pick_and_lift": (_pick_and_lift, 3),
    "place_on_color": (_place_on_color, 6),
    "stack_blocks": (_stack_blocks, 6),
    "put_item_in_drawer": (_put_item_in_drawer, 10),
    "insert_peg": (_insert_peg, 6),
    "close_lid": (_close_lid, 4),
}
