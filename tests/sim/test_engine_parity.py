"""The same expert actions in every engine: the same successes, objects within 5 mm at the end.

Each episode is replayed to its end, then its last action is held until the longest one ends.
Objects may part by a few millimetres more for some steps while a hand slips or lets go. Warp is
allowed 6 mm: in the transfer the cube slips between two hands.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim import compiler
from arp_jax.sim.expert_episodes import ExpertRunner, TryConfig, stack_actions
from arp_jax.sim.mjx import MjxEnv
from arp_jax.sim.native import NativeEnv
from arp_jax.sim.tasks import TASKS, make_expert, make_task

EPISODES = 4
LIMIT = {"jax": 0.005, "warp": 0.006}  # m


def free_positions(model, qpos):
    """Positions of the free bodies [..., N, 3]; all joints when there are none."""
    free = model.jnt_qposadr[model.jnt_type == 0]
    if free.size == 0:
        return qpos[..., None]
    return np.stack([qpos[..., start : start + 3] for start in free], -2)


@pytest.mark.slow
@pytest.mark.parametrize("impl", ["jax", "warp"])
@pytest.mark.parametrize("name", TASKS)
def test_engines_agree(name, impl):
    if impl == "warp":
        pytest.importorskip("warp", reason="needs the extra arp_jax[warp]")
    task = make_task(name)
    config = TryConfig(seed=3, envs=EPISODES)
    episodes = ExpertRunner(task, make_expert(name), config).batch(0)
    actions = stack_actions(episodes, max(len(e.action) for e in episodes))  # [T, E, A]
    initial = np.stack([e.initial for e in episodes])

    native = NativeEnv(task, EPISODES)
    native.reset(initial)
    solved = np.zeros(EPISODES, bool)
    for action in actions:
        state = native.step(action)
        solved |= state.done

    env = MjxEnv(task, impl, worlds=EPISODES)

    def body(states, action):
        states = jax.vmap(env.step)(states, action)
        return states, states.done

    def roll(initial, actions):
        return jax.lax.scan(body, jax.vmap(env.reset_to)(initial), actions)

    roll = jax.jit(roll, compiler_options=compiler.options())
    last, done = roll(jnp.asarray(initial), jnp.asarray(actions))
    np.testing.assert_array_equal(np.asarray(done).any(0), solved)
    ours = free_positions(task.load_model(), np.asarray(last.physics.readings["qpos"]))
    theirs = free_positions(task.load_model(), state.physics.readings["qpos"])
    assert np.abs(ours - theirs).max() < LIMIT[impl], np.abs(ours - theirs).max()
