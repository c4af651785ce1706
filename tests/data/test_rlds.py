"""Reading RLDS folders: recorded data, both file formats, selection, and every kind of damage."""

import hashlib
import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from arp_jax.data.rlds import DatasetSpecs, open_dataset
from arp_jax.data.tfrecord import frame_record, masked_crc32c, read_tfrecord
from arp_jax.specs import ActionSpec, FeatureSpec, ObservationSpec

STEPS = (3, 5, 1, 4)
FORMATS = ("tfrecord", "array_record")


def tiny_features(unsized: bool) -> tfds.features.FeaturesDict:
    """Kinds of field that TFDS writes without TensorFlow; `unsized` adds one that nobody reads."""
    tensor = tfds.features.Tensor
    unsupported = {"unsized": tensor(shape=(None, 2), dtype=np.int64)} if unsized else {}
    return tfds.features.FeaturesDict(
        {
            "steps": tfds.features.Dataset(
                {
                    "observation": {
                        "image": tfds.features.Image(shape=(6, 8, 3), encoding_format="png"),
                        "depth": tfds.features.Image(
                            shape=(6, 8, 1), dtype=np.uint16, encoding_format="png"
                        ),
                        "group/pose": tensor(shape=(2, 2), dtype=np.float32, encoding="zlib"),
                        "cloud": tensor(shape=(None, 3), dtype=np.float64, encoding="bytes"),
                        "points": tensor(shape=(None, None), dtype=np.float32, encoding="zlib"),
                        **unsupported,
                    },
                    "action": tensor(shape=(2,), dtype=np.float32),
                    "counter": tfds.features.Scalar(np.uint64),
                    "instruction": tfds.features.Text(),
                    "raw": tfds.features.Scalar(np.object_),
                    "label": tfds.features.ClassLabel(num_classes=3),
                    "is_last": np.bool_,
                }
            ),
            "episode_metadata": {"seed": np.int32, "marks": tfds.features.Sequence(np.float32)},
        }
    )


