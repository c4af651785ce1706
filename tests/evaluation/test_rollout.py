"""Outcomes depend on (seed, episode id) only; episodes end, freeze and count exactly once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.evaluation.controllers import Controller, hold_controller, replay_controller
from arp_jax.evaluation.episodes import EpisodeResults, representative_episodes
from arp_jax.evaluation.rollout import Rollout, RolloutConfig, initial_conditions

N = 23


def run(env, controller, params, envs=N, seed=0, max_steps=40, **kwargs) -> EpisodeResults:
    config = RolloutConfig(episodes=N, envs=envs, seed=seed, max_steps=max_steps)
    return Rollout(env, controller, config, **kwargs)(params)


@pytest.fixture(scope="module")
def reference(env, controller, params) -> EpisodeResults:
    return run(env, controller, params)


@pytest.mark.parametrize("envs", [1, 7, 256])
def test_outcomes_do_not_depend_on_parallel_environments(env, controller, params, reference, envs):
    results = run(env, controller, params, envs)
    assert results.count == N
    np.testing.assert_array_equal(results.initial, reference.initial)
    apart = np.abs(results.score - reference.score).max()
    print(f"E={envs} against E={N}: best {env.success_metric} at most {apart:.2e} apart")
    assert apart < 1e-5
    np.testing.assert_array_equal(results.length, reference.length)
    np.testing.assert_array_equal(results.success, reference.success)


def test_two_runs_with_one_seed_are_identical_and_seeds_differ(env, controller, params, reference):
    again = run(env, controller, params)
    for name in ("length", "success", "max_reward", "initial"):
        np.testing.assert_array_equal(getattr(again, name), getattr(reference, name))
    other = run(env, controller, params, seed=1)
    assert np.abs(other.initial - reference.initial).max() > 0.01
    assert (other.length != reference.length).any()


def test_rollout_agrees_with_a_plain_loop(env, controller, params, reference):
    """One episode, written out without scan, vmap or freezing."""
    for episode in (0, 5):
        key = jax.random.fold_in(jax.random.key(0), episode)
        state = env.reset(jax.random.fold_in(key, 0))
        noise = jax.random.fold_in(key, 1)
        history, step, rewards = [state.observation["position"]] * 2, 0, []
        while step < 40 and not (rewards and bool(state.done)):
            observation = {"position": jnp.stack(history)}
            decision_rng = jax.random.fold_in(noise, step)
            actions = controller.act(params, _decision(observation, decision_rng, step, episode))
            for action in actions:
                state = env.step(state, action)
                history = [history[1], state.observation["position"]]
                rewards.append(float(state.reward))
                step += 1
                if bool(state.done) or step == 40:
                    break
        assert step == reference.length[episode]
        assert bool(state.done) == reference.success[episode]
        assert max(rewards) == pytest.approx(reference.max_reward[episode], abs=1e-5)


def _decision(observation, rng, step, episode):
    from arp_jax.evaluation.controllers import Decision

    return Decision(observation, rng, jnp.int32(step), jnp.int32(episode))


def test_finished_episodes_are_frozen(reference):
    assert reference.success.any()
    assert not reference.success.all()
    assert (reference.length[reference.success] < 40).any()
    # The environment's own step counter stops with the episode.
    np.testing.assert_array_equal(reference.final["steps"], reference.length)


def test_best_keeps_the_maximum_when_the_end_is_worse(env):
    """A plan that passes near the origin and leaves again."""
    plan = jnp.concatenate([jnp.zeros((12, 2)), jnp.ones((28, 2))])[None]  # [1, T, A]
    config = RolloutConfig(episodes=1, max_steps=40)
    start = np.float32([[0.9, 0.9]])
    results = Rollout(env, replay_controller("plan", 5), config, initial=start)(plan)
    assert not results.success[0]
    assert results.best["closeness"][0] > 0.5 > results.final["closeness"][0]


def test_time_limit_that_is_no_multiple_of_execute(env):
    results = run(env, hold_controller(env.observation_spec, env.action_spec, 8), {}, max_steps=13)
    assert set(results.length[~results.success]) == {13}
    np.testing.assert_array_equal(results.final["steps"], results.length)


def test_history_repeats_the_first_frame_and_then_slides(env):
    """The controller reports what it sees as its action; the plan's frames show it back."""

    def act(params, decision):
        return decision.observation["position"]  # [W, 2] == [execute, A]

    peek = Controller("peek", 2, 2, act)
    record = {"initial": np.float32([[0.5, -0.5]]), "record": lambda s: {"p": s.physics[0]}}
    results = Rollout(env, peek, RolloutConfig(episodes=1, max_steps=4), **record)({})
    frames = results.frames([0])[0]["p"]
    expected = [np.float32([0.5, -0.5])]
    for chunk in range(2):
        seen = [expected[max(2 * chunk - 1, 0)], expected[2 * chunk]]
        for target in seen:
            expected.append(expected[-1] + 0.1 * (target - expected[-1]))
    np.testing.assert_allclose(frames, expected, atol=1e-6)


def test_recorded_frames_end_with_the_episode(env, controller, params):
    results = run(env, controller, params, envs=7, record=lambda s: {"position": s.physics[0]})
    chosen = representative_episodes(results, 6)
    assert len(set(chosen)) == len(chosen)
    for episode, frames in zip(chosen, results.frames(chosen), strict=True):
        assert len(frames["position"]) == results.length[episode] + 1
        np.testing.assert_allclose(frames["position"][0], results.initial[episode])
        distance = np.linalg.norm(frames["position"][1:], axis=-1)
        assert 1 - distance.min() == pytest.approx(results.score[episode], abs=1e-5)


def test_given_initial_conditions_are_used(env, controller, params, reference):
    drawn = initial_conditions(env, seed=0, count=N)
    results = run(env, controller, params, initial=drawn, seed=0)
    np.testing.assert_array_equal(results.max_reward, reference.max_reward)
    with pytest.raises(ValueError, match="3 initial conditions for 23 episodes"):
        run(env, controller, params, initial=drawn[:3])


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="--episodes"):
        RolloutConfig(episodes=0)
    with pytest.raises(ValueError, match="--seed"):
        RolloutConfig(seed=-1)


def test_a_second_call_does_not_compile_again(env, controller, params):
    rollout = Rollout(env, controller, RolloutConfig(episodes=3, max_steps=8))
    assert rollout(params).compile_seconds > 0
    assert rollout(params).compile_seconds == 0


def test_results_are_saved_as_a_table(reference, tmp_path):
    reference.save(tmp_path / "episodes.npz")
    with np.load(tmp_path / "episodes.npz", allow_pickle=False) as table:
        np.testing.assert_array_equal(table["best_closeness"], reference.score)
        np.testing.assert_array_equal(table["episode"], np.arange(N))
