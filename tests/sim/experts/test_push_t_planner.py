"""Planned demonstrations: reproducible one by one, physical, and mostly successful."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.experts import push_t_primitives as primitives
from arp_jax.sim.experts.push_t_planner import PlannerConfig, plan_demonstrations
from arp_jax.sim.push_t import dynamics, geometry
from arp_jax.sim.push_t.coverage import coverage

# Small enough for a test; the defaults plan better.
SMALL = PlannerConfig(slots=4, candidates=32, max_steps=60)


@pytest.fixture(scope="module")
def demonstrations():
    return plan_demonstrations(range(6), SMALL)


def test_a_demonstration_does_not_depend_on_the_others(demonstrations):
    # Another company, another order: seed 4 took a slot that had been freed, now it has the first.
    for again in plan_demonstrations([4, 1], SMALL):
        first = demonstrations[again.seed]
        for name in ("initial", "actions", "agent_pos", "block_pose", "coverage"):
            np.testing.assert_array_equal(getattr(again, name), getattr(first, name), name)


def test_shapes_and_order(demonstrations):
    assert [d.seed for d in demonstrations] == list(range(6))
    for d in demonstrations:
        length = len(d.actions)
        assert 1 <= length <= SMALL.max_steps
        assert d.initial.shape == (5,)
        assert d.actions.shape == (length, 2)
        assert d.agent_pos.shape == (length, 2)
        assert d.block_pose.shape == (length, 3)
        assert d.coverage.shape == (length,)
        assert all(getattr(d, n).dtype == np.float32 for n in ("actions", "coverage", "initial"))
        assert d.success == (d.coverage[-1] > geometry.SUCCESS_COVERAGE)
        assert (d.coverage[:-1] <= geometry.SUCCESS_COVERAGE).all()
        assert d.success or length == SMALL.max_steps
        assert ((d.actions >= 0) & (d.actions <= geometry.WORLD_SIZE)).all()


def test_recorded_actions_reproduce_the_recorded_states(demonstrations):
    step, pose = jax.jit(dynamics.step), jax.jit(dynamics.pose)
    for d in demonstrations[:3]:
        physics = jax.jit(dynamics.reset)(jnp.asarray(d.initial))
        for time, action in enumerate(d.actions):
            agent, block = pose(physics)
            np.testing.assert_allclose(agent, d.agent_pos[time], atol=0.05)
            np.testing.assert_allclose(block, d.block_pose[time], atol=0.05)
            physics = step(physics, action)
            found = float(coverage(pose(physics)[1]))
            assert found == pytest.approx(float(d.coverage[time]), abs=2e-3)


def test_noise_and_speed_differ_from_seed_to_seed(demonstrations):
    speeds = [
        np.median(np.linalg.norm(np.diff(d.actions, axis=0), axis=-1)) for d in demonstrations
    ]
    assert np.ptp(speeds) > 1.0
    assert len({tuple(d.initial) for d in demonstrations}) == len(demonstrations)


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="seed -1"):
        plan_demonstrations([-1], SMALL)
    with pytest.raises(ValueError, match="candidates"):
        PlannerConfig(candidates=2)
    with pytest.raises(ValueError, match="min_speed"):
        PlannerConfig(min_speed=30.0)


def test_perimeter_normals_point_out_of_the_block():
    def inside(points: np.ndarray) -> np.ndarray:
        boxes = [np.all((points > lo) & (points < hi), axis=-1) for lo, hi in geometry.BOXES]
        return np.any(boxes, axis=0)

    assert not inside(primitives.POINTS + 0.5 * primitives.NORMALS).any()
    assert inside(primitives.POINTS - 0.5 * primitives.NORMALS).all()
    np.testing.assert_allclose(np.linalg.norm(primitives.NORMALS, axis=-1), 1.0, atol=1e-6)


def test_way_starts_at_the_last_target_and_keeps_its_speeds():
    start, block = jnp.array([60.0, 60.0]), jnp.array([256.0, 256.0, 0.4])
    primitive = primitives.Primitive(*jnp.array([20.0, 0.1, 40.0, 8.0, 0.0]))
    way = primitives.way_of(start, block, primitive, jnp.float32(20.0))
    arrival = float(primitives.arrival(way))
    targets = np.asarray(primitives.targets(way, jnp.arange(0.0, 60.0)))
    stride = np.linalg.norm(np.diff(targets, axis=0), axis=-1)
    np.testing.assert_allclose(targets[0], start)
    assert stride.max() < 20.0 + 1e-3
    np.testing.assert_allclose(stride[int(arrival) + 1 : int(arrival) + 3], 8.0, atol=1e-2)
    np.testing.assert_allclose(targets[-1], way.vertices[-1], atol=1e-3)


@pytest.mark.slow
def test_default_planner_succeeds():
    planned = plan_demonstrations(range(1000, 1024))
    assert np.mean([d.success for d in planned]) >= 0.95
