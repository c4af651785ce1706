"""What stands beside a policy in the tables: the sampling planner, played back in the same program.

Flows in: episodes, seed, time limit. Flows out: initial conditions and plans for
`controllers.replay_controller`. The planner sees the simulator's state and so is an upper mark, not
a competitor; its initial states follow the same law as the policy's but are its own draws.
"""

import numpy as np


def planner_plans(
    episodes: int, ids: np.ndarray, seed: int, max_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Plans Push-T episodes.

    Args:
        episodes: N, number of episodes of the whole evaluation.
        ids: int [M], those of them that are planned here.
        seed: episode i is planned from the integer seed `seed + i`.
        max_steps: time limit of a plan, T.

    Returns:
        Initial conditions float32 [N, 5] and targets float32 [N, T, 2] in px, zero for episodes
        that are not planned here; a plan that is done early holds its last target.
    """
    from arp_jax.sim.experts.push_t_planner import PlannerConfig, plan_demonstrations

    config = PlannerConfig(max_steps=max_steps)
    demonstrations = plan_demonstrations([seed + int(i) for i in ids], config, progress=True)
    initial = np.zeros((episodes, 5), np.float32)
    plans = np.zeros((episodes, max_steps, 2), np.float32)
    for i, d in zip(ids, demonstrations, strict=True):
        initial[i] = d.initial
        missing = max(0, max_steps - len(d.actions))
        plans[i] = np.pad(d.actions[:max_steps], ((0, missing), (0, 0)), "edge")
    return initial, plans
