"""Any gymnasium environment whose observations are vectors and pictures, for our evaluator.

In: a gymnasium id, integer seeds, actions. Out: host (numpy) observations named by the keys of the
environment's observation space ("agent_pos", "pixels/top"; "observation" where it has no keys),
reward, done, metrics. Units and frames are unknown to gymnasium and called so. Success is what the
environment's `info` calls `is_success` or `success`; without either no episode succeeds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec

_UNKNOWN = "unknown"
# For environments that do not say.
_DEFAULT_RATE_HZ, _DEFAULT_STEPS = 10.0, 1000


class GymAny:
    """One gymnasium environment on the host (a `HostEnvironment`).

    Args:
        name: gymnasium id, "module:id" when a module must be imported first.
        observations: names out of its spec; None for all.

    Raises:
        ValueError: unknown id or observation; spaces other than boxes and dicts of boxes, or an
            action without limits.
        ImportError: gymnasium, or the environment's module, is not installed.
    """

    success_metric = "success"

    def __init__(self, name: str, observations: tuple[str, ...] | None = None) -> None:
        self.name = name
        self._env = _make(name)
        spaces = dict(_leaves(name, self._env.observation_space, ()))
        spec = ObservationSpec(
            features=tuple(_feature(k, s) for k, s in spaces.items() if not _is_image(s)),
            cameras=tuple(CameraSpec(k, *s.shape[:2]) for k, s in spaces.items() if _is_image(s)),
        )
        self.observation_spec = spec if observations is None else spec.select(observations)
        rate = float(self._env.metadata.get("render_fps") or _DEFAULT_RATE_HZ)
        self.action_spec = _action(name, self._env.action_space, rate)
        registered = self._env.spec.max_episode_steps if self._env.spec else None
        self.max_episode_steps: int = registered or _DEFAULT_STEPS
        self._features = {f.name for f in self.observation_spec.features}
        self._return = 0.0

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Starts the episode of an integer seed; returns the first observation."""
        self._return = 0.0
        observation, _ = self._env.reset(seed=seed)
        return self._observe(observation)

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, dict[str, float]]:
        """Executes one action [A].

        Returns:
            observation, reward, done (terminated, truncated or solved) and {"success", "return"}.
        """
        space = self._env.action_space
        shaped = np.asarray(action, space.dtype).reshape(space.shape)
        observation, reward, terminated, truncated, info = self._env.step(shaped)
        success = bool(info.get("is_success", info.get("success", False)))
        self._return += float(reward)
        metrics = {"success": float(success), "return": self._return}
        over = bool(terminated or truncated or success)
        return self._observe(observation), float(reward), over, metrics

    def close(self) -> None:
        """Frees what the environment holds."""
        self._env.close()

    def _observe(self, observation: Any) -> dict[str, np.ndarray]:
        values: dict[str, np.ndarray] = {}
        for name in self.observation_spec.names:
            value = _value(observation, name)
            values[name] = np.float32(value).reshape(-1) if name in self._features else value
        return values


def _make(name: str) -> Any:
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError(f"{name} needs gymnasium: pip install gymnasium ({error})") from error
    try:
        return gymnasium.make(name, disable_env_checker=True)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name}: {error}; install the package") from error
    except gymnasium.error.Error as error:
        line = str(error).strip().splitlines()[0]
        raise ValueError(f"--env {name!r}: gymnasium cannot make it ({line})") from error


def _leaves(name: str, space: Any, path: tuple[str, ...]) -> Any:
    """Yields (joined keys, Box) of an observation space."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        for key, inner in space.items():
            yield from _leaves(name, inner, (*path, key))
    elif isinstance(space, spaces.Box):
        yield "/".join(path) or ("image" if _is_image(space) else "observation"), space
    else:
        where = "/".join(path) or "its observation"
        raise ValueError(f"--env {name!r}: {where} is {space}; only Box and Dict can be observed")


def _value(observation: Any, name: str) -> np.ndarray:
    if not isinstance(observation, Mapping):
        return np.asarray(observation)
    for key in name.split("/"):
        observation = observation[key]
    return np.asarray(observation)


def _is_image(space: Any) -> bool:
    return space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[-1] == 3


def _limits(space: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    low, high = np.ravel(space.low).astype(float), np.ravel(space.high).astype(float)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        return None
    return tuple(low.tolist()), tuple(high.tolist())


def _dims(name: str, space: Any) -> tuple[str, ...]:
    return tuple(f"{name}_{index}" for index in range(int(np.prod(space.shape))))


def _feature(name: str, space: Any) -> FeatureSpec:
    low, high = _limits(space) or (None, None)
    return FeatureSpec(name, _dims(name, space), _UNKNOWN, _UNKNOWN, low, high)


def _action(name: str, space: Any, rate_hz: float) -> ActionSpec:
    from gymnasium import spaces

    if not isinstance(space, spaces.Box):
        raise ValueError(f"--env {name!r}: its action is {space}; only Box actions can be chosen")
    limits = _limits(space)
    if limits is None:
        raise ValueError(f"--env {name!r}: its action has no finite limits; wrap it to have some")
    dims = _dims("action", space)
    return ActionSpec(dims, _UNKNOWN, _UNKNOWN, (True,) * len(dims), *limits, rate_hz=rate_hz)
