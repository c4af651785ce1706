"""The third-party gym-aloha tasks with the names, units and features of our own twins of them.

In: an integer seed (gym-aloha's own draw) or an initial condition of our task, then actions [14].
Out: host (numpy) observations, reward, done and metrics, as `evaluation.host_rollout` wants them.
Physics, reward and pictures are gym-aloha's; features are computed by our task from its joint
positions, so that a policy sees the same numbers in both. Of the three 480 x 640 pictures that
gym-aloha draws at each step, only those that are asked for are drawn.
"""

import warnings
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from arp_jax.sim.gym_adapter import GYM_ALOHA
from arp_jax.sim.task import Task
from arp_jax.sim.tasks import make_task
from arp_jax.specs import ActionSpec

FULL_REWARD = 4
# gym-aloha's draws, in the order of its random numbers: (low, high) of x and y, then z.
_AREAS = {
    "transfer_cube": (((0.0, 0.2), (0.4, 0.6)),),
    "insertion": (((0.1, 0.2), (0.4, 0.6)), ((-0.2, -0.1), (0.4, 0.6))),
}


def initial_conditions(task: str, seeds: Iterable[int]) -> np.ndarray:
    """What gym-aloha draws for integer seeds: float32 [N, K], x and y (m) of each object.

    Args:
        task: "transfer_cube" or "insertion".
    """
    rows = []
    for seed in seeds:
        rng = np.random.RandomState(seed)
        row = []
        for (x_low, x_high), (y_low, y_high) in _AREAS[task]:
            x, y, _ = rng.uniform((x_low, y_low, 0.05), (x_high, y_high, 0.05))
            row += [x, y]
        rows.append(row)
    return np.asarray(rows, np.float32)


class GymAloha:
    """One gym-aloha environment on the host (a `HostEnvironment`).

    Args:
        name: "gym_aloha/AlohaTransferCube-v0" or "gym_aloha/AlohaInsertion-v0".
        observations: names out of our task's spec; None for all features and no camera.

    Raises:
        ValueError: naming an unknown observation.
        ImportError: when gym-aloha is not installed.
    """

    success_metric = "reward"

    def __init__(self, name: str, observations: tuple[str, ...] | None = None) -> None:
        self.name = name
        self._task: Task = make_task(GYM_ALOHA[name])
        spec = self._task.observation_spec
        if observations is None:
            observations = tuple(f.name for f in spec.features)
        self.observation_spec = spec.select(observations)
        self.action_spec: ActionSpec = self._task.action_spec
        self.max_episode_steps = self._task.max_episode_steps
        self._control, self._box_pose = _make(GYM_ALOHA[name])
        # Our model only tells where bodies are for gym-aloha's joint positions.
        self._model = self._task.load_model()
        self._data = mujoco.MjData(self._model)
        self._observe_features = jax.jit(self._features)
        self._initial = np.zeros(0, np.float32)
        self._last: dict[str, np.ndarray] = {}

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Starts the episode that gym-aloha's `reset(seed=seed)` starts."""
        return self.reset_to(initial_conditions(self._task.name, [seed])[0])

    def reset_to(self, initial: np.ndarray) -> dict[str, np.ndarray]:
        """Starts from an initial condition [K] of our task: x and y (m) of each object."""
        self._initial = np.asarray(initial, np.float32)
        objects = np.array(self._task.start(jnp.asarray(initial)).qpos, np.float64)[16:]
        self._box_pose[0] = objects
        self._control.reset()
        self._last = self._observe()
        return self._last

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, dict[str, float]]:
        """Executes one action [14] (0.02 s).

        Returns:
            observation, reward 0..4, done, and {"reward", "success", "diverged"}. Done is reward 4,
            or physics that dm_control gives up (wild actions do that): then the observation is the
            last good one. The time limit is the caller's.
        """
        from dm_control.rl.control import PhysicsError

        try:
            reward, diverged = float(self._control.step(np.asarray(action, np.float64)).reward), 0.0
            self._last = self._observe()
        except PhysicsError:
            reward, diverged = 0.0, 1.0
        solved = reward == FULL_REWARD
        metrics = {"reward": reward, "success": float(solved), "diverged": diverged}
        return self._last, reward, solved or diverged > 0, metrics

    def close(self) -> None:
        """Frees what the environment holds."""
        self._control.close()

    def _observe(self) -> dict[str, np.ndarray]:
        physics = self._control.physics
        self._data.qpos[:] = physics.data.qpos
        self._data.qvel[:] = physics.data.qvel
        mujoco.mj_kinematics(self._model, self._data)
        readings = {f: np.array(getattr(self._data, f), np.float32) for f in self._task.fields}
        values = jax.device_get(self._observe_features(readings, self._initial))
        observation = {f.name: values[f.name] for f in self.observation_spec.features}
        for camera in self.observation_spec.cameras:
            observation[camera.name] = physics.render(
                height=camera.height, width=camera.width, camera_id=camera.name
            )
        return observation

    def _features(self, readings: dict[str, jax.Array], initial: jax.Array) -> Any:
        shaped = {
            name: values.reshape(-1, 3, 3) if name.endswith("xmat") else values
            for name, values in readings.items()
        }
        return self._task.observe(shaped, self._task.start_memory(initial, shaped))


def _make(task: str) -> tuple[Any, list[Any]]:
    """gym-aloha's dm_control environment without its pictures, and where it looks for objects."""
    try:
        with warnings.catch_warnings():
            # dm_control tries a window first, and complains that a server has no screen.
            warnings.simplefilter("ignore")
            from gym_aloha.env import AlohaEnv
            from gym_aloha.tasks.sim import BOX_POSE
    except ImportError as error:
        raise ImportError(
            "gym-aloha is not installed; it pins an old MuJoCo, so: pip install --no-deps "
            f"gym-aloha==0.1.5 dm_control dm-env dm-tree lxml labmaze pyparsing ({error})"
        ) from error
    control = AlohaEnv(task).unwrapped._env
    # Its observation would draw three pictures at every step.
    control.task.get_observation = lambda physics: {}
    return control, BOX_POSE
