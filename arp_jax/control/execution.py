"""How predicted chunks become executed actions: every way of it together.

Receding horizon, temporal ensembling, latency, blending and the early commands of a base. Flows in:
at each query one chunk [H, A] (from `available_actions`) and what was remembered. Flows out: the
actions to execute until the next query. Simulation, server and bridge share this file, so that what
was evaluated is what runs. Works on numpy and jax arrays; chooses no action itself.
"""

import dataclasses
from typing import Any

from arp_jax.control.base_delay import base_ahead, base_columns
from arp_jax.control.blending import check_blend
from arp_jax.control.chunking import available_rows, check_execute, executed_actions
from arp_jax.control.ensembling import ensembled_action, start_ensemble
from arp_jax.control.latency import arrived_actions, check_latency, start_latency
from arp_jax.specs import PolicySpec


@dataclasses.dataclass(frozen=True)
class Execution:
    """A way to execute chunks.

    Attributes:
        execute: actions executed of each chunk; the policy is asked again after them.
        ensemble: temperature of temporal ensembling (`ensembling.py`); the policy is then asked at
            each step, whatever `execute` says. None for no ensembling.
        latency: steps from an observation to the arrival of its chunk (`latency.py`).
        blend: steps over which the running chunk fades into the new one (`blending.py`).
        base_delay: steps by which a base's commands are sent ahead (`base_delay.py`); a chunk then
            has so many actions less.
        drop_zeros: ensembling leaves out predictions with an exact 0, as ACT's code does.
    """

    execute: int = 8
    ensemble: float | None = None
    latency: int = 0
    blend: int = 0
    base_delay: int = 0
    drop_zeros: bool = False

    @property
    def period(self) -> int:
        """Steps between two queries of the policy."""
        return self.execute if self.ensemble is None else 1

    @property
    def needs_memory(self) -> bool:
        """Whether anything is carried from one query to the next."""
        return self.ensemble is not None or self.latency > 0 or self.blend > 0

    def rows(self, spec: PolicySpec) -> int:
        """Rows of what `available_actions` returns."""
        return available_rows(spec) - self.base_delay

    def check(self, spec: PolicySpec) -> None:
        """Raises ValueError unless the chunks of `spec` are long enough for all of it."""
        most = available_rows(spec) - 1
        if not 0 <= self.base_delay <= most:
            raise ValueError(f"base_delay={self.base_delay} is not possible; choose 0..{most}")
        if self.base_delay:
            base_columns(spec.action)
        if self.ensemble is not None and self.blend:
            raise ValueError("blend is for chunks; with ensemble every action is a mean already")
        if self.ensemble is None and self.drop_zeros:
            raise ValueError("drop_zeros is an option of ensembling; set ensemble too")
        rows = self.rows(spec)
        check_execute(rows, self.period)
        check_latency(rows, self.period, self.latency)
        check_blend(rows, self.period, self.latency, self.blend)


def available_actions(chunk: Any, spec: PolicySpec, base_delay: int = 0) -> Any:
    """The part of a predicted chunk that begins at the newest observation.

    Args:
        chunk: [..., H, A], as predicted.
        spec: the policy's signature.
        base_delay: of the `Execution`.

    Returns:
        [..., rows, A], row 0 meant for now; see `Execution.rows`.
    """
    present = executed_actions(chunk, spec, available_rows(spec))
    return base_ahead(present, spec.action, base_delay)


def start_execution(execution: Execution, hold: Any, rows: int) -> dict[str, Any]:
    """What is remembered before the first query of an episode.

    Args:
        execution: how chunks are executed.
        hold: [A], an action that keeps the robot where it is.
        rows: H of the chunks to come, `execution.rows(spec)`.
    """
    xp = hold.__array_namespace__()
    past = start_latency(hold, rows, execution.period, execution.latency, execution.blend)
    memory = {"past": past, "queries": xp.zeros((), dtype=xp.int32)}
    if execution.ensemble is not None:
        arriving = xp.broadcast_to(hold, (rows - execution.latency, hold.shape[-1]))
        memory |= {"ensemble": start_ensemble(arriving), "hold": hold}
    return memory


def executed_now(
    execution: Execution, memory: dict[str, Any], chunk: Any
) -> tuple[Any, dict[str, Any]]:
    """The actions until the next query.

    Args:
        execution: how chunks are executed.
        memory: from `start_execution` or the query before.
        chunk: [H, A], row 0 meant for now.

    Returns:
        The actions [period, A] and the memory for the next query.
    """
    queries = memory["queries"]
    if execution.ensemble is None:
        seam = (execution.latency, execution.blend, queries)
        actions, past = arrived_actions(memory["past"], chunk, execution.period, *seam)
        return actions, {"past": past, "queries": queries + 1}
    xp = chunk.__array_namespace__()
    chunks = xp.concat([memory["past"], chunk[None]])  # [latency + 1, H, A]
    # The oldest chunk arrives now; its first rows were meant for the steps that it took.
    arriving = chunks[0, execution.latency :]
    action, ensemble = ensembled_action(
        memory["ensemble"], arriving, execution.ensemble, execution.drop_zeros
    )
    # Before the first arrival there is nothing to average: hold.
    arrived = queries >= execution.latency
    following = {
        "past": chunks[1:],
        "ensemble": {
            name: xp.where(arrived, ensemble[name], before)
            for name, before in memory["ensemble"].items()
        },
        "hold": memory["hold"],
        "queries": queries + 1,
    }
    return xp.where(arrived, action, memory["hold"])[None], following
