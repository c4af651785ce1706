"""What an environment is: pure `reset` and `step` over an explicit `State`.

One environment is unbatched; callers `vmap` over environments and `scan` over time. There is no
auto-reset and no time limit inside: `max_episode_steps` tells the caller when to stop, and `step`
on a finished state goes on simulating. Evaluation freezes finished episodes itself.
"""

from typing import Any, Protocol

from flax import struct
from jax import Array

from arp_jax.specs import ActionSpec, ObservationSpec


@struct.dataclass
class State:
    """One environment at one time.

    Attributes:
        physics: the engine's state, a pytree.
        observation: name -> array, physical units, as in the environment's `observation_spec`.
        reward: float32 [].
        done: bool [], the success condition at this very time (it does not latch).
        metrics: name -> float32 [].
    """

    physics: Any
    observation: dict[str, Array]
    reward: Array
    done: Array
    metrics: dict[str, Array]


class Environment(Protocol):
    """A task in one engine; implementations are frozen, hashable dataclasses."""

    @property
    def name(self) -> str: ...

    @property
    def observation_spec(self) -> ObservationSpec: ...

    @property
    def action_spec(self) -> ActionSpec: ...

    @property
    def max_episode_steps(self) -> int: ...

    @property
    def success_metric(self) -> str:
        """Key in `State.metrics` whose maximum over the episode is the score."""
        ...

    def initial_condition(self, rng: Array) -> Array:
        """Draws a raw initial condition from a JAX key."""
        ...

    def reset_to(self, initial: Array) -> State:
        """The state that follows from a raw initial condition."""
        ...

    def reset(self, rng: Array) -> State:
        """`reset_to(initial_condition(rng))`."""
        ...

    def step(self, state: State, action: Array) -> State:
        """One control step; `action` in the units of `action_spec`."""
        ...
