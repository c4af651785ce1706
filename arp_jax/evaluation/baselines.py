"""What stands beside a policy in the tables: the sampling planner, played back in the same program.

Flows in: number of episodes, seed, time limit. Flows out: initial conditions and plans for
`controllers.replay_controller`. The planner sees the simulator's state and so is an upper mark, not
a competitor; its initial states follow the same law as the policy's but are its own draws.
"""

import numpy as np


def planner_plans(episodes: int, seed: int, max_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Plans Push-T episodes.

    Args:
        episodes: N.
        seed: episode i is planned from the integer seed `seed + i`.
        max_steps: time limit of a plan, T.

    Returns:
        Initial conditions float32 [N, 5] and targets float32 [N, T, 2] in px; a plan that is done
        early holds its last target.
    """
    from arp_jax.sim.experts.push_t_planner import PlannerConfig, plan_demonstrations

    config = PlannerConfig(max_steps=max_steps)
    demonstrations = plan_demonstrations(range(seed, seed + episodes), config, progress=True)
    plans = np.stack(
        [
            np.pad(d.actions[:max_steps], ((0, max(0, max_steps - len(d.actions))), (0, 0)), "edge")
            for d in demonstrations
        ]
    )  # [N, T, 2]
    return np.stack([d.initial for d in demonstrations]), plans
