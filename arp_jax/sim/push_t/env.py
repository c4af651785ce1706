"""Push-T as an environment: engine, observations, reward, and their specs.

An initial condition [5] or a key flows in, `State`s flow out. `PushT` is a frozen dataclass without
arrays, so that it can be a static argument of jit; physics live in `State.physics`.

An *engine* is a module with three pure functions (`dynamics.py` is "analytic", `mjx.py` is "mjx"):

    reset(initial [5]) -> physics         as gym-pusht's reset: see `dynamics.reset`
    step(physics, action [2]) -> physics  one control step of 0.1 s, target position in px
    pose(physics) -> (agent [2], block [3])   px; block = body origin x, y and unwrapped angle

so that observations, reward and success never depend on the engine.
"""

import dataclasses
import functools
import importlib
from typing import Any, Protocol, cast

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.env import State
from arp_jax.sim.push_t import geometry, reset_laws
from arp_jax.sim.push_t.coverage import coverage
from arp_jax.sim.push_t.raster import IMAGE_SIZE, render
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec

ENGINES = {"analytic": "arp_jax.sim.push_t.dynamics", "mjx": "arp_jax.sim.push_t.mjx"}


class Engine(Protocol):
    """What a physics module offers; see the top of this file."""

    def reset(self, initial: Any) -> Any: ...

    def step(self, physics: Any, action: Any) -> Any: ...

    def pose(self, physics: Any) -> tuple[Array, Array]: ...


_KEYPOINT_DIMS = tuple(
    f"{box}_{corner}_{axis}"
    for box in ("bar", "stem")
    for corner in ("lo_lo", "hi_lo", "hi_hi", "lo_hi")
    for axis in ("x", "y")
)

OBSERVATION_SPEC = ObservationSpec(
    features=(
        FeatureSpec("agent_pos", ("x", "y"), "px", "world", (0.0,) * 2, (512.0,) * 2),
        # A corner of the block may stick out of the picture by a few px at a wall's end.
        FeatureSpec("keypoints", _KEYPOINT_DIMS, "px", "world", (0.0,) * 16, (512.0,) * 16),
        FeatureSpec(
            "block_pose",
            ("x", "y", "angle"),
            "px, px, rad",
            "world",
            (0.0, 0.0, 0.0),
            (512.0, 512.0, 6.283185307179586),
        ),
    ),
    cameras=(CameraSpec("image", IMAGE_SIZE, IMAGE_SIZE, "rgb"),),
)

ACTION_SPEC = ActionSpec(
    dims=("x", "y"),
    unit="px",
    frame="world",
    absolute=(True, True),
    low=(0.0, 0.0),
    high=(512.0, 512.0),
    rate_hz=geometry.CONTROL_HZ,
    gripper=None,
)


@functools.cache
def load_engine(name: str) -> Engine:
    """Imports an engine by name; raises ValueError for an unknown one.

    Imported on demand, so that the analytic engine does not need mujoco.
    """
    if name not in ENGINES:
        raise ValueError(f"engine={name!r} is unknown; choose one of {sorted(ENGINES)}")
    return cast(Engine, importlib.import_module(ENGINES[name]))


def observe(agent: ArrayLike, block: ArrayLike, names: tuple[str, ...]) -> dict[str, Array]:
    """The named observations of one configuration.

    Args:
        agent: [..., 2] px.
        block: [..., 3] body-origin pose px, px, rad (any turn).
        names: subset of `OBSERVATION_SPEC.names`; the image costs nothing unless named.

    Returns:
        name -> array [..., size]; "image" is uint8 [..., 96, 96, 3].
    """
    agent, block = jnp.asarray(agent), jnp.asarray(block)
    makers = {
        "agent_pos": lambda: agent,
        "keypoints": lambda: geometry.keypoints(block),
        "block_pose": lambda: jnp.concatenate(
            [block[..., :2], jnp.mod(block[..., 2:], 2 * jnp.pi)], -1
        ),
        "image": lambda: render(agent, block),
    }
    return {name: makers[name]() for name in names}


@dataclasses.dataclass(frozen=True)
class PushT:
    """The Push-T environment (an `Environment`).

    Attributes:
        observations: names out of `OBSERVATION_SPEC`.
        engine: "analytic" (exact twin of gym-pusht, the default) or "mjx".
        reset_law: law of `initial_condition`: "legacy" (as published results) or "current".

    Raises:
        ValueError: naming an unknown observation, engine or law.
    """

    observations: tuple[str, ...] = ("agent_pos", "keypoints")
    engine: str = "analytic"
    reset_law: str = "legacy"

    name = "push_t"
    max_episode_steps = geometry.MAX_EPISODE_STEPS
    success_metric = "coverage"
    action_spec = ACTION_SPEC

    def __post_init__(self) -> None:
        # A list (from a config) would make the environment unhashable.
        object.__setattr__(self, "observations", tuple(self.observations))
        OBSERVATION_SPEC.select(self.observations)
        reset_laws.check_law(self.reset_law)
        if self.engine not in ENGINES:
            raise ValueError(f"engine={self.engine!r} is unknown; choose one of {sorted(ENGINES)}")

    @property
    def observation_spec(self) -> ObservationSpec:
        """Specs of the chosen observations."""
        return OBSERVATION_SPEC.select(self.observations)

    def initial_condition(self, rng: Array) -> Array:
        """Raw draw float32 [5] of `reset_law`; see `reset_laws.sample_initial_condition`."""
        return reset_laws.sample_initial_condition(rng, self.reset_law)

    def reset_to(self, initial: ArrayLike) -> State:
        """State after a raw draw [5] (agent x, y, block x, y, angle)."""
        return self._state(load_engine(self.engine).reset(initial))

    def reset(self, rng: Array) -> State:
        """State after a draw from `reset_law`."""
        return self.reset_to(self.initial_condition(rng))

    def step(self, state: State, action: ArrayLike) -> State:
        """One control step of 0.1 s towards target `action` [2] px (not clipped).

        A finished state goes on moving; freezing it is the caller's choice.
        """
        return self._state(load_engine(self.engine).step(state.physics, action))

    def _state(self, physics: Any) -> State:
        agent, block = load_engine(self.engine).pose(physics)
        covered = coverage(block)
        return State(
            physics=physics,
            observation=observe(agent, block, self.observations),
            reward=jnp.clip(covered / geometry.SUCCESS_COVERAGE, 0.0, 1.0),
            done=covered > geometry.SUCCESS_COVERAGE,
            metrics={"coverage": covered},
        )
