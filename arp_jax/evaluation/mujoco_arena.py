"""MuJoCo tasks as arenas: in C MuJoCo ("native"), in MJX ("mjx") or in MJX on Warp ("mjx-warp").

Flows in: a `Task` (sim/task.py), an engine's name, what the policy looks at, what is randomised.
Flows out: an `Arena`. Recorded are joint positions; pictures are drawn afterwards, of the few
episodes that someone will look at.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from arp_jax.evaluation.arena import Arena, MakeRollout, Run
from arp_jax.evaluation.controllers import Controller, MemoryController
from arp_jax.evaluation.native_rollout import NativeRollout
from arp_jax.evaluation.protocol import RolloutConfig
from arp_jax.evaluation.rollout import Rollout
from arp_jax.sim import compiler, physics
from arp_jax.sim.experts.expert import Expert
from arp_jax.sim.randomize import FieldRange
from arp_jax.sim.task import Factor, Task

MUJOCO_ENGINES = ("native", "mjx", "mjx-warp")
FILM_HEIGHT = 192
# Pictures a second of the robot's time; an arm at 50 Hz is watched well at 10.
_FILM_HZ = 10.0


def mujoco_arena(
    task: Task,
    engine: str,
    observations: tuple[str, ...] | None = None,
    randomize: tuple[FieldRange, ...] = (),
    make_expert: Callable[[], Expert] | None = None,
    public_initial_conditions: Callable[[Iterable[int]], np.ndarray] | None = None,
) -> Arena:
    """Builds the arena of a task.

    Args:
        task: what is done.
        engine: one of `MUJOCO_ENGINES`.
        observations: names out of the task's spec; None for all features and no camera.
        randomize: model fields that vary from episode to episode.
        make_expert: the task's expert.
        public_initial_conditions: starts of a third-party environment of the same scene.

    Raises:
        ValueError: unknown engine or observation.
    """
    if engine not in MUJOCO_ENGINES:
        raise ValueError(
            f"--engine {engine} does not run {task.name}; choose one of {list(MUJOCO_ENGINES)}"
        )
    spec = physics.select_observations(task, observations)

    return Arena(
        name=task.name,
        engine=engine,
        observation_spec=spec,
        action_spec=task.action_spec,
        max_episode_steps=task.max_episode_steps,
        make_rollout=_rollout_maker(task, engine, spec.names, randomize),
        render=_renderer(task, randomize),
        film_every=max(1, round(task.action_spec.rate_hz / _FILM_HZ)),
        sub_goals=task.sub_goals,
        factors=_own_factors(task, len(randomize)),
        public_initial_conditions=public_initial_conditions,
        make_expert=make_expert,
    )


def _rollout_maker(
    task: Task, engine: str, observations: tuple[str, ...], randomize: tuple[FieldRange, ...]
) -> MakeRollout:
    """Makes rollouts of one engine; engines are imported when one is made."""

    def make_rollout(
        controller: Controller | MemoryController,
        config: RolloutConfig,
        initial: np.ndarray | None,
        film: bool,
    ) -> Run:
        record = _qpos if film else None
        if engine == "native":
            from arp_jax.sim.native import NativeEnv

            def make_env(envs: int) -> NativeEnv:
                return NativeEnv(task, envs, observations=observations, randomize=randomize)

            return NativeRollout(make_env, controller, config, initial=initial, record=record)
        from arp_jax.sim.mjx import MjxEnv

        impl = "warp" if engine == "mjx-warp" else "jax"
        # A device holds at most as many environments; Warp reserves memory for them.
        worlds = min(config.envs, config.episodes)
        env = MjxEnv(task, impl, observations, randomize, worlds)
        return Rollout(
            env,
            controller,
            config,
            initial=initial,
            record=record,
            compiler_options=compiler.options(),
        )

    return make_rollout


def _own_factors(task: Task, ranges: int) -> tuple[Factor, ...]:
    """The task's factors, for initial conditions that end with one number for each range."""

    def classify(factor: Factor, initial: jax.Array) -> jax.Array:
        return factor.classify(initial[: initial.shape[0] - ranges])

    return tuple(
        dataclasses.replace(factor, classify=functools.partial(classify, factor))
        for factor in task.factors
    )


def _qpos(state: Any) -> dict[str, Any]:
    return {"qpos": state.physics.readings["qpos"]}


def _renderer(
    task: Task, randomize: tuple[FieldRange, ...]
) -> Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]:
    """({qpos [T, nq]}, initial [K + R]) -> uint8 [T, h, w, 3], by the task's first camera."""

    def render(frames: dict[str, np.ndarray], initial: np.ndarray) -> np.ndarray:
        from arp_jax.sim.render import film_episode

        model, cameras = task.load_model(), task.observation_spec.cameras
        if not cameras:
            raise RuntimeError(f"task {task.name} has no camera")
        width = round(FILM_HEIGHT * cameras[0].width / cameras[0].height)
        start = jax.device_get(physics.start_of(task, randomize, initial))  # type: ignore[arg-type]
        names = [cameras[0].name]
        return film_episode(model, frames["qpos"], names, FILM_HEIGHT, width, start, progress=False)

    return render
