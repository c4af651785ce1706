"""The third-party `gym_pusht/PushT-v0` with this library's observation names, units and seeds.

In: an integer seed or a raw initial condition, then actions [2] (px). Out: host (numpy)
observations, reward, done and metrics, as `evaluation.host_rollout` wants them. It exists to score
a policy in an environment that we did not write; nothing here is jitted, and the physics and the
pictures are gym-pusht's own. For speed use `arp_jax.sim.push_t.env.PushT`, its twin.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from arp_jax.sim.gym_adapter import GYM_PUSHT
from arp_jax.sim.push_t import reset_laws
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from arp_jax.sim.push_t.geometry import MAX_EPISODE_STEPS
from arp_jax.specs import ActionSpec, ObservationSpec

DEFAULT_OBSERVATIONS = ("agent_pos", "keypoints")


def make_gym_env(obs_type: str = "state") -> Any:
    """The registered gymnasium environment, wrapped as gymnasium does (time limit 300).

    Raises:
        ImportError: when gym-pusht is not installed.
    """
    # pygame opens an audio and a video device at import; a server has neither.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import gym_pusht  # noqa: F401 (registers the environment)
        import gymnasium
    except ImportError as error:
        raise ImportError(
            f"{GYM_PUSHT} needs the gym-pusht package: pip install 'arp_jax[dev]' ({error})"
        ) from error
    return gymnasium.make(
        GYM_PUSHT, obs_type=obs_type, render_mode="rgb_array", disable_env_checker=True
    )


class GymPushT:
    """One gym-pusht environment on the host (a `HostEnvironment`).

    Args:
        observations: names out of the Push-T observation spec; "image" renders each step.
        reset_law: what an integer seed means: "legacy" (Diffusion Policy, ARP and published scores)
            or "current" (gym-pusht 0.1.8).

    Raises:
        ValueError: naming an unknown observation or law.
        ImportError: when gym-pusht is not installed.
    """

    name = GYM_PUSHT
    action_spec: ActionSpec = ACTION_SPEC
    success_metric = "coverage"
    max_episode_steps = MAX_EPISODE_STEPS

    def __init__(
        self,
        observations: tuple[str, ...] = DEFAULT_OBSERVATIONS,
        reset_law: str = "legacy",
    ) -> None:
        self.observation_spec: ObservationSpec = OBSERVATION_SPEC.select(observations)
        reset_laws.check_law(reset_law)
        laws = {
            "legacy": reset_laws.legacy_initial_conditions,
            "current": reset_laws.current_initial_conditions,
        }
        self._initial_conditions = laws[reset_law]
        self._names = tuple(observations)
        self._wrapped = make_gym_env()
        # Its state is read from the pymunk bodies, so that all observations are of the same time.
        self._env = self._wrapped.unwrapped

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Starts the episode of an integer seed; returns the first observation {name: [...]}."""
        return self.reset_to(self._initial_conditions([seed])[0])

    def reset_to(self, initial: np.ndarray) -> dict[str, np.ndarray]:
        """Starts from a raw initial condition [5]: agent x, y, block x, y (px), angle (rad)."""
        state = np.asarray(initial, np.float64)
        self._wrapped.reset(options={"reset_to_state": state})
        return self._observe()

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, dict[str, float]]:
        """Executes one action [2] px (0.1 s).

        Returns:
            observation, reward = clip(coverage / 0.95, 0, 1), done = coverage > 0.95, and
            {"coverage"}. The time limit is the caller's.
        """
        # The inner environment: gymnasium's time limit would stop a caller that allows more steps.
        _, reward, solved, _, info = self._env.step(np.asarray(action, np.float64))
        return self._observe(), float(reward), bool(solved), {"coverage": float(info["coverage"])}

    def close(self) -> None:
        """Frees the window, if one was opened."""
        self._wrapped.close()

    def _observe(self) -> dict[str, np.ndarray]:
        makers: dict[str, Callable[[], np.ndarray]] = {
            "agent_pos": lambda: np.array(self._env.agent.position, np.float32),
            "keypoints": lambda: np.float32(
                self._env.get_keypoints(self._env._block_shapes)
            ).reshape(16),
            "block_pose": lambda: np.array(
                [*self._env.block.position, self._env.block.angle % (2 * np.pi)], np.float32
            ),
            "image": self._env._render,
        }
        return {name: makers[name]() for name in self._names}