def encoded(pixels: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    file.seek(0)
    return file


def tiny_step(episode: int, t: int) -> dict:
    rng = np.random.default_rng([episode, t])
    return {
        "observation": {
            "image": rng.integers(0, 256, (6, 8, 3), np.uint8),
            "depth": rng.integers(0, 65536, (6, 8, 1), np.uint16),
            "group/pose": rng.normal(size=(2, 2)).astype(np.float32),
            "cloud": rng.normal(size=(4, 3)),
            "points": rng.normal(size=(2, 3)).astype(np.float32),
        },
        "action": rng.normal(size=2).astype(np.float32),
        "counter": np.uint64(2**63 + t),
        "instruction": f"schiebe das Stück {t}",
        "raw": b"\x00\xff",
        "label": t % 3,
        "is_last": t == STEPS[episode] - 1,
    }


def serialize(episode: int, spoil_image: bool = False) -> bytes:
    steps = [tiny_step(episode, t) for t in range(STEPS[episode])]
    for step in steps:
        observation = step["observation"]
        observation["image"] = encoded(observation["image"])
        observation["depth"] = encoded(observation["depth"][..., 0])
        if spoil_image:
            observation["image"] = io.BytesIO(observation["image"].getvalue()[:40])
    metadata = {"seed": 40 + episode, "marks": [0.5, 1.5]}
    return tiny_features(unsized=False).serialize_example(
        {"steps": steps, "episode_metadata": metadata}
    )


def write_folder(folder: Path, file_format: str, records: list[bytes]) -> Path:
    """A TFDS folder with two shards; returns the first."""
    folder.mkdir(parents=True)
    info = {"name": "tiny", "version": "1.0.0", "fileFormat": file_format}
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    split = {"name": "train", "filepathTemplate": template, "shardLengths": ["2", "2"]}
    (folder / "dataset_info.json").write_text(json.dumps({**info, "splits": [split]}))
    tiny_features(unsized=True).save_config(str(folder))
    paths = [folder / f"tiny-train.{file_format}-0000{i}-of-00002" for i in range(2)]
    for path, part in zip(paths, (records[:2], records[2:]), strict=True):
        if file_format == "tfrecord":
            path.write_bytes(b"".join(frame_record(r) for r in part))
        else:
            writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
            for record in part:
                writer.write(record)
            writer.close()
    return paths[0]


@pytest.fixture(scope="module")
def records() -> list[bytes]:
    return [serialize(episode) for episode in range(len(STEPS))]


def test_recorded_bridge_data(shared_dir):
    expected = json.loads((shared_dir / "data/bridge_dataset_expected.json").read_text())
    dataset = open_dataset(shared_dir / "data/bridge_dataset/1.0.0")
    content = dataset.shards["train"][0].path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == expected["sha256_tfrecord"]
    assert dataset.splits == {"train": 25, "val": 25}
    assert expected["episodes"] == 25
    assert dataset.specs is None
    episodes = list(dataset.episodes("train"))
    assert [len(e["action"]) for e in episodes] == expected["steps"]
    assert [e["language_instruction"][0] for e in episodes] == expected["instructions"]
    assert [e["episode_metadata"]["episode_id"] for e in episodes] == expected["episode_id"]
    assert [e["is_last"][-1] for e in episodes] == expected["is_last"]
    assert [e["is_terminal"][-1] for e in episodes] == expected["terminal_last"]

    def check(name, values, tolerance):
        np.testing.assert_allclose(np.stack(values), expected[name], rtol=0, atol=tolerance)

    check("action_sum", [e["action"].sum(0) for e in episodes], 2e-6)
    check("state_first", [e["observation"]["state"][0] for e in episodes], 6e-7)
    check("embedding_norm", [np.linalg.norm(e["language_embedding"][0]) for e in episodes], 1e-4)
    images = [e["observation"]["image_0"] for e in episodes]
    assert all(i.shape == (10, 64, 64, 3) and i.dtype == np.uint8 for i in images)
    # Rounded to three digits; decoders of JPEG may differ by a grey level here and there.
    check("image0_mean_rgb_first_frame", [i[0].mean((0, 1)) for i in images], 0.5)
    # Whatever is written down there is checked here.
    assert set(expected) - {"source", "jpeg_decoder"} == {
        *("sha256_tfrecord", "episodes", "steps", "instructions", "episode_id", "is_last"),
        *("terminal_last", "action_sum", "state_first", "embedding_norm"),
        "image0_mean_rgb_first_frame",
    }


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_kind_of_field_returns_what_was_written(tmp_path, records, file_format):
    write_folder(tmp_path / "d", file_format, records)
    dataset = open_dataset(tmp_path / "d")
    assert dataset.splits == {"train": 4}
    assert dataset.features["observation/unsized"].kind == "unsupported"
    for number, episode in enumerate(dataset.episodes("train")):
        assert "unsized" not in episode["observation"]
        assert episode["episode_metadata"]["seed"] == 40 + number
        assert episode["episode_metadata"]["marks"].tolist() == [0.5, 1.5]
        for t in range(STEPS[number]):
            written = tiny_step(number, t)
            for name, value in written.pop("observation").items():
                read = episode["observation"]
                for key in name.split("/") if name not in read else [name]:
                    read = read[key]
                assert read.dtype == value.dtype
                np.testing.assert_array_equal(read[t], value)
            for name, value in written.items():
                np.testing.assert_array_equal(episode[name][t], value)
        assert episode["counter"].dtype == np.uint64
        assert episode["is_last"].dtype == np.bool_
    assert number == 3


def test_parts_of_a_split(tmp_path, records):
    write_folder(tmp_path / "d", "array_record", records)
    dataset = open_dataset(tmp_path / "d")

    def seeds(split):
        fields = ["episode_metadata/seed"]
        return [int(e["episode_metadata"]["seed"]) for e in dataset.episodes(split, fields)]

    assert seeds("train[1:3]") == [41, 42]
    assert seeds("train[:1]") == [40]
    assert seeds("train[75%:]") == [43]
    assert dataset.num_episodes("train[1:]") == 3
    for wrong in ("test", "train[3:3]", "train[9:]", "train[-1:]"):
        with pytest.raises(ValueError, match="split"):
            dataset.episodes(wrong)


def test_an_empty_split_does_no_harm(tmp_path, records):
    write_folder(tmp_path / "d", "tfrecord", records)
    info = json.loads((tmp_path / "d/dataset_info.json").read_text())
    info["splits"].append({"name": "val", "numBytes": "0"})
    (tmp_path / "d/dataset_info.json").write_text(json.dumps(info))
    dataset = open_dataset(tmp_path / "d")
    assert dataset.splits == {"train": 4, "val": 0}
    with pytest.raises(ValueError, match="'val' selects none"):
        dataset.episodes("val")


def test_only_selected_fields_are_decoded(tmp_path):
    write_folder(tmp_path / "d", "tfrecord", [serialize(i, spoil_image=True) for i in range(4)])
    dataset = open_dataset(tmp_path / "d")
    episode = next(dataset.episodes("train", ["depth", "action"]))
    assert sorted(episode) == ["action", "observation"]
    assert sorted(episode["observation"]) == ["depth"]
    with pytest.raises(ValueError, match=r"00000-of-00002: episode 0 of .*'observation/image'"):
        next(dataset.episodes("train", ["image"]))
    with pytest.raises(ValueError, match="no field 'wrist'"):
        dataset.episodes("train", ["wrist"])
    with pytest.raises(ValueError, match=r"'observation/unsized'.*Tensor.*not supported"):
        next(dataset.episodes("train", ["observation/unsized"]))


def test_missing_key_is_named(tmp_path, records):
    path = write_folder(tmp_path / "d", "tfrecord", records)
    features = json.loads((tmp_path / "d/features.json").read_text())
    steps = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    steps["featuresDict"]["features"]["speed"] = steps["featuresDict"]["features"]["action"]
    (tmp_path / "d/features.json").write_text(json.dumps(features))
    with pytest.raises(ValueError, match=r"'speed': the record has no key 'steps/speed'") as error:
        list(open_dataset(tmp_path / "d").episodes("train"))
    assert str(path) in str(error.value)


def test_checksum_is_tensorflows():
    # Header of the first record of a file that TensorFlow wrote (bridge_dataset).
    assert masked_crc32c(struct.pack("<Q", 144_644)) == 0xA2CF1F8C


@pytest.mark.parametrize("file_format", FORMATS)
def test_flipped_byte_is_found(tmp_path, records, file_format):
    path = write_folder(tmp_path / "d", file_format, records)
    content = bytearray(path.read_bytes())
    assert content.count(records[1]) == 1  # stored uncompressed
    content[content.index(records[1]) + 500] ^= 1
    path.write_bytes(content)
    episodes = open_dataset(tmp_path / "d").episodes("train", ["action"])
    next(episodes)
    with pytest.raises(ValueError, match=r"record 1.*(CRC32C|hash mismatch)") as error:
        next(episodes)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_truncated_shard_is_found(tmp_path, records, file_format, keep):
    path = write_folder(tmp_path / "d", file_format, records)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match="truncated copy") as error:
        list(open_dataset(tmp_path / "d").episodes("train", ["action"]))
    assert str(path) in str(error.value)


