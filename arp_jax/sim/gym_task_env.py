"""Our tasks as gymnasium environments, for code that was written against gymnasium.

In: a task's name (or "push_t"), actions in the units of its action spec. Out: a dict of the task's
observations, reward, terminated (solved), truncated (time limit), info with `is_success` and the
metrics. One environment, stepped on the CPU: for many at once use `native.py` or `mjx.py` without
gymnasium. Ids and registration are in `gym_adapter.py`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import gymnasium
import jax
import numpy as np
from gymnasium import spaces

from arp_jax.sim.env import State
from arp_jax.sim.gym_adapter import TASK_IDS
from arp_jax.specs import ActionSpec, CameraSpec, ObservationSpec

RENDER_MODES = ("rgb_array",)


class World(Protocol):
    """One simulation on the host; `state` holds the present."""

    observation_spec: ObservationSpec
    action_spec: ActionSpec
    max_episode_steps: int
    state: State

    def draw(self, rng: jax.Array) -> np.ndarray:
        """An initial condition [K]."""
        ...

    def reset_to(self, initial: np.ndarray) -> None:
        """Starts an episode."""
        ...

    def step(self, action: np.ndarray) -> None:
        """One control step."""
        ...

    def picture(self, camera: CameraSpec) -> np.ndarray:
        """uint8 [height, width, 3] of the present."""
        ...

    def close(self) -> None:
        """Frees renderers."""
        ...


class TaskEnv(gymnasium.Env):
    """A task of this library as a gymnasium environment.

    Args:
        task: name, "push_t" or one of `sim.tasks.TASKS`.
        observations: names out of the task's observation spec; None for all features, no camera.
        render_mode: None or "rgb_array".
        camera: what `render` shows; None for the task's first camera.
        height, width: of what `render` returns; None for the camera's own.

    `reset(options={"initial": [K]})` starts from a given initial condition.

    Raises:
        ValueError: unknown task, observation, camera or render mode.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES)}  # type: ignore[misc]

    def __init__(
        self,
        task: str,
        observations: Sequence[str] | None = None,
        render_mode: str | None = None,
        camera: str | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        if task not in TASK_IDS:
            raise ValueError(f"task {task!r} is unknown; choose one of {sorted(TASK_IDS)}")
        if render_mode not in (None, *RENDER_MODES):
            raise ValueError(
                f"render_mode {render_mode!r} is unknown; choose one of {RENDER_MODES}"
            )
        chosen = None if observations is None else tuple(observations)
        self._world: World = PushTWorld() if task == "push_t" else MujocoWorld(task)
        available = self._world.observation_spec
        if chosen is None:
            chosen = tuple(f.name for f in available.features)
        self._spec = available.select(chosen)
        self._shown = _shown(available, camera, height, width) if render_mode else None
        self.render_mode = render_mode
        action = self._world.action_spec
        self.metadata = {**TaskEnv.metadata, "render_fps": round(action.rate_hz)}  # type: ignore[misc]
        self.action_space = spaces.Box(
            np.asarray(action.low, np.float32), np.asarray(action.high, np.float32)
        )
        # Without limits: joints with soft stops go a little beyond their range.
        features = {
            f.name: spaces.Box(-np.inf, np.inf, (f.size,), np.float32) for f in self._spec.features
        }
        cameras = {
            c.name: spaces.Box(0, 255, (c.height, c.width, 3), np.uint8) for c in self._spec.cameras
        }
        self.observation_space = spaces.Dict({**features, **cameras})
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode: from `options["initial"]`, else drawn from the environment's seed."""
        super().reset(seed=seed)
        initial = (options or {}).get("initial")
        if initial is None:
            key = jax.random.key(int(self.np_random.integers(2**31)))
            initial = self._world.draw(key)
        self._world.reset_to(np.asarray(initial, np.float32))
        self._steps = 0
        return self._observe(), self._info()

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step; the action is clipped to its limits."""
        low, high = self.action_space.low, self.action_space.high  # type: ignore[attr-defined]
        self._world.step(np.clip(np.asarray(action, np.float32), low, high))
        self._steps += 1
        state = self._world.state
        solved = bool(state.done)
        # Wild actions can make the physics diverge; there is no going on from there.
        diverged = float(state.metrics.get("diverged", 0.0)) > 0
        truncated = not solved and (diverged or self._steps >= self._world.max_episode_steps)
        return self._observe(), float(state.reward), solved, truncated, self._info()

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """uint8 [height, width, 3] of the present, None without a render mode."""
        return None if self._shown is None else self._world.picture(self._shown)

    def close(self) -> None:
        """Frees renderers."""
        self._world.close()

    def _observe(self) -> dict[str, np.ndarray]:
        values = self._world.state.observation
        observation = {f.name: np.array(values[f.name]) for f in self._spec.features}
        return observation | {c.name: self._world.picture(c) for c in self._spec.cameras}

    def _info(self) -> dict[str, Any]:
        state = self._world.state
        metrics = {name: float(value) for name, value in state.metrics.items()}
        return {"is_success": bool(state.done), **metrics}


class MujocoWorld:
    """A MuJoCo task in the native engine (a `World`)."""

    def __init__(self, task: str) -> None:
        from arp_jax.sim.native import NativeEnv
        from arp_jax.sim.tasks import make_task

        self._task = make_task(task)
        self._env = NativeEnv(self._task, envs=1, threads=1)
        self.observation_spec = self._task.observation_spec
        self.action_spec = self._task.action_spec
        self.max_episode_steps = self._task.max_episode_steps
        self._renderers: dict[tuple[int, int], Any] = {}

    def draw(self, rng: jax.Array) -> np.ndarray:
        """As the task draws it."""
        return np.asarray(self._task.initial_condition(rng))

    def reset_to(self, initial: np.ndarray) -> None:
        """See `World`."""
        self._keep(self._env.reset(initial[None]))

    def step(self, action: np.ndarray) -> None:
        """See `World`."""
        self._keep(self._env.step(action[None]))

    def picture(self, camera: CameraSpec) -> np.ndarray:
        """Drawn by MuJoCo; raises RuntimeError where there is no OpenGL."""
        from arp_jax.sim.render import OffscreenRenderer

        size = (camera.height, camera.width)
        if size not in self._renderers:
            self._renderers[size] = OffscreenRenderer(self._task.load_model(), *size)
        physics = self.state.physics
        return self._renderers[size].render(physics.readings["qpos"], camera.name, physics.start)

    def close(self) -> None:
        """See `World`."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _keep(self, batched: State) -> None:
        self.state = jax.tree.map(lambda values: np.asarray(values)[0], batched)


class PushTWorld:
    """Push-T in its own engine (a `World`)."""

    def __init__(self) -> None:
        from arp_jax.sim.push_t.env import OBSERVATION_SPEC, PushT

        self.observation_spec = OBSERVATION_SPEC
        env = PushT(tuple(f.name for f in OBSERVATION_SPEC.features))
        self.action_spec, self.max_episode_steps = env.action_spec, env.max_episode_steps
        self.draw = lambda rng: np.asarray(env.initial_condition(rng))
        self._reset, self._step, self._render = _push_t_programs(env)

    def reset_to(self, initial: np.ndarray) -> None:
        """See `World`."""
        self.state = self._reset(initial)

    def step(self, action: np.ndarray) -> None:
        """See `World`."""
        self.state = self._step(self.state, action)

    def picture(self, camera: CameraSpec) -> np.ndarray:
        """The 96 x 96 picture, each pixel repeated where a larger one is asked for.

        Raises ValueError for a size that is no multiple of it.
        """
        image = np.asarray(self._render(self.state.physics))
        rows, columns = camera.height / image.shape[0], camera.width / image.shape[1]
        if rows % 1 or columns % 1:
            raise ValueError(
                f"push_t is drawn in multiples of {image.shape[0]} px, not {camera.height} x "
                f"{camera.width}"
            )
        return image.repeat(int(rows), axis=0).repeat(int(columns), axis=1)

    def close(self) -> None:
        """See `World`."""


@functools.cache
def _push_t_programs(env: Any) -> tuple[Callable[..., Any], ...]:
    """Reset, step and picture, compiled once for all environments."""
    from arp_jax.sim.push_t import raster
    from arp_jax.sim.push_t.env import load_engine

    pose = load_engine(env.engine).pose
    return (
        jax.jit(env.reset_to),
        jax.jit(env.step),
        jax.jit(lambda physics: raster.render(*pose(physics))),
    )


def _shown(
    spec: ObservationSpec, name: str | None, height: int | None, width: int | None
) -> CameraSpec:
    """What `render` shows."""
    cameras = {camera.name: camera for camera in spec.cameras}
    if not cameras or (name is not None and name not in cameras):
        raise ValueError(f"no camera {name!r}; there are {list(cameras)}")
    camera = cameras[name] if name is not None else spec.cameras[0]
    return CameraSpec(camera.name, height or camera.height, width or camera.width)
