"""Conversions that were killed and started again end with the files of one that never was."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.data.act_files import act_arrays, write_act
from tests.data.replay_files import replay_arrays, write_replay
from tests.data.robomimic_files import demo_arrays, write_robomimic
from tests.datasets.scripts import contents
from tests.datasets.test_convert_bridge_raw import NEW, write_recording
from tests.robot_bridge.log_steps import write_log

EPISODES = 16


def act_source(folder):
    pytest.importorskip("h5py", reason="h5py is not installed")
    for number in range(EPISODES):
        arrays = act_arrays(number, steps=20, columns=7)
        write_act(folder / f"episode_{number}.hdf5", arrays)
    return ["convert_act_hdf5", folder, "--mirror"]


def robomimic_source(folder):
    pytest.importorskip("h5py", reason="h5py is not installed")
    demos = {f"demo_{n}": demo_arrays(n, steps=20) for n in range(EPISODES)}
    return ["convert_robomimic", write_robomimic(folder / "a.hdf5", demos)]


def replay_source(folder):
    pytest.importorskip("zarr", reason="zarr is not installed")
    arrays = replay_arrays(lengths=(20,) * EPISODES)
    path = write_replay(folder / "a.zarr", arrays)
    return ["convert_diffusion_policy_zarr", path, "--rate", 10]


def log_source(folder):
    for number in range(EPISODES):
        write_log(folder / f"{number}.arplog", count=20, seed=number)
    return ["convert_bridge_log", folder]


def bridge_source(folder):
    for number in range(EPISODES):
        write_recording(folder, number, number=number, date=NEW)
    return ["convert_bridge_raw", folder]


@pytest.mark.parametrize(
    "make_source",
    [
        bridge_source,
        *(
            pytest.param(make, marks=pytest.mark.slow)
            for make in (act_source, robomimic_source, replay_source, log_source)
        ),
    ],
)
def test_killed_twice_and_started_again(make_source, tmp_path, repository):
    folder = tmp_path / "source"
    folder.mkdir()
    name, *flags = make_source(folder)
    rng = np.random.default_rng(0)

    def start(out, workers):
        command = [f"datasets/{name}.py", *flags, "--workers", workers, "--per_shard", 1]
        return subprocess.Popen(
            [sys.executable, *map(str, command), "--out", str(tmp_path / out)],
            cwd=repository,
            env=os.environ | {"PYTHONPATH": str(repository)},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def finished():
        return len(list((tmp_path / "killed").glob("*/1.0.0.incomplete/*.done")))

    for _ in range(2):
        process, target = start("killed", 1), finished() + int(rng.integers(1, 4))
        while finished() < target:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not list((tmp_path / "killed").glob("*/1.0.0"))
    for out, workers in (("killed", 1), ("whole", 2)):
        assert start(out, workers).wait() == 0
    (killed,), (whole,) = (list((tmp_path / o).glob("*/1.0.0")) for o in ("killed", "whole"))
    assert contents(killed) == contents(whole)
