"""Files in ACT's layout, read back with h5py as ACT's own scripts do."""

import io

import numpy as np
import pytest
from PIL import Image

from arp_jax.data.formats.act_hdf5 import episode_path, write_episode

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

STEPS = 6


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    numbers = {key: rng.normal(size=(STEPS, 14)).astype(np.float32) for key in ("qpos", "qvel")}
    return numbers | {"action": rng.normal(size=(STEPS, 14)).astype(np.float32)}


def pictures() -> dict[str, np.ndarray]:
    """Red fades from left to right, blue from top to bottom: channels cannot be mistaken."""
    images = np.zeros((STEPS, 32, 48, 3), np.uint8)
    images[..., 0] = np.linspace(0, 250, 48)
    images[..., 2] = np.linspace(250, 0, 32)[:, None]
    plain = np.full((STEPS, 32, 48, 3), 90, np.uint8)
    return {"top": images, "angle": plain + np.arange(STEPS, dtype=np.uint8)[:, None, None, None]}


def test_an_episode_is_read_back(tmp_path):
    path = episode_path(tmp_path, 3)
    assert path.name == "episode_3.hdf5"
    values, images = arrays(), pictures()
    # Frames may come one by one, as from a renderer.
    write_episode(path, **values, images={k: iter(v) for k, v in images.items()})
    with h5py.File(path) as file:
        assert file.attrs["sim"]
        assert not file.attrs["compress"]
        np.testing.assert_array_equal(file["/action"], values["action"])
        np.testing.assert_array_equal(file["/observations/qpos"], values["qpos"])
        np.testing.assert_array_equal(file["/observations/qvel"], values["qvel"])
        for name, frames in images.items():
            stored = file[f"/observations/images/{name}"]
            assert stored.dtype == np.uint8
            assert stored.chunks == (1, 32, 48, 3)
            np.testing.assert_array_equal(stored, frames)
        assert "compress_len" not in file
    assert [p.name for p in tmp_path.iterdir()] == ["episode_3.hdf5"]


def test_compressed_frames_decode_as_opencv_does(tmp_path):
    path, images = episode_path(tmp_path, 0), pictures()
    write_episode(path, **arrays(), images=images, compress=True)
    with h5py.File(path) as file:
        assert file.attrs["compress"]
        lengths = file["/compress_len"][()]
        assert lengths.shape == (2, STEPS)
        for camera, name in enumerate(file["/observations/images"]):
            rows = file[f"/observations/images/{name}"][()]
            assert rows.shape == (STEPS, rows.shape[1])
            for step in range(STEPS):
                assert not rows[step, lengths[camera, step] :].any()
                # cv2.imdecode gives blue first; that array is the RGB picture that was stored.
                with Image.open(io.BytesIO(rows[step].tobytes())) as image:
                    decoded = np.array(image)[..., ::-1].astype(int)
                assert np.abs(decoded - images[name][step]).mean() < 6
    cv2 = pytest.importorskip("cv2", reason="opencv is not installed")
    with h5py.File(path) as file:
        decoded = cv2.imdecode(file["/observations/images/top"][2], 1)
    assert np.abs(decoded.astype(int) - images["top"][2]).mean() < 6


def test_an_episode_without_cameras(tmp_path):
    path = episode_path(tmp_path, 0)
    write_episode(path, **arrays(), images={}, compress=True)
    with h5py.File(path) as file:
        assert list(file["/observations/images"]) == []
        assert file["/observations/qpos"].shape == (STEPS, 14)


@pytest.mark.parametrize("compress", [False, True])
def test_unequal_lengths_leave_no_file(tmp_path, compress):
    path, values, images = episode_path(tmp_path, 0), arrays(), pictures()
    short = {"top": images["top"][:5], "angle": images["angle"]}
    with pytest.raises(ValueError, match="5 frames of 'top', 6 actions"):
        write_episode(path, **values, images=short, compress=compress)
    with pytest.raises(ValueError, match="6 actions, but 4 joint positions"):
        write_episode(path, **values | {"qpos": values["qpos"][:4]}, images={}, compress=compress)
    assert list(tmp_path.iterdir()) == []
