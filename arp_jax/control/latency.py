"""A policy that takes time: actions computed from an observation arrive some steps after it.

Flows in: chunks [H, A], one each `execute` steps, row j meant for j steps after its observation.
Flows out: the actions that a robot executes meanwhile, from the chunks that have arrived: the rest
of the chunk before, and at the start of an episode the hold action. A late row is never executed
for an earlier time. For measuring what latency costs; a real robot has it for free. numpy and jax.
"""

from typing import Any

from arp_jax.control.blending import cross_fade
from arp_jax.specs import ActionSpec, ObservationSpec


def check_latency(rows: int, execute: int, latency: int) -> None:
    """Raises ValueError unless a chunk lasts until the next one has arrived.

    Args:
        rows: actions of a chunk from the newest observation on.
        execute, latency: steps between two chunks; steps until a chunk arrives.
    """
    if latency < 0:
        raise ValueError(f"latency must be at least 0 steps, found {latency}")
    if execute + latency > rows:
        raise ValueError(
            f"latency={latency} is not possible with execute={execute}: a chunk holds {rows} "
            "actions from the newest observation on, which must do for execute + latency; choose "
            f"a latency of at most {max(rows - execute, 0)}"
        )


def in_flight(execute: int, latency: int, blend: int = 0) -> int:
    """How many earlier chunks are remembered.

    Those executed before the newest has arrived, and the one that fades out then.
    """
    return -(-latency // execute) + (blend > 0)


def start_latency(hold: Any, horizon: int, execute: int, latency: int, blend: int = 0) -> Any:
    """The chunks before an episode's first one: nothing but the hold action.

    Args:
        hold: [A], an action that keeps the robot where it is (`hold_action`).
        horizon: rows H of the chunks to come.
        execute, latency: steps between two chunks; steps until a chunk arrives.
        blend: steps over which one chunk fades into the next.

    Returns:
        [n, H, A] with n = `in_flight`, oldest first.
    """
    xp = hold.__array_namespace__()
    return xp.broadcast_to(hold, (in_flight(execute, latency, blend), horizon, hold.shape[-1]))


def arrived_actions(
    past: Any, chunk: Any, execute: int, latency: int, blend: int = 0, queries: Any = 0
) -> tuple[Any, Any]:
    """What is executed from this observation until the next one that the policy is asked about.

    Args:
        past: [n, H, A], the chunks before, oldest first.
        chunk: [H, A], computed from the present observation; arrives `latency` steps from now.
        execute, latency, blend: as for `start_latency`; execute + latency + blend <= H.
        queries: number of earlier chunks of this episode, which only blending asks for: an
            episode's first chunk has nothing to fade from.

    Returns:
        The actions [execute, A], and [n, H, A] for the next call.
    """
    xp = chunk.__array_namespace__()
    chunks = xp.concat([past, chunk[None]])  # [n + 1, H, A]
    actions = []
    for step in range(execute):
        # The newest chunk that has arrived by now: 0 is the present one, -1 the one before it.
        newest = (step - latency) // execute
        row = step - newest * execute
        action = chunks[len(past) + newest, row]
        if row - latency < blend:
            running = chunks[len(past) + newest - 1, row + execute]
            faded = cross_fade(running, action, row - latency, blend)
            action = xp.where(queries + newest > 0, faded, action)
        actions.append(action)
    return xp.stack(actions), chunks[1:]


def hold_feature(observation: ObservationSpec, action: ActionSpec) -> str | None:
    """The feature whose present value, sent as the target, keeps a robot where it is.

    The first feature of the action's size and unit; None when actions are changes, which hold as
    zeros.

    Raises:
        ValueError: absolute actions and no such feature.
    """
    if not any(action.absolute):
        return None
    for feature in observation.features:
        # An action's unit leaves the gripper out; a feature's may name it after a comma.
        unit = feature.unit.split(",")[0] if action.gripper else feature.unit
        if feature.size == action.size and unit == action.unit:
            return feature.name
    raise ValueError(
        f"no feature says how to hold still: none of {[f.name for f in observation.features]} has "
        f"the action's {action.size} dimensions and its unit {action.unit!r}"
    )


def hold_action(present: Any, action: ActionSpec) -> Any:
    """The action [A] that keeps the robot where it is.

    Args:
        present: [A], the value of `hold_feature`; of any value where every dimension is a change.
        action: says which dimensions are targets and which are changes.
    """
    xp = present.__array_namespace__()
    absolute = xp.asarray(action.absolute)
    return xp.where(absolute, present, xp.zeros_like(present))