def test_absurd_length_is_refused_before_reading(tmp_path):
    length = struct.pack("<Q", 2**60)
    path = tmp_path / "shard"
    path.write_bytes(length + struct.pack("<I", masked_crc32c(length)) + b"data")
    with pytest.raises(ValueError, match="ends inside the record's data"):
        list(read_tfrecord(path))


def test_missing_files_are_named(tmp_path, records):
    with pytest.raises(ValueError, match="no such dataset folder"):
        open_dataset(tmp_path / "nowhere")
    shard = write_folder(tmp_path / "tiny" / "1.0.0", "tfrecord", records)
    with pytest.raises(ValueError, match=r"did you mean .*1\.0\.0\?"):
        open_dataset(tmp_path / "tiny")
    shard.unlink()
    with pytest.raises(ValueError, match="00000-of-00002: shard is missing"):
        open_dataset(tmp_path / "tiny" / "1.0.0")
    (tmp_path / "tiny" / "1.0.0" / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=r"dataset_info\.json: cannot be read as JSON"):
        open_dataset(tmp_path / "tiny" / "1.0.0")


def test_specs_round_trip(tmp_path, records):
    write_folder(tmp_path / "d", "tfrecord", records)
    observation = ObservationSpec((FeatureSpec("pose", ("x", "y"), "px", "world"),))
    action = ActionSpec(("x",), "px", "world", (True,), (0.0,), (1.0,), 10.0)
    DatasetSpecs(observation, action).write(tmp_path / "d")
    assert open_dataset(tmp_path / "d").specs == DatasetSpecs(observation, action)
    (tmp_path / "d" / "specs.json").write_text('{"action": {}}')
    with pytest.raises(ValueError, match=r"specs\.json"):
        open_dataset(tmp_path / "d")
