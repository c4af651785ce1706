"""A task's memory that counts the steps of an episode at which something held, in all."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from arp_jax.sim.task import Memory, Readings


def step_count(
    name: str, holds: Callable[[Readings], Array]
) -> tuple[Callable[[Array, Readings], Memory], Callable[[Memory, Readings, Array], Memory]]:
    """`start_memory` and `remember` of a `Task` whose memory is {name: int32 []}.

    Args:
        name: of the count.
        holds: readings -> bool []; it is asked after every control step, not at the start.
    """

    def start_memory(initial: Array, readings: Readings) -> Memory:
        del initial, readings
        return {name: jnp.int32(0)}

    def remember(memory: Memory, readings: Readings, action: Array) -> Memory:
        del action
        return {name: memory[name] + holds(readings).astype(jnp.int32)}

    return start_memory, remember
