"""ALOHA's scripted experts: published tracks, success in our scenes and in gym-aloha."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.sim.experts import aloha_insertion, aloha_move_cube, aloha_transfer_cube
from arp_jax.sim.experts.aloha_hands import START_ANGLES, STEPS, Pose
from arp_jax.sim.experts.waypoints import Waypoint, disturb, interpolate
from arp_jax.sim.tasks import make_expert, make_task
from tests.golden_files import golden_path, load_golden
from tests.sim.aloha.stepping import roll_out
from tests.sim.expert_tries import play, start_tries

SEED = 17
LEVEL = (1.0, 0.0, 0.0, 0.0)


@pytest.mark.golden
def test_tracks_are_the_published_ones():
    golden = load_golden(golden_path("scripted", "act"))

    def pose(name: str) -> Pose:
        return Pose(golden[name][:3], golden[name][3:])

    left, right = pose("in/mocap_left"), pose("in/mocap_right")
    cube, peg, socket = (golden[f"in/{name}"][:3] for name in ("box", "peg", "socket"))
    scripts = {
        "transfer": aloha_transfer_cube.waypoints(left, right, cube),
        "insertion": aloha_insertion.waypoints(
            left,
            right,
            peg,
            socket,
            aloha_insertion.PUBLISHED_LIFT,
            aloha_insertion.PUBLISHED_REACH,
        ),
        "fork_move": [
            aloha_move_cube.waypoints(
                pose("in/mocap_right_fork"),
                cube,
                aloha_move_cube.PUBLISHED_TARGET,
                aloha_move_cube.PUBLISHED_DROP,
            )
        ],
    }
    for name, hands in scripts.items():
        track = np.concatenate([interpolate(way, STEPS) for way in hands], -1)
        np.testing.assert_allclose(track, golden[f"out/{name}"], atol=1e-6, err_msg=name)


def test_interpolation_holds_the_last_pose_and_names_bad_steps():
    way = [Waypoint(0, (0, 0, 0), LEVEL, 0.0), Waypoint(4, (0.4, 0, 0), LEVEL, 1.0)]
    track = interpolate(way, 7)
    np.testing.assert_allclose(track[:, 0], [0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4], atol=1e-7)
    np.testing.assert_allclose(track[:, 7], [0, 0.25, 0.5, 0.75, 1, 1, 1], atol=1e-7)
    for bad in (way[1:], [way[0], way[0]], []):
        with pytest.raises(ValueError, match="way-points must start at step 0"):
            interpolate(bad, 7)


def test_disturbance_moves_positions_only_and_stays_in_its_width():
    track = jnp.tile(jnp.arange(8.0), (500, 1))
    moved = np.array(disturb(track, jax.random.key(0), 0.01) - track)
    assert not moved[:, 3:].any()
    assert 0.0095 < np.abs(moved[:, :3]).max() <= 0.01001
    assert np.abs(moved[:, :3].mean(0)).max() < 0.002
    np.testing.assert_array_equal(disturb(track, jax.random.key(0), 0.0), track)


@functools.cache
def demonstrations(name: str, count: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Initial conditions [N, K] and actions [N, 400, A]."""
    initial, plans = start_tries(make_task(name), make_expert(name), count, SEED, noise)
    return initial, np.asarray(plans)


def successes(name: str, count: int, noise: float = 0.0) -> np.ndarray:
    """Of the same episodes in our scene, bool [N]."""
    return play(make_task(name), make_expert(name), count, SEED, noise)


def check_actions(name: str, actions: np.ndarray) -> None:
    """Within the limits, from the start pose, without jumps or a forearm turned over."""
    spec = make_task(name).action_spec
    assert np.all(actions >= np.array(spec.low) - 1e-5)
    assert np.all(actions <= np.array(spec.high) + 1e-5)
    np.testing.assert_allclose(
        actions[:, 0, -7:-1], np.tile(START_ANGLES, (len(actions), 1)), atol=1e-6
    )
    assert np.abs(np.diff(actions, axis=1)).max() < 0.15
    rolls = [i for i, dim in enumerate(spec.dims) if dim.endswith("forearm_roll")]
    assert np.abs(actions[..., rolls]).max() < 1.5


