"""Converted datasets: parallel equals serial, killed runs continue, nothing is half-written."""

import functools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from arp_jax.data.episode_rlds import episode_example, episode_features
from arp_jax.data.rlds import DatasetSpecs, open_dataset
from arp_jax.data.rlds_write import Conversion, convert
from arp_jax.data.source import open_source
from tests.data.rlds_folder import ACTION_SPEC, OBSERVATION_SPEC, synthetic_episodes


def make_conversion(**arguments):
    features = episode_features(
        OBSERVATION_SPEC,
        ACTION_SPEC,
        metadata={"episode_id": tfds.features.Scalar(np.int64)},
        reward="none",
        language=True,
    )
    specs = DatasetSpecs(OBSERVATION_SPEC, ACTION_SPEC)
    return Conversion("toy", specs, features, "Toy.", arguments)


def read_toy(number, broken=-1, drift=False, seconds=0.0):
    """Episode `number`; drawn anew on each call, so that two readings differ only where told to."""
    time.sleep(seconds)
    if number == broken:
        raise ValueError(f"toy_{number}.bin: 'action' is missing")
    rng = np.random.default_rng([number, time.time_ns() if drift else 0])
    length = 4 + number % 3
    (episode,) = synthetic_episodes([length], seed=rng.integers(1 << 30))
    return episode_example(
        {"agent_pos": episode["agent_pos"], "image": episode["image"]},
        episode["action"],
        np.zeros(length, np.float32),
        False,
        {"episode_id": number},
        instruction=f"push number {number}",
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_parallel_serial_and_shard_size_give_the_same_episodes(tmp_path):
    jobs = list(range(7))
    serial = convert(
        tmp_path / "a", make_conversion(), jobs, read_toy, workers=1, per_shard=3, progress=False
    )
    parallel = convert(
        tmp_path / "b", make_conversion(), jobs, read_toy, workers=2, per_shard=3, progress=False
    )
    assert contents(serial) == contents(parallel)
    assert [s.episodes for s in open_dataset(serial).shards["train"]] == [3, 3, 1]
    source = open_source(serial)
    for number, episode in enumerate(source.episodes("train")):
        expected = read_toy(number)["steps"]
        np.testing.assert_array_equal(episode["action"], [s["action"] for s in expected])
        assert episode["language"] == (f"push number {number}",)
        assert episode["metadata"]["episode_id"] == number
        assert episode["is_last"].tolist() == [False] * (len(expected) - 1) + [True]
    assert number == 6
    (encoded,) = source.episodes("train[2:3]", ["image"], decode_images=False)
    assert encoded["observation"]["image"].dtype == object
    assert encoded["observation"]["image"][0].startswith(b"\x89PNG")


def test_tensorflow_datasets_reads_the_folder(tmp_path):
    folder = convert(
        tmp_path, make_conversion(), {"train": [0, 1], "val": [5]}, read_toy, workers=1
    )
    builder = tfds.builder_from_directory(folder)
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {
        "train": 2,
        "val": 1,
    }
    (episode,) = builder.as_data_source(split="val")
    first = next(iter(episode["steps"]))
    np.testing.assert_array_equal(first["action"], read_toy(5)["steps"][0]["action"])


def test_finished_folder_is_left_alone_and_other_arguments_are_refused(tmp_path):
    folder = convert(tmp_path, make_conversion(seed=1), [0, 1], read_toy, workers=1)
    before = contents(folder)
    convert(tmp_path, make_conversion(seed=1), [0, 1], functools.partial(read_toy, broken=0))
    assert contents(folder) == before
    with pytest.raises(ValueError, match=r"seed=1, asked for 2"):
        convert(tmp_path, make_conversion(seed=2), [0, 1], read_toy)


@pytest.mark.parametrize("workers", [1, 2])
def test_broken_episode_is_named_and_nothing_gets_the_final_name(tmp_path, workers):
    read = functools.partial(read_toy, broken=4)
    with pytest.raises(ValueError, match=r"^episode 4 of 'train': toy_4.bin: 'action' is missing"):
        convert(tmp_path, make_conversion(), list(range(6)), read, workers=workers, per_shard=2)
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["1.0.0.incomplete"]
    # Once the file is repaired, the same command goes on.
    folder = convert(tmp_path, make_conversion(), list(range(6)), read_toy, workers=1, per_shard=2)
    assert open_dataset(folder).num_episodes("train") == 6


def test_other_input_does_not_continue_an_unfinished_folder(tmp_path):
    read = functools.partial(read_toy, broken=1)
    with pytest.raises(ValueError, match=r"toy_1\.bin"):
        convert(tmp_path, make_conversion(), [0, 1], read, workers=1, per_shard=1)
    with pytest.raises(ValueError, match="begun with other arguments or other input; delete it"):
        convert(tmp_path, make_conversion(), [0, 1, 2], read_toy, workers=1, per_shard=1)


def test_spot_check_finds_what_reads_back_differently(tmp_path):
    read = functools.partial(read_toy, drift=True)
    with pytest.raises(ValueError, match=r"spot check: field .* of episode \d of 'train'"):
        convert(tmp_path, make_conversion(), [0, 1, 2], read, workers=1)
    assert not (tmp_path / "toy/1.0.0").exists()


def test_killed_conversion_continues_and_ends_with_the_same_bytes(tmp_path):
    script = (
        "import functools, sys\n"
        "from tests.data.test_rlds_write import *\n"
        "read = functools.partial(read_toy, seconds=0.05)\n"
        "convert(sys.argv[1], make_conversion(), list(range(40)), read, workers=1, per_shard=2,"
        " progress=False)\n"
    )
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", script, str(out)])
    work = out / "toy/1.0.0.incomplete"
    while len(list(work.glob("*.done"))) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in work.glob("*.done")}
    assert 3 <= len(finished) < 20
    jobs = list(range(40))
    options = {"workers": 1, "per_shard": 2, "progress": False}
    folder = convert(out, make_conversion(), jobs, read_toy, **options)
    whole = convert(tmp_path / "whole", make_conversion(), jobs, read_toy, **options)
    assert contents(folder) == contents(whole)
