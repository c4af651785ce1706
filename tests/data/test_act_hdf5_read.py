"""ACT's HDF5 files are read as its own scripts see them, and every fault names file and field."""

import numpy as np
import pytest

from arp_jax.data.formats import act_hdf5_read as act
from arp_jax.data.formats.act_hdf5 import episode_path, write_episode
from arp_jax.data.formats.array_episodes import PictureCoding
from arp_jax.data.images import decode_image
from tests.data.act_files import HEIGHT, WIDTH, act_arrays, write_act
from tests.golden_files import golden_paths, load_golden

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

PNG, JPEG = PictureCoding("png"), PictureCoding("jpeg")
TOP = "observations/images/top"


def pixels(pictures):
    return np.stack([decode_image(frame) for frame in pictures])


def test_raw_episode(tmp_path):
    arrays = act_arrays(cameras=("top", "wrist"), effort=True, base=True)
    path = write_act(tmp_path / "episode_0.hdf5", arrays)
    layout = act.read_layout(path)
    assert layout.steps == 7
    assert layout.sizes == {
        "action": 14, "qpos": 14, "qvel": 14, "effort": 14, "base_action": 2,
    }  # fmt: skip
    assert layout.cameras == {"top": (HEIGHT, WIDTH), "wrist": (HEIGHT, WIDTH)}
    assert not layout.compressed
    assert not layout.sim  # a missing attribute means a real robot
    episode = act.read_episode(path, ["wrist"], PNG)
    for name, key in act.ARRAYS.items():
        np.testing.assert_array_equal(episode.arrays[name], arrays[key], err_msg=name)
    assert list(episode.pictures) == ["wrist"]
    np.testing.assert_array_equal(
        pixels(episode.pictures["wrist"]), arrays["observations/images/wrist"]
    )
    swapped = act.read_episode(path, ["top"], PNG, color_order="bgr")
    np.testing.assert_array_equal(pixels(swapped.pictures["top"]), arrays[TOP][..., ::-1])
    assert act.read_layout(write_act(tmp_path / "s.hdf5", arrays, sim=True)).sim


def test_compressed_pictures_have_the_colors_that_opencv_gives_back(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="opencv is not installed")
    arrays = act_arrays(cameras=("top", "angle"))
    path = write_act(tmp_path / "episode_0.hdf5", arrays, compress=True)
    with h5py.File(path) as file:
        rows = file[TOP][()]
    seen = np.stack([cv2.imdecode(row, 1) for row in rows])
    assert np.abs(seen.astype(int) - arrays[TOP]).mean() < 4
    rgb = pixels(act.read_episode(path, ["top"], PNG).pictures["top"])
    np.testing.assert_allclose(rgb, seen, atol=1)
    # Arrays that are BGR: the bytes are right already, and stay.
    kept = act.read_episode(path, ["top"], JPEG, color_order="bgr").pictures["top"]
    assert [frame + b"\0" * (rows.shape[1] - len(frame)) for frame in kept] == [
        row.tobytes() for row in rows
    ]
    np.testing.assert_allclose(pixels(kept), seen[..., ::-1], atol=1)
    again = pixels(act.read_episode(path, ["top"], JPEG).pictures["top"])
    assert np.abs(again.astype(int) - seen).mean() < 2


def test_our_own_writer_is_read_back(tmp_path):
    arrays = act_arrays(columns=7)
    for compress in (False, True):
        path = episode_path(tmp_path, int(compress))
        numbers = {"qpos": arrays["observations/qpos"], "qvel": arrays["observations/qvel"]}
        images = {"top": arrays[TOP]}
        write_episode(path, **numbers, action=arrays["action"], images=images, compress=compress)
        episode = act.read_episode(path, ["top"], PNG)
        np.testing.assert_array_equal(episode.arrays["qpos"], numbers["qpos"])
        difference = pixels(episode.pictures["top"]).astype(int) - arrays[TOP]
        assert np.abs(difference).mean() < (4 if compress else 1e-9)


def test_files_are_found_by_number_name_and_mirror(tmp_path):
    names = ["episode_10", "episode_2", "mirror_episode_2", "episode_3_features", "sub/episode_0"]
    for name in names:
        write_act(tmp_path / f"{name}.hdf5", act_arrays(steps=1, cameras=()))
    (tmp_path / ".episode_9.hdf5.12").touch()

    def found(**kwargs):
        paths = act.find_episodes(tmp_path, **kwargs)
        return [path.relative_to(tmp_path).as_posix()[: -len(".hdf5")] for path in paths]

    assert found() == ["episode_2", "episode_10", "mirror_episode_2", "sub/episode_0"]
    assert found(skip_mirrored=True) == ["episode_2", "episode_10", "sub/episode_0"]
    assert found(name_filter="*_2.hdf5") == ["episode_2", "mirror_episode_2"]
    with pytest.raises(ValueError, match=r"none of 5 \.hdf5 files"):
        act.find_episodes(tmp_path, "nothing*")


@pytest.mark.golden
def test_base_is_smoothed_as_the_reference_does():
    paths = [path for path in golden_paths("act") if path.name == "data.npz"]
    if not paths:
        pytest.skip("no golden vectors act/data.npz in this checkout")
    data = load_golden(paths[0])
    smooth = act.smooth_base(data["in/pp/1/base_action"])
    np.testing.assert_allclose(smooth, data["out/pp/base_smoothed_1"], atol=1e-6)


def test_smoothing_by_hand():
    base = np.zeros((6, 2), np.float32)
    base[0, 0], base[3, 1] = 10.0, 5.0
    smooth = act.smooth_base(base)
    np.testing.assert_allclose(smooth[:, 0], [2, 2, 2, 0, 0, 0])
    np.testing.assert_allclose(smooth[:, 1], [0, 1, 1, 1, 1, 1])


