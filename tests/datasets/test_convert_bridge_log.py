"""`datasets/convert_bridge_log.py`: what the robot logged is what a policy is trained on."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from arp_jax.data.images import decode_image
from arp_jax.data.rlds import open_dataset
from arp_jax.data.source import open_source
from robot_bridge.log.episode_log import EpisodeLogWriter
from tests.datasets.scripts import assert_refused, contents, load_converter
from tests.robot_bridge.log_steps import ACTION, HEADER, OBSERVATION, make_step, write_log


@pytest.fixture(scope="module")
def script():
    return load_converter("convert_bridge_log")


def convert(script, out, *arguments):
    assert script.main([*map(str, arguments), "--out", str(out), "--workers", "1"]) == 0
    (path,) = out.glob("*/1.0.0")
    return open_dataset(path)


def test_logs_become_episodes(script, tmp_path):
    for number in range(3):
        write_log(tmp_path / f"logs/{number}.arplog", count=5 + number, seed=number)
    dataset = convert(script, tmp_path / "out", tmp_path / "logs", "--name", "arm")
    assert dataset.specs.observation == OBSERVATION
    assert dataset.specs.action == ACTION
    source = open_source(dataset.path)
    canonical = source.episodes("train")
    for number, raw in enumerate(dataset.episodes("train")):
        count = 5 + number
        steps = [make_step(i, seed=number) for i in range(count)]
        episode = next(canonical)
        np.testing.assert_array_equal(episode["action"], [s.command for s in steps])
        observation = episode["observation"]
        np.testing.assert_array_equal(observation["state"], [s.vectors["state"] for s in steps])
        for camera in ("image", "wrist_image"):
            pixels = np.stack([decode_image(s.frames[camera]) for s in steps])
            np.testing.assert_array_equal(observation[camera], pixels)
        assert episode["language"] == ("put the cube in the box",)
        assert episode["reward"].tolist() == [0.0] * (count - 1) + [1.0]
        assert episode["is_terminal"].tolist() == [False] * (count - 1) + [True]
        taken = [2 <= i < 4 for i in range(count)]
        assert list(raw["action_source"]) == ["takeover" if t else "policy" for t in taken]
        assert raw["intervention"].tolist() == taken
        np.testing.assert_array_equal(raw["proposed_action"], episode["action"])
        np.testing.assert_array_equal(raw["achieved"], [s.achieved for s in steps])
        assert raw["achieved_measured"].all()
        assert raw["time_ns"].tolist() == [100_000_000 * i for i in range(count)]
        assert (raw["command_time_ns"] - raw["time_ns"]).tolist() == [7] * count
        assert (raw["achieved_time_ns"] - raw["time_ns"]).tolist() == [9] * count
        metadata = episode["metadata"]
        assert (metadata["file"], metadata["outcome"]) == (f"{number}.arplog", "success")
        assert json.loads(metadata["robot"]) == {"name": "toy"}
        assert metadata["started_ns"] > 0
        assert metadata["lost_bytes"] == 0
    assert number == 2


def test_safety_and_missing_readings(script, tmp_path):
    with EpisodeLogWriter(tmp_path / "a.arplog", HEADER) as log:
        log.step(dataclasses.replace(make_step(0), achieved=None))
        log.step(make_step(1, flags=("clamped:j1", "slow")))
        log.step(dataclasses.replace(make_step(2), achieved=None))
    (raw,) = convert(script, tmp_path / "out", tmp_path / "a.arplog").episodes("train")
    steps = [make_step(i) for i in range(3)]
    assert list(raw["safety_flags"]) == ["", "clamped:j1,slow", ""]
    np.testing.assert_array_equal(raw["action"], [s.command for s in steps])
    np.testing.assert_array_equal(raw["proposed_action"][1], steps[1].command + np.float32(0.1))
    assert raw["achieved_measured"].tolist() == [False, True, False]
    expected = [np.zeros(3), steps[1].achieved, steps[1].achieved]
    np.testing.assert_array_equal(raw["achieved"], expected)
    assert raw["reward"].tolist() == [0.0, 0.0, 0.0]
    assert raw["episode_metadata"]["outcome"] == "unknown"


def test_jpeg_keeps_its_bytes(script, tmp_path):
    write_log(tmp_path / "a.arplog", image_format="jpeg")
    dataset = convert(script, tmp_path / "out", tmp_path / "a.arplog")
    (raw,) = dataset.episodes("train", decode_images=False)
    frames = [make_step(i, image_format="jpeg").frames["image"] for i in range(6)]
    assert list(raw["observation"]["image"]) == frames


def test_incomplete_and_harmed_logs(script, tmp_path, capsys):
    whole = write_log(tmp_path / "whole.arplog")
    content = whole.read_bytes()
    cut = tmp_path / "cut.arplog"
    cut.write_bytes(content[: len(content) * 2 // 3])
    source = convert(script, tmp_path / "a", cut)
    printed = capsys.readouterr().out
    (episode,) = source.episodes("train")
    count = len(episode["action"])
    assert 1 < count < 6
    assert f"cut.arplog: {count} steps recovered; the last record is incomplete" in printed
    assert episode["episode_metadata"]["lost_bytes"] > 0
    assert not episode["is_terminal"].any()  # its marker was lost
    harmed = tmp_path / "harmed.arplog"
    middle = bytearray(content)
    middle[len(middle) // 2] ^= 16
    harmed.write_bytes(middle)
    part = "is harmed (CRC)"
    assert_refused(script, [harmed], tmp_path / "b", capsys, "harmed.arplog", part, "--recover")
    (episode,) = convert(script, tmp_path / "b", harmed, "--recover").episodes("train")
    assert 1 < len(episode["action"]) < 6


def test_choice_of_episodes_and_other_faults(script, tmp_path, capsys):
    logs = tmp_path / "logs"
    logs.mkdir()
    for name, marker in (("a", "success"), ("b", "failure"), ("c", None), ("short", "success")):
        with EpisodeLogWriter(logs / f"{name}.arplog", HEADER) as log:
            for number in range(1 if name == "short" else 3):
                log.step(make_step(number))
            if marker:
                log.marker(marker)

    def files(*flags):
        out = tmp_path / "out" / "-".join(flags)
        dataset = convert(script, out, logs, *flags)
        return [str(e["episode_metadata"]["file"]) for e in dataset.episodes("train")]

    assert files() == ["a.arplog", "b.arplog", "c.arplog"]
    assert "short.arplog: left out, 1 steps" in capsys.readouterr().out
    assert files("--outcome", "marked") == ["a.arplog", "b.arplog"]
    assert files("--outcome", "success", "--min_steps", "1") == ["a.arplog", "short.arplog"]
    out = tmp_path / "refused"
    assert_refused(script, [logs, "--min_steps", 9], out, capsys, "no episode is left")
    (tmp_path / "empty").mkdir()
    assert_refused(script, [tmp_path / "empty"], out, capsys, "empty: no *.arplog")
    other = dataclasses.replace(HEADER, action=dataclasses.replace(ACTION, rate_hz=20.0))
    with EpisodeLogWriter(logs / "d.arplog", other) as log:
        for number in range(2):
            log.step(make_step(number))
    assert_refused(script, [logs], out, capsys, "d.arplog disagree on ActionSpec.rate_hz")
    (logs / "d.arplog").write_bytes(b"something else")
    assert_refused(script, [logs], out, capsys, "d.arplog: no episode log")
    (logs / "d.arplog").unlink()
    with EpisodeLogWriter(logs / "e.arplog", HEADER) as log:
        step = make_step(0)
        log.step(step)
        log.step(dataclasses.replace(make_step(1), frames=step.frames | {"image": b"\x89PNG"}))
    assert_refused(script, [logs], out, capsys, "e.arplog: 'image' step 1 is no whole picture")
    (logs / "e.arplog").unlink()
    with EpisodeLogWriter(logs / "e.arplog", HEADER) as log:
        for size in (3, 4):
            log.step(dataclasses.replace(make_step(0), achieved=np.zeros(size, np.float32)))
    part = "e.arplog: 'achieved' has 4 joints at step 1"
    assert_refused(script, [logs], tmp_path / "again", capsys, part)


def test_as_a_command_with_workers(script, tmp_path, repository):
    for number in range(4):
        write_log(tmp_path / f"logs/{number}.arplog", seed=number)
    command = ["datasets/convert_bridge_log.py", tmp_path / "logs", "--out", tmp_path / "two"]
    command += ["--workers", "2", "--per_shard", "1"]
    subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(repository)},
        check=True,
    )
    one = convert(script, tmp_path / "one", tmp_path / "logs", "--per_shard", "1")
    assert contents(one.path) == contents(tmp_path / "two/bridge_logs/1.0.0")
