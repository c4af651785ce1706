"""Recorded ALOHA actions executed open loop in the third-party gym-aloha: does it agree with us?

In: initial conditions and actions of our own tasks. Out: the best reward of each episode as
gym-aloha judges it. Nothing is rendered, and an episode ends at full reward.
"""

from collections.abc import Iterable

import numpy as np

from arp_jax.sim.gym_adapter import GYM_ALOHA
from arp_jax.sim.gym_aloha_env import GymAloha


def replay(task: str, initials: Iterable[np.ndarray], actions: Iterable[np.ndarray]) -> np.ndarray:
    """Best rewards of episodes in gym-aloha.

    Args:
        task: "transfer_cube" or "insertion".
        initials: [N, K], initial conditions of our task.
        actions: [N, T, 14], our joint actions; the lengths of episodes may differ.

    Returns:
        float32 [N], 0 ... 4; 4 is success.

    Raises:
        ValueError: gym-aloha has no such task.
        ImportError: gym-aloha is not installed.
    """
    names = {ours: theirs for theirs, ours in GYM_ALOHA.items()}
    if task not in names:
        raise ValueError(f"gym-aloha has no task {task!r}; choose one of {sorted(names)}")
    env = GymAloha(names[task])
    best = []
    for initial, episode in zip(initials, actions, strict=True):
        env.reset_to(np.asarray(initial))
        reward = 0.0
        for action in np.asarray(episode):
            _, now, done, _ = env.step(action)
            reward = max(reward, now)
            if done:
                break
        best.append(reward)
    env.close()
    return np.asarray(best, np.float32)
