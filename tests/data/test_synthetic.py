"""Synthetic episodes: a real dataset that obeys its specs, the same for the same seed."""

import dataclasses
import zlib
from pathlib import Path

import numpy as np
import pytest

from arp_jax.data.rlds import open_dataset
from arp_jax.data.synthetic import (
    LEAD_STEPS,
    synthetic_raw_episode,
    write_raw_dataset,
    write_synthetic,
)
from arp_jax.data.synthetic_features import SENTENCES, fields_of_types
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec
from tests.data.raw_card import assert_same_episode, raw_card

OBSERVATION = ObservationSpec(
    features=(FeatureSpec("agent_pos", ("x", "y"), "px", "world", (0.0, 0.0), (512.0, 512.0)),),
    cameras=(CameraSpec("image", 24, 24),),
)
ACTION = ActionSpec(
    ("x", "y"), "px", "world", (True, True), (0.0, 0.0), (512.0, 512.0), rate_hz=10.0
)


def test_episodes_obey_the_specs_and_repeat(tmp_path: Path) -> None:
    read = []
    for name in ("one", "two"):
        folder = write_synthetic(tmp_path / name, OBSERVATION, ACTION, episodes=3, seed=5)
        dataset = open_dataset(folder)
        assert dataset.specs is not None
        assert dataset.specs.observation == OBSERVATION
        assert dataset.specs.action == ACTION
        read.append(list(dataset.episodes("train")))
        # A second call finds the dataset finished.
        assert write_synthetic(tmp_path / name, OBSERVATION, ACTION, episodes=3, seed=5) == folder
    assert len(read[0]) == 3
    for left, right in zip(*read, strict=True):
        np.testing.assert_array_equal(left["action"], right["action"])
        length = len(left["action"])
        assert 40 <= length <= 60
        assert left["observation"]["image"].shape == (length, 24, 24, 3)
        assert left["observation"]["image"].min() < 255
        assert left["action"].min() >= 0
        assert left["action"].max() <= 512
        # What a policy can learn: the action is where the agent will be.
        position = left["observation"]["agent_pos"]
        np.testing.assert_array_equal(left["action"][:-LEAD_STEPS], position[LEAD_STEPS:])
    assert not np.array_equal(read[0][0]["action"][:40], read[0][1]["action"][:40])


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_raw_dataset_is_what_its_card_says(tmp_path: Path, file_format: str) -> None:
    card = raw_card()
    folder = write_raw_dataset(tmp_path, card, episodes=3, seed=7, file_format=file_format)
    assert folder == tmp_path / "raw" / "1.0.0"
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]
    dataset = open_dataset(folder)
    assert dataset.splits == {"train": 3}
    assert [s.episodes for s in dataset.shards["train"]] == [2, 1]
    for field in fields_of_types(card.fields):
        found = dataset.features[field.name]
        assert (found.path, found.kind, found.shape) == (field.path, field.kind, field.shape)
        assert (found.dtype, found.per_step) == (field.dtype, field.per_step)
    assert len(dataset.features) == len(card.fields)
    for decode in (True, False):
        for number, episode in enumerate(dataset.episodes("train", decode_images=decode)):
            length = len(episode["reward"])
            expected = synthetic_raw_episode(card, length, 7 + number, decode)
            assert_same_episode(episode, expected)
    assert number == 2
    # A second call writes the same files again.
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_raw_dataset(tmp_path, card, episodes=3, seed=7, file_format=file_format)
    same = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert first.keys() == same.keys()
    assert file_format == "array_record" or first == same


def test_raw_values_mean_what_their_names_say() -> None:
    episode = synthetic_raw_episode(raw_card(), 9, seed=3)
    observation, action = episode["observation"], episode["action"]
    assert action["terminate_episode"].tolist() == [[0, 1, 0]] * 8 + [[1, 0, 0]]
    assert set(action["open_gripper"].tolist()) == {False, True}
    assert set(action["gripper_closedness_action"].ravel().tolist()) == {-1.0, 0.0, 1.0}
    assert 0 < np.abs(action["world_vector"]).max() <= 0.05
    assert episode["is_last"].tolist() == [False] * 8 + [True]
    assert episode["is_first"].tolist() == [True] + [False] * 8
    assert episode["counter"].tolist() == list(range(9))
    embedding = observation["natural_language_embedding"]
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)
    assert (embedding == embedding[0]).all()
    np.testing.assert_allclose(np.linalg.norm(observation["src_rotation"], axis=1), 1, atol=1e-6)
    pose = observation["clip_function_input/base_pose_tool_reached"]
    np.testing.assert_allclose(np.linalg.norm(pose[:, 3:], axis=1), 1, atol=1e-6)
    sentence = episode["language_instruction"][0]
    assert sentence in SENTENCES
    assert observation["natural_language_instruction"][0] == sentence.encode()
    assert bytes(observation["instruction"][0].astype(np.uint8)).rstrip(b"\0") == sentence.encode()
    for name in ("image", "gray", "depth", "distance", "depth_tensor"):
        assert len(np.unique(observation[name])) > 10
        assert (observation[name][0] != observation[name][-1]).any()
    # Steps are neighbours on a smooth curve.
    steps = np.abs(np.diff(action["world_vector"], axis=0))
    assert 0 < steps.max() < 0.06


def test_zlib_tensors_are_compressed_in_the_file(tmp_path: Path) -> None:
    card = raw_card(**{"observation/flat": "float32[300]:zlib", "action": "float32[7]"})
    folder = write_raw_dataset(tmp_path, card, episodes=1, seed=0)
    values = next(open_dataset(folder).episodes("train"))["observation"]["flat"]
    content = next(folder.glob("*.tfrecord-*")).read_bytes()
    assert zlib.compress(values[0].tobytes()) in content
    assert values[0].tobytes() not in content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("float32[7", "type 'float32\\[7' is not like"),
        ("float33[7]", "'float33' is no numpy type"),
        ("float32[7]:jpeg", "may end in one of .*zlib"),
        ("image[4,4,3]:zlib", "may end in one of .*jpeg"),
    ],
)
def test_unknown_types_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"'observation/x': .*{message}"):
        synthetic_raw_episode(raw_card(**{"observation/x": text}), 3, 0)


def test_a_card_without_fields_cannot_be_synthesised(tmp_path: Path) -> None:
    card = dataclasses.replace(raw_card(), fields={})
    with pytest.raises(ValueError, match="'raw' lists no raw fields"):
        write_raw_dataset(tmp_path, card, episodes=1, seed=0)
    assert not list(tmp_path.iterdir())
