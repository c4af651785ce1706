"""Receding horizon: which actions of a predicted chunk are executed.

Flows in: chunks [..., H, A] and the policy's `PolicySpec`. Flows out: the actions to execute before
the next prediction. Pure slicing, the same for numpy and jax arrays, so that what was evaluated is
what runs on a robot.
"""

from typing import Any

from arp_jax.specs import PolicySpec


def available_rows(spec: PolicySpec) -> int:
    """Actions of a chunk from the newest observation on."""
    return spec.horizon - spec.first_executed


def check_execute(rows: int, execute: int) -> None:
    """Raises ValueError unless `rows` actions, those from the newest observation on, suffice."""
    if not 1 <= execute <= rows:
        raise ValueError(
            f"execute={execute} is not possible: a chunk holds {rows} actions from the newest "
            f"observation on; choose 1..{rows}"
        )


def executed_actions(chunk: Any, spec: PolicySpec, execute: int) -> Any:
    """The actions executed before the next prediction.

    Args:
        chunk: [..., H, A], index 0 at time `spec.action_offset` relative to the newest observation.
        spec: the policy's signature.
        execute: number of actions to run open loop (Diffusion Policy and ARP on Push-T: 8).

    Returns:
        [..., execute, A], beginning with the action of the newest observation's time step.
    """
    check_execute(available_rows(spec), execute)
    first = spec.first_executed
    return chunk[..., first : first + execute, :]
