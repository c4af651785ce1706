"""The ALOHA scene: published start poses, step responses, masses and cameras."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from arp_jax.sim.aloha import arm, insertion, move_cube, scene, transfer_cube, viperx
from arp_jax.sim.aloha.joints import START_JOINTS
from arp_jax.sim.tasks import make_task
from tests.sim.aloha.stepping import started

JOINTS = (*viperx.ARM_JOINTS, *viperx.FINGERS)
# Published model, measured: way (rad or m) after 0.1, 0.2, 0.4 and 1 s of a step of 0.3 rad or
# 0.02 m from the start pose. Where two times are given, the motion is over by then.
TIMES = (0.1, 0.2, 0.4, 1.0)
RESPONSES = {
    "waist": (0.266, 0.285, 0.296, 0.300),
    "shoulder": (0.364, 0.280, 0.298, 0.300),
    "elbow": (0.335, 0.303, 0.304, 0.304),
    "forearm_roll": (0.315, 0.302),
    "wrist_angle": (0.300, 0.309),
    "wrist_rotate": (0.301, 0.300),
    "left_finger": (0.0093, 0.0147, 0.0187, 0.0200),
}


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return scene.table_scene(("left", "right")).compile()


def at_start(model: mujoco.MjModel) -> mujoco.MjData:
    data = mujoco.MjData(model)
    data.qpos[:] = START_JOINTS * 2
    data.ctrl[:] = START_JOINTS * 2
    mujoco.mj_forward(model, data)
    return data


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("joint", RESPONSES)
def test_step_responses_are_those_of_the_published_model(model, side, joint):
    data = at_start(model)
    place = model.joint(f"{side}/{joint}").qposadr[0]
    begin = data.qpos[place]
    data.actuator(f"{side}/{joint}").ctrl[0] += 0.02 if joint == "left_finger" else 0.3
    for time, expected in zip(TIMES, RESPONSES[joint], strict=False):
        while data.time < time - 1e-6:
            mujoco.mj_step(model, data)
        assert data.qpos[place] - begin == pytest.approx(expected, rel=0.05), time


def test_gravity_hardly_bends_the_arms(model):
    data = at_start(model)
    for _ in range(1000):
        mujoco.mj_step(model, data)
    sag = np.abs(data.qpos - np.tile(START_JOINTS, 2)).reshape(2, 8).max(0)
    assert sag[4] < 0.010  # wrist_angle; published 0.009 rad
    assert sag[2] < 0.005  # elbow; published 0.004 rad


def test_start_pose_of_the_hands(model):
    data = at_start(model)
    for side, sign in (("left", -1), ("right", 1)):
        np.testing.assert_allclose(
            data.body(f"{side}/gripper_link").xpos,
            [sign * 0.31718881, 0.5, 0.29525084],
            atol=2e-6,
        )


def test_joint_inertias_are_the_published_ones(model):
    expected = [0.149, 0.304, 0.104, 0.0010, 0.0056, 0.0007, 0.0348, 0.0348]
    np.testing.assert_allclose(model.dof_M0, expected * 2, atol=6e-4)


def test_the_order_of_joints_and_servos(model):
    names = [f"{side}/{joint}" for side in ("left", "right") for joint in JOINTS]
    assert [model.joint(i).name for i in range(model.njnt)] == names
    assert [model.actuator(i).name for i in range(model.nu)] == names


@pytest.mark.parametrize("task", ["transfer_cube", "insertion", "move_cube"])
def test_cameras_of_a_task_exist_and_see_the_table(task):
    made = make_task(task)
    model = made.load_model()
    names = {model.camera(i).name for i in range(model.ncam)}
    assert names == {camera.name for camera in made.observation_spec.cameras}
    data = started(made, np.array([0.1, 0.5] * (len(made.initial_names) // 2)))
    for index in range(model.ncam):
        back = data.cam_xmat[index].reshape(3, 3)[:, 2]
        assert back[2] > 0.1, "the camera looks upwards"


def test_published_camera_poses(model):
    """As MuJoCo aims the published cameras in the start pose: position and backward axis."""
    data = at_start(model)
    expected = {
        "top": ((0, 0.6, 0.8), (0, 0, 1)),
        "angle": ((0, 0, 0.6), (0, -0.707107, 0.707107)),
        "front_close": ((0, 0.2, 0.4), (0.477994, -0.848829, 0.225857)),
        "left_wrist": ((-0.432663, 0.5, 0.444468), (-0.904573, 0, 0.426319)),
        "right_wrist": ((0.432663, 0.5, 0.444468), (0.904573, 0.000007, 0.426319)),
    }
    for name, (pos, back) in expected.items():
        np.testing.assert_allclose(data.camera(name).xpos, pos, atol=1e-5, err_msg=name)
        found = data.camera(name).xmat.reshape(3, 3)[:, 2]
        np.testing.assert_allclose(found, back, atol=2e-5, err_msg=name)
        fovy = model.camera(name).fovy[0]
        assert fovy == (20.0 if name.endswith("wrist") else 78.0)


@pytest.mark.parametrize(
    ("module", "free"), [(transfer_cube, 1), (insertion, 2), (move_cube, 2)], ids=lambda v: str(v)
)
def test_objects_stay_where_they_lie(module, free):
    """They rest on the table: nothing tips, slides or sinks in two seconds."""
    task = module.make_task()
    model = task.load_model()
    initial = np.array([0.15, 0.45, -0.15, 0.55][: len(task.initial_names)])
    data = started(task, initial)
    data.ctrl[:] = START_JOINTS * (model.nu // 8)
    for _ in range(500):
        mujoco.mj_step(model, data)
    begin = np.array(task.start(jnp.asarray(initial)).qpos)[model.nu :].reshape(free, 7)
    now = data.qpos[model.nu :].reshape(free, 7)
    np.testing.assert_allclose(now[:, :2], begin[:, :2], atol=1e-3)
    np.testing.assert_allclose(now[:, 3:], begin[:, 3:], atol=1e-3)
    lowest = {"cube": 0.02, "peg": 0.01, "socket": 0.022, "platform": 0.05}
    for name in lowest.keys() & {model.body(i).name for i in range(model.nbody)}:
        assert data.body(name).xpos[2] == pytest.approx(lowest[name], abs=5e-4), name


def test_only_pairs_touch(model):
    assert not model.geom_contype.any()
    assert not model.geom_conaffinity.any()


def test_a_mesh_folder_changes_pictures_only(monkeypatch):
    folder = pytest.importorskip("gym_aloha.constants", reason="no meshes").ASSETS_DIR
    plain = scene.table_scene(("right",)).compile()
    monkeypatch.setenv(arm.MESH_VARIABLE, str(folder))
    dressed = scene.table_scene(("right",)).compile()
    assert (plain.nmesh, dressed.nmesh) == (0, len(arm._mesh_stems()))
    for field in ("body_mass", "body_inertia", "body_ipos", "dof_frictionloss"):
        np.testing.assert_array_equal(getattr(plain, field), getattr(dressed, field), field)
    # Our boxes have the places of the published parts, which the meshes show.
    hidden = [i for i in range(dressed.ngeom) if dressed.geom(i).name.endswith("_pad")]
    assert [int(dressed.geom_group[i]) for i in hidden] == [3, 3]


def test_an_incomplete_mesh_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(arm.MESH_VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match=rf"{arm.MESH_VARIABLE}: .*vx300s_1_base.stl"):
        scene.table_scene(("right",))
