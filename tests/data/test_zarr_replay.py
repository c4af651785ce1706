"""Replays written by the zarr library are read without it, chunk by chunk."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from arp_jax.data.formats.zarr_replay import open_buffer
from tests.data.replay_files import LENGTHS, replay_arrays, write_replay

zarr = pytest.importorskip("zarr", reason="zarr is not installed")


def assert_read(path, arrays, **kwargs):
    replay = open_buffer(path, **kwargs)
    ends = np.cumsum(LENGTHS).tolist()
    assert replay.bounds() == list(zip([0, *ends[:-1]], ends, strict=True))
    data = {key.removeprefix("data/"): v for key, v in arrays.items() if key.startswith("data/")}
    assert set(replay.arrays) == set(data)
    for name, values in data.items():
        for start, stop in (*replay.bounds(), (0, 18), (6, 8), (3, 3)):
            read = replay.arrays[name].read(start, stop)
            assert read.dtype == values.dtype
            np.testing.assert_array_equal(read, values[start:stop], err_msg=name)


@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
@pytest.mark.parametrize("compressor", ["zstd", "lz4", None])
def test_folders_and_zip_files(tmp_path, name, compressor):
    arrays = replay_arrays()
    assert_read(write_replay(tmp_path / name, arrays, compressor=compressor), arrays)


def test_chunks_of_any_shape_and_names_with_slashes(tmp_path):
    arrays = replay_arrays()
    assert_read(write_replay(tmp_path / "a.zarr", arrays, split=True), arrays)
    nested = {"name": "v2", "separator": "/"}
    path = write_replay(tmp_path / "b.zarr", arrays, split=True, chunk_key_encoding=nested)
    assert (path / "data/img/0/0/0/0").is_file()
    assert_read(path, arrays)


def test_a_group_inside_a_zip_file(tmp_path):
    import zipfile

    arrays = replay_arrays()
    folder = write_replay(tmp_path / "replay.zarr", arrays)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(tmp_path))
    assert_read(tmp_path / "a.zip", arrays)


def test_steps_behind_the_last_episode_are_ignored(tmp_path):
    arrays = replay_arrays()
    longer = {k: np.concatenate([v, v[:2]]) if "data" in k else v for k, v in arrays.items()}
    assert_read(write_replay(tmp_path / "a.zarr", longer), longer)


def test_chunks_that_zarr_leaves_out(tmp_path):
    arrays = replay_arrays()
    arrays["data/img"][7:14] = 0  # nothing but the fill value: zarr writes no file
    path = write_replay(tmp_path / "a.zarr", arrays)
    assert not (path / "data/img/1.0.0.0").exists()
    with pytest.raises(ValueError, match=r"data/img/1\.0\.0\.0: chunk is missing"):
        open_buffer(path).arrays["img"].read(5, 9)
    assert_read(path, arrays, fill_missing=True)


def test_jpeg_2000(tmp_path):
    """As Diffusion Policy compresses its robomimic sets: a picture a chunk."""
    arrays = replay_arrays()
    path = write_replay(tmp_path / "a.zarr", {k: v for k, v in arrays.items() if "img" not in k})
    pictures = arrays["data/img"].astype(np.uint8)
    (path / "data/img").mkdir()
    header = {
        "zarr_format": 2, "shape": pictures.shape, "chunks": (1, *pictures.shape[1:]),
        "dtype": "|u1", "order": "C", "filters": None, "fill_value": 0,
        "compressor": {"id": "imagecodecs_jpeg2k", "level": 50, "codecformat": None},
    }  # fmt: skip
    (path / "data/img/.zarray").write_text(json.dumps(header))
    for step, picture in enumerate(pictures):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "jpeg2000", irreversible=False)
        (path / f"data/img/{step}.0.0.0").write_bytes(buffer.getvalue())
    arrays["data/img"] = pictures
    assert_read(path, arrays)
    chunk = path / "data/img/3.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"data/img/3\.0\.0\.0: chunk is truncated or damaged"):
        open_buffer(path).arrays["img"].read(3, 4)
    header["compressor"]["id"] = "imagecodecs_jpegxl"
    (path / "data/img/.zarray").write_text(json.dumps(header))
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match="'imagecodecs_jpegxl' needs: pip install"):
            open_buffer(path)


def change_header(path, key, **changes):
    file = path / key / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_faults_name_file_and_array(tmp_path):
    arrays = replay_arrays()
    path = write_replay(tmp_path / "a.zarr", arrays)
    with pytest.raises(ValueError, match=r"no array 'data/pose'; there are \['action', 'img'"):
        open_buffer(path, ["pose"])
    with pytest.raises(ValueError, match=r"absent\.zarr: no zarr replay here"):
        open_buffer(tmp_path / "absent.zarr")
    zarr.open_group(str(tmp_path / "new.zarr"), mode="w", zarr_format=3)
    with pytest.raises(ValueError, match=r"new\.zarr: is of zarr version 3"):
        open_buffer(tmp_path / "new.zarr")
    (tmp_path / "text.zip").write_text("nothing")
    with pytest.raises(ValueError, match=r"text\.zip: no whole zip file"):
        open_buffer(tmp_path / "text.zip")
    change_header(path, "data/action", order="F")
    with pytest.raises(ValueError, match=r"data/action/\.zarray: only zarr 2"):
        open_buffer(path)
    change_header(path, "data/action", order="C", dtype="|O")
    with pytest.raises(ValueError, match=r"data/action/\.zarray: only zarr 2"):
        open_buffer(path)
    change_header(path, "data/action", dtype="<f4", compressor={"id": "unheard"})
    with pytest.raises(ValueError, match=r"data/action/\.zarray: is no zarr array header"):
        open_buffer(path)
    ends = arrays["meta/episode_ends"]
    for wrong in (ends[::-1], ends - ends[0], ends + 1):
        path = write_replay(tmp_path / "b.zarr", arrays | {"meta/episode_ends": wrong})
        with pytest.raises(
            ValueError, match=r"b\.zarr/(meta/episode_ends: must incr|data/.*18 st)"
        ):
            open_buffer(path, ["action"])
    archive = write_replay(tmp_path / "c.zarr.zip", arrays)
    content = bytearray(archive.read_bytes())
    place = content.find(b"data/state/1.0") + 60
    content[place] ^= 255
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.zarr\.zip/data/state/1\.0"):
        open_buffer(archive).arrays["state"].read(7, 9)
