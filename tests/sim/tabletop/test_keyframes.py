"""Key-frame control on the bare arm: it arrives, on a straight line, and survives bad poses."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from arp_jax.policies.rlbench_config import ACTION_DIMS, SCENE_BOUNDS
from arp_jax.sim import kinematics, rotations
from arp_jax.sim.tabletop import arm, keyframes

MODEL = arm.new_tabletop().compile()
CHAIN = kinematics.chain_of(MODEL, arm.TOOL, arm.JOINTS)
HOME = np.array([*arm.HOME, arm.FINGER_OPEN, arm.FINGER_OPEN], np.float32)


@pytest.fixture(scope="module")
def control():
    """(actions [n, 8], gripper before []) -> ctrl [n, ROWS, 9], from the ready pose."""
    one = keyframes.KeyframeControl(CHAIN)

    def run(action, gripper):
        return one(action, {"qpos": jnp.asarray(HOME)}, {"gripper": gripper})

    compiled = jax.jit(jax.vmap(run, (0, None)))
    # One batch size for all tests: one compilation.
    return lambda actions, gripper: np.asarray(
        compiled(np.resize(np.asarray(actions, np.float32), (32, 8)), np.float32(gripper))
    )[: len(actions)]


def tool_path(rows):
    """Tool positions [ROWS + 1, 3] and final matrix [3, 3] of an arm driven by rows [ROWS, 9]."""
    data = mujoco.MjData(MODEL)
    data.qpos[:9] = HOME
    mujoco.mj_forward(MODEL, data)
    path = [data.site(arm.TOOL).xpos.copy()]
    for row in rows:
        data.ctrl[:] = row
        mujoco.mj_step(MODEL, data, keyframes.SUBSTEPS)
        mujoco.mj_kinematics(MODEL, data)
        path.append(data.site(arm.TOOL).xpos.copy())
    return np.array(path), data.site(arm.TOOL).xmat.reshape(3, 3).copy(), data


def draw_actions(count, seed=0):
    rng = np.random.default_rng(seed)
    low = [0.0, -0.3, arm.TABLE_TOP + 0.02]
    high = [0.36, 0.3, arm.TABLE_TOP + 0.3]
    poses = zip(rng.uniform(low, high, (count, 3)), rng.uniform(-0.8, 0.8, count), strict=True)
    return [keyframes.keyframe(p, keyframes.tool_down(jnp.float32(yaw)), 0.0) for p, yaw in poses]


def test_action_begins_as_in_rlbench():
    spec = keyframes.ACTION_SPEC
    assert spec.dims == ACTION_DIMS[:8]
    assert (*spec.low[:3], *spec.high[:3]) == SCENE_BOUNDS
    np.testing.assert_allclose(
        1 / spec.rate_hz, keyframes.ROWS * keyframes.SUBSTEPS * MODEL.opt.timestep
    )


def test_tool_arrives_on_a_straight_line(control):
    actions = draw_actions(12)
    for action, rows in zip(actions, control(actions, 1.0), strict=True):
        path, matrix, _ = tool_path(rows)
        goal = np.asarray(action[:3])
        np.testing.assert_allclose(path[-1], goal, atol=5e-4)
        wanted = rotations.to_matrix(jnp.roll(action[3:7], 1))
        np.testing.assert_allclose(matrix, wanted, atol=5e-3)
        along = goal - path[0]
        along /= np.linalg.norm(along)
        beside = (path - path[0]) - np.outer((path - path[0]) @ along, along)
        # 2 cm on ways of up to 60 cm in 0.64 s.
        assert np.linalg.norm(beside, axis=1).max() < 0.02


def test_gripper_waits_until_the_arm_has_arrived(control):
    action = np.array(draw_actions(1)[0])
    for before, after in ((1.0, 0.0), (0.0, 1.0)):
        action[7] = after
        fingers = control([action], before)[0, :, 7:]
        width = {1.0: np.float32(arm.FINGER_OPEN), 0.0: np.float32(arm.FINGER_CLOSED)}
        wait = keyframes.MOVE_ROWS + keyframes.SETTLE_ROWS
        assert (fingers[:wait] == width[before]).all()
        assert (fingers[wait:] == width[after]).all()


def test_poses_out_of_reach_bring_the_tool_no_farther_away(control):
    rng = np.random.default_rng(1)
    low, high = np.array(arm.WORKSPACE_LOW) - 0.2, np.array(arm.WORKSPACE_HIGH) + 0.2
    actions = np.concatenate(
        [rng.uniform(low, high, (24, 3)), rng.normal(size=(24, 4)), np.ones((24, 1))], -1
    )
    actions[0, 3:7] = 0.0  # no rotation at all
    rows = control(actions, 1.0)
    assert np.isfinite(rows).all()
    limits = MODEL.jnt_range[:7]
    last = rows[:, -1, :7]
    assert (last >= limits[:, 0] - 1e-5).all()
    assert (last <= limits[:, 1] + 1e-5).all()

    start = jnp.tile(jnp.asarray(HOME[:7]), (24, 1))
    position = jnp.clip(actions[:, :3], jnp.array(arm.WORKSPACE_LOW), jnp.array(arm.WORKSPACE_HIGH))
    quat = jax.vmap(keyframes._unit)(jnp.roll(jnp.asarray(actions[:, 3:7], jnp.float32), 1, -1))
    badness = jax.vmap(lambda q, p, r: keyframes._badness(CHAIN, q, p, r))
    after, before = badness(last, position, quat), badness(start, position, quat)
    assert (after <= before + 1e-3).all()
    assert (after < 0.5 * before).mean() > 0.3  # and many of them are reached or nearly so
