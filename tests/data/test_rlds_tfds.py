"""Reading through TensorFlow: the same episodes, from local and other file systems, as TFDS's own.

Needs TensorFlow (extra `tf`); skipped without it.
"""

import json
import shutil
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from arp_jax.data.cards import card_names, load_card
from arp_jax.data.pack import pack_dataset
from arp_jax.data.rlds import open_dataset
from arp_jax.data.rlds_features import fields_from_json
from arp_jax.data.rlds_tfds import open_remote
from arp_jax.data.source import open_source
from arp_jax.data.stream import Streamer
from arp_jax.data.stream_member import StreamConfig, StreamMember
from arp_jax.data.synthetic import write_raw_dataset
from arp_jax.data.synthetic_features import fields_of_types
from arp_jax.data.tf_example import parse_episode
from arp_jax.normalize import affine_from_limits
from arp_jax.specs import PolicySpec
from tests.data.list_fields import FEATURES, episode
from tests.data.raw_card import assert_same_episode, raw_card
from tests.data.rlds_folder import ACTION_SPEC, OBSERVATION_SPEC, synthetic_episodes, write_folder
from tests.data.test_tf_example import assert_values, stored_fields

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install tensorflow-cpu")

JPEG_DIFFERENCE = 40  # grey levels
REMOTE = "ram://bucket"  # a file system of TensorFlow's that no other library opens


def copy_to(remote, folder):
    for path in folder.iterdir():
        tf.io.gfile.copy(str(path), f"{remote}/{path.name}", overwrite=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_raw_dataset(tmp_path_factory.mktemp("raw"), raw_card(), episodes=4, seed=1)


@pytest.fixture(scope="module")
def remote(folder):
    """A copy of the folder that only TensorFlow can read."""
    copy_to(f"{REMOTE}/raw/1.0.0", folder)
    return f"{REMOTE}/raw/1.0.0"


def test_a_remote_folder_yields_the_episodes_of_its_copy(folder, remote):
    local, far = open_dataset(folder), open_remote(remote)
    assert far.splits == local.splits == {"train": 4}
    assert far.features == local.features
    for part in ("train", "train[1:3]", "train[3:]"):
        pairs = zip(local.episodes(part), far.episodes(part), strict=True)
        for left, right in pairs:
            assert_same_episode(left, right)
    (encoded,) = far.episodes("train[2:3]", ["image"], decode_images=False)
    (expected,) = local.episodes("train[2:3]", ["image"], decode_images=False)
    assert_same_episode(encoded, expected)
    assert encoded["observation"]["image"][0][:2] == b"\xff\xd8"


def test_the_real_clips_are_read_alike(shared_dir):
    path = shared_dir / "data/bridge_dataset/1.0.0"
    pairs = zip(
        open_dataset(path).episodes("val"), open_remote(str(path)).episodes("val"), strict=True
    )
    assert sum(1 for left, right in pairs if assert_same_episode(left, right) is None) == 25


def test_a_source_may_be_remote(tmp_path):
    local = write_folder(tmp_path / "toy", synthetic_episodes([4, 3]))
    copy_to(f"{REMOTE}/toy", local)
    source = open_source(f"{REMOTE}/toy")
    assert source.specs.action == ACTION_SPEC
    pairs = zip(open_source(local).episodes("train"), source.episodes("train"), strict=True)
    for left, right in pairs:
        assert_same_episode(left, right)


def test_a_remote_folder_is_packed_like_its_copy(tmp_path):
    local = write_folder(tmp_path / "toy", synthetic_episodes([4, 3, 5]))
    copy_to(f"{REMOTE}/packed", local)
    packs = [
        pack_dataset(source, tmp_path / name, ["agent_pos", "image"], progress=False, workers=1)
        for name, source in (("near", local), ("far", f"{REMOTE}/packed"))
    ]
    assert packs[0].content_hash == packs[1].content_hash
    steps = np.arange(12)
    for name, values in packs[0].read_steps(steps).items():
        np.testing.assert_array_equal(values, packs[1].read_steps(steps)[name])


def test_a_remote_folder_is_streamed_like_its_copy(tmp_path):
    local = write_folder(tmp_path / "toy", synthetic_episodes([4, 3, 5, 6]), files=3)
    copy_to(f"{REMOTE}/streamed", local)
    spec = PolicySpec(OBSERVATION_SPEC, ACTION_SPEC, window=2, horizon=3)
    limits = affine_from_limits([0, 0], [512, 512])
    near, far = (
        Streamer(
            [StreamMember(open_source(source))],
            spec,
            {"agent_pos": limits, "action": limits},
            batch_size=4,
            seed=0,
            config=StreamConfig(cycle=2),
        )
        for source in (str(local), f"{REMOTE}/streamed")
    )
    for _ in range(12):
        assert_same_episode(next(near), next(far))


def compare_with_tfds(folder, card):
    """Compares every field of every step with TFDS's own decoding; yields (our, TFDS's) episode."""
    dataset = tfds.builder_from_directory(str(folder)).as_dataset(split="train")
    fields = [field for field in fields_of_types(card.fields) if field.per_step]
    count = 0
    for ours, theirs in zip(open_dataset(folder).episodes("train"), dataset, strict=True):
        for t, step in enumerate(theirs["steps"].as_numpy_iterator()):
            for field in fields:
                left: Any = ours
                right: Any = step
                for key in field.path:
                    left, right = left[key], right[key]
                found = left[t].encode() if isinstance(left[t], str) else left[t]
                assert np.asarray(found).dtype == np.asarray(right).dtype, field.name
                if field.encoding == "jpeg":  # decoders differ, most at the square's sharp edges
                    assert np.abs(found.astype(int) - right).max() <= JPEG_DIFFERENCE
                else:
                    np.testing.assert_array_equal(found, right, err_msg=field.name)
                count += 1
        yield ours, theirs
    assert count >= 6 * len(fields)


def test_tfds_reads_the_same_values(folder):
    for ours, theirs in compare_with_tfds(folder, raw_card()):
        assert ours["aspects"]["success"] == theirs["aspects"]["success"].numpy()
        np.testing.assert_array_equal(ours["preview"], theirs["preview"].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in card_names() if load_card(n).fields])
