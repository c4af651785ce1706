"""Push-T's board under the arm: maps, shapes, and that the arm reaches all of it."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from arp_jax.sim import kinematics
from arp_jax.sim.mycobot import bench, board
from arp_jax.sim.mycobot.arm import COMMAND_LIMITS, HOME
from arp_jax.sim.mycobot.push_t import START_ITERATIONS, load_model, upright
from arp_jax.sim.push_t import dynamics, geometry


def test_maps_are_inverse_and_have_the_right_orientation():
    rng = np.random.default_rng(0)
    px = rng.uniform(0, 512, (20, 2)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(board.to_px(board.to_world(px))), px, atol=1e-3)
    middle, right, low = np.asarray(board.to_world(np.array([[256, 256], [300, 256], [256, 300]])))
    np.testing.assert_allclose(middle, board.CENTER, atol=1e-7)
    np.testing.assert_allclose(right - middle, [0, -44 * board.SCALE], atol=1e-6)
    np.testing.assert_allclose(low - middle, [-44 * board.SCALE, 0], atol=1e-6)


def test_the_t_has_the_public_shape_in_every_pose():
    """Corners of the two boxes in MuJoCo, seen in px, are Push-T's keypoints."""
    model = load_model()
    data = mujoco.MjData(model)
    reset_pose = jax.jit(lambda initial: dynamics.pose(dynamics.reset(initial))[1])
    for pose in ((200.0, 300.0, 0.0), (256.0, 256.0, np.pi / 4), (120.0, 390.0, -2.0)):
        x, y, angle = pose
        initial = jnp.array([0.0, 0.0, x, y, angle])
        data.qpos[6:] = board.block_joints(initial)
        mujoco.mj_kinematics(model, data)
        seen = board.block_pose(jnp.array(data.qpos[6:], jnp.float32))
        np.testing.assert_allclose(seen, reset_pose(initial), atol=2e-3)
        expected = np.asarray(geometry.keypoints(seen)).reshape(2, 4, 2)
        for name, corners in zip(("bar", "stem"), expected, strict=True):
            geom = data.geom(name)
            half = model.geom(name).size
            signs = np.array([[a, b, 0.0] for a in (-1, 1) for b in (-1, 1)])
            world = geom.xpos + (signs * half) @ geom.xmat.reshape(3, 3).T
            found = np.asarray(board.to_px(world[:, :2]))
            distances = np.linalg.norm(found[:, None] - corners[None], axis=-1)
            assert distances.min(0).max() < 0.01, (name, pose)


def test_the_goal_mark_lies_where_coverage_is_counted():
    model = load_model()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    corners = np.asarray(geometry.keypoints(np.array(geometry.GOAL_POSE))).reshape(2, 4, 2)
    for name, points in zip(("goal_bar", "goal_stem"), corners, strict=True):
        middle = np.asarray(board.to_px(data.geom(name).xpos[:2]))
        np.testing.assert_allclose(middle, points.mean(0), atol=1e-2)


def test_the_arm_reaches_every_target_with_the_peg_upright():
    chain = bench.tip_chain(load_model())
    rows = np.stack(np.meshgrid(np.linspace(0, 512, 7), np.linspace(0, 512, 7)), -1).reshape(-1, 2)

    @jax.jit
    @jax.vmap
    def reach(target):
        q = upright(chain, target, jnp.array(HOME), START_ITERATIONS)
        pos, quat = kinematics.forward(chain, q)
        place = jnp.append(board.to_world(target), board.TOOL_HEIGHT)
        axis = bench.rotations.rotate(quat, jnp.array([0.0, 0.0, 1.0]))
        return q, jnp.linalg.norm(pos - place), axis[2]

    joints, error, vertical = reach(jnp.asarray(rows, jnp.float32))
    assert float(error.max()) < 5e-4  # 1.2 px
    assert float(vertical.max()) < -0.9999
    assert (np.abs(joints) <= np.array(COMMAND_LIMITS) + 0.01).all()