def test_the_transfer_expert_succeeds():
    check_actions("transfer_cube", demonstrations("transfer_cube", 6)[1])
    assert successes("transfer_cube", 6).all()


def touching(model, data) -> set[frozenset[str]]:
    """Pairs of geoms that MuJoCo finds in contact."""
    return {
        frozenset((model.geom(c.geom1).name, model.geom(c.geom2).name))
        for c in data.contact
        if c.dist < 0
    }


def published_reward(name: str, model, data) -> int:
    """The published rules, read from contacts."""
    pairs = touching(model, data)

    def touch(geom: str, *others: str) -> bool:
        return any(frozenset((geom, other)) in pairs for other in others)

    if name == "transfer_cube":
        right = touch("cube", "right/right_finger_pad")
        left = touch("cube", "left/left_finger_pad")
        lifted = not touch("cube", "table")
        return max(right * (1 + lifted), left * (3 + lifted))
    walls = ("wall_bottom", "wall_top", "wall_far", "wall_near")
    held = touch("peg", "right/right_finger_pad") and touch("left/left_finger_pad", *walls)
    lifted = not touch("table", "peg", *walls)
    inside = lifted and touch("peg", *walls)
    return max(held * (1 + lifted), 3 * inside, 4 * touch("peg", "pin"))


@pytest.mark.parametrize(
    ("name", "count"),
    [("transfer_cube", 6), pytest.param("insertion", 20, marks=pytest.mark.slow)],
)
def test_rewards_agree_with_contacts(name, count):
    """Along an expert's episode: geometry and MuJoCo's contacts tell the same stage."""
    task = make_task(name)
    initial, actions = demonstrations(name, count)
    model, found, expected = task.load_model(), [], []
    for data, outcome in roll_out(task, initial[1], actions[1]):
        found.append(int(outcome.reward))
        expected.append(published_reward(name, model, data))
        assert bool(outcome.success) == (found[-1] == 4)
    assert max(found) == max(expected) == 4
    # The margin lets "touches" begin or end a step or two apart.
    differ = np.mean(np.array(found) != np.array(expected))
    assert differ <= 0.03, f"{differ:.1%} of the steps differ"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["insertion", "move_cube"])
def test_the_other_experts_succeed(name):
    check_actions(name, demonstrations(name, 20)[1])
    assert successes(name, 20).mean() >= 0.95


def test_noise_varies_the_demonstrations():
    """Another motion each time, the same gripper, and still mostly a success."""
    _, plain = demonstrations("transfer_cube", 6)
    _, noisy = demonstrations("transfer_cube", 6, 0.005)
    np.testing.assert_array_equal(noisy[..., [6, 13]], plain[..., [6, 13]])
    moved = np.abs(noisy - plain).mean((1, 2))
    assert np.all(moved > 1e-3)
    assert np.all(moved < 0.05)
    assert successes("transfer_cube", 6, 0.005).mean() >= 5 / 6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transfer_cube", "insertion"])
def test_demonstrations_succeed_in_gym_aloha(name):
    """Actions from our scene, executed open loop in the third party's."""
    pytest.importorskip("gym_aloha", reason="gym-aloha is not installed")
    from arp_jax.sim.gym_aloha_replay import replay

    initial, actions = demonstrations(name, 20)
    assert np.mean(replay(name, initial, actions) == 4.0) >= 0.95


def test_replay_names_an_unknown_task():
    from arp_jax.sim.gym_aloha_replay import replay

    with pytest.raises(ValueError, match="gym-aloha has no task 'move_cube'"):
        replay("move_cube", [], [])