def test_mirror(tmp_path):
    row = np.arange(1, 15, dtype=np.float32)[None]
    expected = [[-8, 9, 10, -11, 12, -13, 14, -1, 2, 3, -4, 5, -6, 7]]
    np.testing.assert_array_equal(act.mirror_arms(row, "x"), expected)
    np.testing.assert_array_equal(act.mirror_arms(row[:, :7], "x"), [[-1, 2, 3, -4, 5, -6, 7]])
    np.testing.assert_array_equal(act.mirror_base(np.array([[3.0, 4.0]])), [[3, -4]])
    with pytest.raises(ValueError, match="x: 16 columns"):
        act.mirror_arms(np.zeros((1, 16), np.float32), "x")
    assert act.mirror_name("cam_left_wrist") == "cam_right_wrist"
    assert act.mirror_name("top") == "top"
    sentence = "Left arm: put it right of the bright cup on the left"
    assert act.mirror_sentence(sentence) == (
        "Right arm: put it left of the bright cup on the right"
    )
    cameras = ("top", "left_wrist", "right_wrist")
    arrays = act_arrays(cameras=cameras)
    path = write_act(tmp_path / "episode_0.hdf5", arrays)
    turned = act.read_episode(path, cameras, PNG, mirrored=True).pictures
    for name, source in zip(cameras, ("top", "right_wrist", "left_wrist"), strict=True):
        stored = arrays[f"observations/images/{source}"]
        np.testing.assert_array_equal(pixels(turned[name]), stored[:, :, ::-1], err_msg=name)


def test_mirrored_jpeg_is_turned(tmp_path):
    pytest.importorskip("cv2", reason="opencv is not installed")
    path = write_act(tmp_path / "episode_0.hdf5", act_arrays(), compress=True)
    for order in ("rgb", "bgr"):
        plain = act.read_episode(path, ["top"], PNG, order)
        turned = act.read_episode(path, ["top"], PNG, order, mirrored=True)
        np.testing.assert_array_equal(
            pixels(turned.pictures["top"]), pixels(plain.pictures["top"])[:, :, ::-1]
        )
        jpeg = act.read_episode(path, ["top"], JPEG, order, mirrored=True)
        difference = pixels(jpeg.pictures["top"]).astype(int) - pixels(turned.pictures["top"])
        assert np.abs(difference).mean() < 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": None}, "no 'action'; there are observations/images/top"),
        ({"observations/qpos": None}, "no 'observations/qpos'"),
        ({"observations/qpos": np.zeros((5, 14), "f4")}, r"'observations/qpos' is float32 \(5, 14"),
        ({"action": np.array([[b"a"]] * 7)}, r"'action' is \|S1 \(7, 1\), expected numbers"),
        ({TOP: np.zeros((7, 24, 32, 3), "f4")}, "'observations/images/top' is float32"),
        (
            {TOP: np.zeros((6, 24, 32, 3), "u1")},
            r"'observations/images/top' is uint8 \(6, .*of 7 steps",
        ),
        (
            {TOP: np.zeros((7, 99), "u1")},
            r"'observations/images/top' is uint8 \(7, 99\), expected uint8 pixels",
        ),
        ({"action": {"inner": np.zeros(3)}}, "'action' is a group"),
    ],
)
def test_faults_name_file_and_field(tmp_path, change, message):
    arrays = act_arrays()
    for key, values in change.items():
        del arrays[key]
        if isinstance(values, dict):
            arrays |= {f"{key}/{name}": value for name, value in values.items()}
        elif values is not None:
            arrays[key] = values
    path = write_act(tmp_path / "episode_4.hdf5", arrays, chunked=False)
    with pytest.raises(ValueError, match=rf"episode_4\.hdf5: {message}"):
        act.read_episode(path, ["top"], PNG)


def test_broken_files(tmp_path):
    path = write_act(tmp_path / "episode_4.hdf5", act_arrays())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"episode_4\.hdf5: cannot be opened as HDF5"):
        act.read_layout(path)
    path.write_bytes(b"no HDF5 at all")
    with pytest.raises(ValueError, match=r"episode_4\.hdf5: cannot be opened as HDF5"):
        act.read_layout(path)
    with pytest.raises(ValueError, match="cannot be opened as HDF5"):
        act.read_layout(tmp_path / "absent.hdf5")


def test_a_flipped_bit_in_a_compressed_chunk(tmp_path):
    path = write_act(tmp_path / "episode_0.hdf5", act_arrays())
    with h5py.File(path, "r+") as file:
        frames = file[TOP][()]
        del file[TOP]
        array = file.create_dataset(
            TOP, data=frames, chunks=(1, *frames.shape[1:]), fletcher32=True
        )
        place = array.id.get_chunk_info(5).byte_offset + 100
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"episode_0\.hdf5: '/observations/images/top' cannot be"):
        act.read_episode(path, ["top"], PNG)


def test_broken_jpeg_names_its_step(tmp_path):
    pytest.importorskip("cv2", reason="opencv is not installed")
    path = write_act(tmp_path / "episode_0.hdf5", act_arrays(), compress=True)
    with h5py.File(path, "r+") as file:
        row = file[TOP][4]
        row[len(row) // 2 :] = 0
        file[TOP][4] = row
    for order in ("rgb", "bgr"):
        with pytest.raises(ValueError, match="images/top' step 4 is no whole JPEG"):
            act.read_episode(path, ["top"], JPEG, order)
    with h5py.File(path, "r+") as file:
        row = file[TOP][2]
        row[:2] = 7
        file[TOP][2] = row
    with pytest.raises(ValueError, match="images/top' step 2: image cannot be decoded"):
        act.read_episode(path, ["top"], JPEG)