def test_tfds_reads_the_layout_of_every_published_dataset(tmp_path, name):
    card = load_card(name)
    folder = write_raw_dataset(tmp_path, card, episodes=1, seed=5)
    assert sum(1 for _ in compare_with_tfds(folder, card)) == 1


def test_lists_are_read_as_tfds_writes_them(tmp_path):
    """The record of TFDS's serialiser, of features.json as TFDS understands it."""
    (tmp_path / "features.json").write_text(json.dumps(FEATURES))
    features = tfds.features.FeaturesDict.from_config(str(tmp_path))
    values = episode(encoded=False)
    groups = {"trailer", "path", "tree"}
    steps = [
        {key: step_of(values[key], t) for key in values if key not in groups} for t in range(3)
    ]
    example = {"steps": steps, **{key: values[key] for key in groups}, "maybe": None}
    record = features.serialize_example(example)
    fields = fields_from_json(FEATURES)
    found = parse_episode(record, [field for field in fields.values() if field.name != "maybe"])
    assert_values(found, values, "episode")
    assert {field.name for field in stored_fields()} == set(fields) - {"maybe"}


def step_of(value, t):
    """Step t of nested lists."""
    if isinstance(value, dict):
        return {key: step_of(inner, t) for key, inner in value.items()}
    return value[t]


def test_damage_and_absence_are_named(folder, remote, tmp_path):
    with pytest.raises(ValueError, match="ram://bucket/nowhere: no such dataset folder"):
        open_remote(f"{REMOTE}/nowhere")
    with pytest.raises(ValueError, match=r"did you mean ram://bucket/raw/1\.0\.0\?"):
        open_remote(f"{REMOTE}/raw")
    with pytest.raises(ValueError, match=r"does not read ftp:// \(it reads file://, gs://, ram://"):
        open_source("ftp://bucket/set")
    shutil.copytree(folder, tmp_path / "cut")
    shard = tmp_path / "cut" / "raw-train.tfrecord-00000-of-00002"
    content = shard.read_bytes()
    for damaged, message in (
        (content[: len(content) * 2 // 3], "record 1: .*truncated"),
        (content[:-100] + b"x" + content[-99:], "record 1: .*corrupted"),
    ):
        shard.write_bytes(damaged)
        with pytest.raises(ValueError, match=message) as error:
            list(open_remote(str(tmp_path / "cut")).episodes("train", ["reward"]))
        assert str(shard) in str(error.value)
        assert "\n" not in str(error.value)


def test_array_records_must_be_on_a_disk(tmp_path):
    local = write_raw_dataset(tmp_path, raw_card(), 2, 0, file_format="array_record")
    left, right = open_dataset(local).episodes("train"), open_remote(str(local)).episodes("train")
    for pair in zip(left, right, strict=True):
        assert_same_episode(*pair)
    copy_to(f"{REMOTE}/array", local)
    with pytest.raises(ValueError, match="copy the folder"):
        open_remote(f"{REMOTE}/array")
