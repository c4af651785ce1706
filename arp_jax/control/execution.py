"""How predicted chunks become executed actions: receding horizon, ensembling and latency together.

Flows in: at each query one chunk [H, A] (from `available_actions`) and what was remembered. Flows
out: the actions to execute until the next query. Simulation, server and bridge share this file, so
that what was evaluated is what runs. Works on numpy and jax arrays; chooses no action itself.
"""

import dataclasses
from typing import Any

from arp_jax.control.chunking import check_execute, executed_actions
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
    """

    execute: int = 8
    ensemble: float | None = None
    latency: int = 0

    @property
    def period(self) -> int:
        """Steps between two queries of the policy."""
        return self.execute if self.ensemble is None else 1

    @property
    def needs_memory(self) -> bool:
        """Whether anything is carried from one query to the next."""
        return self.ensemble is not None or self.latency > 0

    def check(self, spec: PolicySpec) -> None:
        """Raises ValueError unless the chunks of `spec` are long enough."""
        check_execute(spec, self.period)
        check_latency(spec, self.period, self.latency)


def available_actions(chunk: Any, spec: PolicySpec) -> Any:
    """The part [..., H - first, A] of a predicted chunk that begins at the newest observation."""
    return executed_actions(chunk, spec, spec.horizon - spec.first_executed)


def start_execution(execution: Execution, hold: Any, rows: int) -> dict[str, Any]:
    """What is remembered before the first query of an episode.

    Args:
        execution: how chunks are executed.
        hold: [A], an action that keeps the robot where it is.
        rows: H of the chunks to come.
    """
    xp = hold.__array_namespace__()
    memory = {"past": start_latency(hold, rows, execution.period, execution.latency)}
    if execution.ensemble is not None:
        arriving = xp.broadcast_to(hold, (rows - execution.latency, hold.shape[-1]))
        memory["ensemble"] = start_ensemble(arriving)
        memory |= {"hold": hold, "queries": xp.zeros((), dtype=xp.int32)}
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
    if execution.ensemble is None:
        actions, past = arrived_actions(memory["past"], chunk, execution.period, execution.latency)
        return actions, {"past": past}
    xp = chunk.__array_namespace__()
    chunks = xp.concat([memory["past"], chunk[None]])  # [latency + 1, H, A]
    # The oldest chunk arrives now; its first rows were meant for the steps that it took.
    arriving = chunks[0, execution.latency :]
    action, ensemble = ensembled_action(memory["ensemble"], arriving, execution.ensemble)
    # Before the first arrival there is nothing to average: hold.
    arrived = memory["queries"] >= execution.latency
    following = {
        "past": chunks[1:],
        "ensemble": {
            name: xp.where(arrived, ensemble[name], before)
            for name, before in memory["ensemble"].items()
        },
        "hold": memory["hold"],
        "queries": memory["queries"] + 1,
    }
    return xp.where(arrived, action, memory["hold"])[None], following
