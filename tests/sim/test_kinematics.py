"""Kinematics against MuJoCo's own, on a chain with every kind of link."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from arp_jax.sim import rotations
from arp_jax.sim.kinematics import chain_of, forward, jacobian, solve, track

XML = """
<mujoco><compiler angle="radian"/><worldbody>
<body name="base" pos=".1 .2 .3" quat=".9 .1 -.2 .3"><geom size=".01"/>
 <body name="a" pos="0 0 .1"><joint name="j0" axis="0 0 1" range="-3 3"/><geom size=".01"/>
  <body name="b" pos=".3 0 .05" euler=".2 .3 .4">
   <joint name="j1" axis="0 1 0" range="-2 2" pos=".01 .02 .03"/><geom size=".01"/>
   <body name="rigid" pos="0 .1 .2" euler="0 0 .7"><geom size=".01"/>
    <body name="c" pos=".2 0 0"><joint name="j2" type="slide" axis=".6 0 .8" range="-.1 .2"/>
     <geom size=".01"/>
     <body name="d" pos=".1 0 0"><joint name="j3" axis="1 0 0"/><geom size=".01"/>
      <body name="e" pos=".2 0 0"><joint name="j4" axis="0 1 0" range="-2 2"/><geom size=".01"/>
       <body name="f" pos=".1 0 0"><joint name="j5" axis="0 0 1" range="-2 2"/>
        <geom size=".01"/><site name="tip" pos=".05 .01 .02" euler=".3 .2 .1"/>
</body></body></body></body></body></body></body></body></worldbody></mujoco>
"""
JOINTS = tuple(f"j{i}" for i in range(6))


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(XML)


@pytest.fixture(scope="module")
def chain(model):
    return chain_of(model, "tip", JOINTS)


def random_joints(seed, count=None):
    shape = (6,) if count is None else (count, 6)
    draw = np.random.default_rng(seed).uniform(-1.0, 1.0, shape)
    return draw * [2, 1.5, 0.1, 2, 1.5, 1.5]


def test_forward_and_jacobian_agree_with_mujoco(model, chain):
    data = mujoco.MjData(model)
    for q in random_joints(0, 20):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        pos, quat = forward(chain, q)
        np.testing.assert_allclose(pos, data.site("tip").xpos, atol=1e-6)
        matrix = rotations.to_matrix(quat)
        np.testing.assert_allclose(matrix, data.site("tip").xmat.reshape(3, 3), atol=1e-6)
        linear, angular = np.zeros((3, 6)), np.zeros((3, 6))
        mujoco.mj_jacSite(model, data, linear, angular, model.site("tip").id)
        expected = np.concatenate([linear, angular])
        np.testing.assert_allclose(jacobian(chain, q), expected, atol=1e-6)


def test_solve_reaches_what_can_be_reached(chain):
    wanted = random_joints(1, 16) * 0.8
    poses = jax.vmap(lambda q: forward(chain, q))(jnp.asarray(wanted))
    begin = jnp.asarray(wanted + 0.2 * random_joints(2, 16))
    found = jax.jit(jax.vmap(lambda p, r, q: solve(chain, p, r, q, 60)))(*poses, begin)
    assert float(found.position_error.max()) < 1e-3
    assert float(found.rotation_error.max()) < 5e-3
    assert np.all(found.q >= np.array(chain.low) - 1e-6)
    assert np.all(found.q <= np.array(chain.high) + 1e-6)


def test_an_unreachable_pose_gives_finite_joints_within_limits(chain):
    found = solve(chain, jnp.array([9.0, 9.0, 9.0]), jnp.array([1.0, 0, 0, 0]), jnp.zeros(6))
    assert np.all(np.isfinite(found.q))
    assert float(found.position_error) > 1.0
    assert np.all(found.q <= np.array(chain.high) + 1e-6)


def test_track_follows_a_path(chain):
    q = np.linspace(random_joints(3) * 0.5, random_joints(4) * 0.5, 30)
    poses = jax.vmap(lambda x: forward(chain, x))(jnp.asarray(q))
    followed = track(chain, *poses, q[0])
    again = jax.vmap(lambda x: forward(chain, x))(followed)
    np.testing.assert_allclose(again[0], poses[0], atol=1e-3)


def test_a_joint_outside_the_chain_is_named(model):
    spec = mujoco.MjSpec.from_string(XML)
    other = spec.worldbody.add_body(name="other")
    other.add_joint(name="loose")
    other.add_geom(size=[0.1, 0, 0])
    with pytest.raises(ValueError, match="loose"):
        chain_of(spec.compile(), "tip", (*JOINTS, "loose"))


def test_quaternions_there_and_back():
    draw = np.random.default_rng(5).normal(size=(200, 4))
    quat = rotations.normalize(draw)
    back = rotations.from_matrix(rotations.to_matrix(quat))
    np.testing.assert_allclose(np.abs(np.sum(np.asarray(quat * back), -1)), 1.0, atol=1e-5)
    vector = rotations.to_vector(quat)
    angle = np.linalg.norm(vector, axis=-1)
    again = rotations.about(vector / angle[:, None], angle)
    np.testing.assert_allclose(np.abs(np.sum(np.asarray(quat * again), -1)), 1.0, atol=1e-5)
    assert np.all(np.isfinite(rotations.to_vector(jnp.array([1.0, 0, 0, 0]))))
