"""The Push-T dataset builders: from a small replay, and from stand-in plans, to RLDS folders."""

import importlib
import importlib.util
import json
import shutil
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numcodecs
import numpy as np
import pytest
import tensorflow_datasets as tfds

from arp_jax.data import rlds_build
from arp_jax.data.rlds import open_dataset
from arp_jax.sim.experts.push_t_planner import Demonstration, PlannerConfig
from arp_jax.sim.push_t import geometry
from arp_jax.sim.push_t.coverage import coverage
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from tests.datasets.scripts import load_script

LENGTHS = (5, 9, 4)
CHUNK = 7  # so that episodes begin and end inside chunks
CODEC = numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)


@pytest.fixture(scope="module")
def build(repository) -> ModuleType:
    return load_script(repository / "datasets/push_t/build.py", "push_t_build")


@pytest.fixture(scope="module")
def planned(repository) -> ModuleType:
    return load_script(repository / "datasets/push_t_planned/build.py", "push_t_planned_build")


def replay_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    total = sum(LENGTHS)
    state = rng.uniform(100, 400, (total, 5)).astype(np.float32)
    state[:, 4] = rng.uniform(0, 2 * np.pi, total)
    state[LENGTHS[0] - 1, 2:] = geometry.GOAL_POSE  # the first episode ends in success
    return {
        "data/state": state,
        "data/action": rng.uniform(0, 512, (total, 2)).astype(np.float32),
        "data/img": rng.integers(0, 256, (total, 96, 96, 3)).astype(np.float32),
        "data/keypoint": rng.uniform(0, 512, (total, 9, 2)).astype(np.float32),
        "data/n_contacts": rng.integers(0, 3, (total, 1)).astype(np.float32),
        "meta/episode_ends": np.cumsum(LENGTHS).astype(np.int64),
    }


def write_replay(folder: Path) -> Path:
    """The arrays as zarr version 2, the way Diffusion Policy stores them."""
    for name, values in replay_arrays().items():
        array = folder / name
        array.mkdir(parents=True)
        chunks = (CHUNK, *values.shape[1:])
        header = {
            "zarr_format": 2,
            "shape": values.shape,
            "chunks": chunks,
            "dtype": values.dtype.str,
            "order": "C",
            "filters": None,
            "fill_value": 0,
            "compressor": CODEC.get_config(),
        }
        (array / ".zarray").write_text(json.dumps(header))
        for index, start in enumerate(range(0, len(values), CHUNK)):
            part = values[start : start + CHUNK]
            chunk = np.zeros(chunks, values.dtype)
            chunk[: len(part)] = part
            key = ".".join([str(index), *["0"] * (values.ndim - 1)])
            (array / key).write_bytes(CODEC.encode(chunk))
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    return folder


@pytest.fixture(scope="module")
def replay(tmp_path_factory) -> Path:
    return write_replay(tmp_path_factory.mktemp("recorded") / "replay.zarr")


@pytest.fixture(scope="module")
def built(build, replay, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("rlds")
    assert build.main(["--replay", str(replay), "--out", str(out)]) == 0
    return out / "push_t" / "1.0.0"


def test_episodes_equal_the_replay(built):
    arrays = replay_arrays()
    dataset = open_dataset(built)
    assert dataset.splits == {"train": 3}
    assert dataset.specs.observation == OBSERVATION_SPEC
    assert dataset.specs.action == ACTION_SPEC
    ends = np.cumsum(LENGTHS)
    # All steps at once: jax compiles anew for every number of poses.
    poses = arrays["data/state"][:, 2:]
    all_covered, all_corners = np.asarray(coverage(poses)), np.asarray(geometry.keypoints(poses))
    for number, episode in enumerate(dataset.episodes("train")):
        steps = slice(ends[number] - LENGTHS[number], ends[number])
        expected = {
            "image": arrays["data/img"][steps],
            "agent_pos": arrays["data/state"][steps, :2],
            "block_pose": poses[steps],
            "recorded_keypoints": arrays["data/keypoint"][steps],
            "n_contacts": arrays["data/n_contacts"][steps, 0],
        }
        for name, values in expected.items():
            np.testing.assert_array_equal(episode["observation"][name], values, err_msg=name)
        np.testing.assert_allclose(
            episode["observation"]["keypoints"], all_corners[steps], atol=1e-3
        )
        np.testing.assert_array_equal(episode["action"], arrays["data/action"][steps])
        covered = all_covered[steps]
        after = np.append(covered[1:], covered[-1])
        np.testing.assert_allclose(episode["reward"], np.clip(after / 0.95, 0, 1), atol=1e-5)
        flags = np.arange(LENGTHS[number])
        np.testing.assert_array_equal(episode["is_first"], flags == 0)
        np.testing.assert_array_equal(episode["is_last"], flags == LENGTHS[number] - 1)
        assert episode["is_terminal"].tolist()[-1] == (number == 0)
        assert episode["discount"][-1] == (0.0 if number == 0 else 1.0)
        assert episode["discount"][:-1].tolist() == [1.0] * (LENGTHS[number] - 1)
        assert episode["episode_metadata"]["episode_id"] == number
        assert episode["episode_metadata"]["max_coverage"] == pytest.approx(covered.max(), abs=1e-5)
    assert number == 2


def test_tfds_reads_the_folder_without_tensorflow(built):
    assert importlib.util.find_spec("tensorflow") is None or "tensorflow" not in sys.modules
    builder = tfds.builder_from_directory(built)
    assert builder.info.features["steps"]["action"].shape == (2,)
    assert "Columbia" in builder.info.redistribution_info.license
    assert "chi2023" in builder.info.citation
    source = builder.as_data_source(split="train")
    ours = list(open_dataset(built).episodes("train"))
    assert len(source) == 3
    steps = list(source[1]["steps"])
    assert len(steps) == LENGTHS[1]
    for name in OBSERVATION_SPEC.names:
        theirs = np.stack([step["observation"][name] for step in steps])
        np.testing.assert_array_equal(theirs, ours[1]["observation"][name])


def test_finished_folder_is_left_alone_or_refused(build, built, replay, tmp_path, capsys):
    shard = next(built.glob("*.array_record-*"))
    before = shard.stat().st_mtime_ns
    assert build.main(["--replay", str(replay), "--out", str(built.parents[1])]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert shard.stat().st_mtime_ns == before
    other = shutil.copytree(replay, tmp_path / "other.zarr")
    ends = np.zeros(CHUNK, np.int64)
    ends[:2] = 5, 18
    header = json.loads((other / "meta/episode_ends/.zarray").read_text())
    (other / "meta/episode_ends/.zarray").write_text(json.dumps({**header, "shape": [2]}))
    (other / "meta/episode_ends/0").write_bytes(CODEC.encode(ends))
    assert build.main(["--replay", str(other), "--out", str(built.parents[1])]) == 2
    assert "was built with replay_sha256=" in capsys.readouterr().err


def damage_nothing(folder: Path) -> Path:
    return folder.parent / "nowhere.zarr"


def damage_array(folder: Path) -> Path:
    shutil.rmtree(folder / "data" / "keypoint")
    return folder


def damage_missing_chunk(folder: Path) -> Path:
    (folder / "data/state/1.0").unlink()
    return folder


def damage_truncated_chunk(folder: Path) -> Path:
    chunk = folder / "data/img/1.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-100])
    return folder


def damage_header(folder: Path) -> Path:
    (folder / "data/action/.zarray").write_text('{"shape": [1')
    return folder


def damage_lengths(folder: Path) -> Path:
    header = json.loads((folder / "data/action/.zarray").read_text())
    (folder / "data/action/.zarray").write_text(json.dumps({**header, "shape": [17, 2]}))
    return folder


def damage_to_file(folder: Path) -> Path:
    file = folder.parent / "replay.zip"
    file.write_bytes(b"")
    return file


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_nothing, "nowhere.zarr: no zarr replay here"),
        (damage_to_file, "is a file; unzip it"),
        (damage_array, "data/keypoint: array is missing"),
        (damage_missing_chunk, "data/state/1.0: chunk is missing"),
        (damage_truncated_chunk, "data/img/1.0.0.0: chunk is truncated"),
        (damage_header, "data/action/.zarray: is no zarr array header"),
        (damage_lengths, "data/action: shape (17, 2), expected (18, 2)"),
    ],
)
def test_damaged_replay_gives_one_clear_line(build, replay, tmp_path, capsys, damage, message):
    path = damage(shutil.copytree(replay, tmp_path / "replay.zarr"))
    assert build.main(["--replay", str(path), "--out", str(tmp_path / "out")]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert message in line
    # Nothing half-built is left that could pass for a dataset.
    assert not (tmp_path / "out" / "push_t" / "1.0.0").exists()


def test_download_unpacks_once_and_names_a_dead_address(build, replay, tmp_path):
    archive = tmp_path / "pusht.zip"
    with zipfile.ZipFile(archive, "w") as content:
        for path in replay.rglob("*"):
            content.write(path, Path("pusht") / "replay.zarr" / path.relative_to(replay))
    folder = build.download_replay(tmp_path / "downloads" / "push_t", archive.as_uri())
    assert build.open_replay(folder).digest == build.open_replay(replay).digest
    archive.unlink()
    assert build.download_replay(tmp_path / "downloads" / "push_t", archive.as_uri()) == folder
    with pytest.raises(ValueError, match=r"download failed.*--replay"):
        build.download_replay(tmp_path / "elsewhere", archive.as_uri())
    assert not (tmp_path / "elsewhere").exists()


def stand_in_planner(seeds, config, progress) -> list[Demonstration]:
    """Plans of random numbers, of which those of seeds 1, 4, 7, ... fail."""
    demonstrations = []
    for seed in seeds:
        rng = np.random.default_rng([seed, config.seed])
        length = int(rng.integers(3, 90))

        def draw(*shape, rng=rng):
            return rng.uniform(0, 500, shape).astype(np.float32)

        demonstrations.append(
            Demonstration(
                seed=seed,
                initial=draw(5),
                actions=draw(length, 2),
                agent_pos=draw(length, 2),
                block_pose=draw(length, 3),  # angles of many turns
                coverage=np.linspace(0, 0.96, length, dtype=np.float32),
                success=seed % 3 != 1,
            )
        )
    return demonstrations


def build_planned(planned: ModuleType, out: Path, **arguments) -> Path:
    builder = planned.PushTPlanned(planner=stand_in_planner, data_dir=str(out), **arguments)
    assert rlds_build.prepare(builder, builder.arguments)
    return Path(builder.data_dir)


def test_planned_episodes_are_the_first_successes(planned, tmp_path):
    folder = build_planned(planned, tmp_path / "a", episodes=4, seed=3)
    dataset = open_dataset(folder)
    assert dataset.specs.observation.names == ("agent_pos", "keypoints", "block_pose")
    assert "observation/image" not in dataset.features
    episodes = list(dataset.episodes("train"))
    assert [int(e["episode_metadata"]["episode_id"]) for e in episodes] == [0, 2, 3, 5]
    for episode in episodes:
        seed = int(episode["episode_metadata"]["episode_id"])
        (plan,) = stand_in_planner([seed], PlannerConfig(seed=3), False)
        np.testing.assert_array_equal(episode["action"], plan.actions)
        np.testing.assert_array_equal(episode["episode_metadata"]["initial"], plan.initial)
        observation = episode["observation"]
        np.testing.assert_array_equal(observation["agent_pos"], plan.agent_pos)
        angle = observation["block_pose"][:, 2]
        assert angle.min() >= 0
        assert angle.max() <= np.float32(2 * np.pi)
        np.testing.assert_allclose(np.sin(angle), np.sin(plan.block_pose[:, 2]), atol=1e-3)
        padded = np.resize(plan.block_pose, (128, 3))  # one shape, one compilation
        corners = np.asarray(geometry.keypoints(padded))[: len(plan.actions)]
        np.testing.assert_allclose(observation["keypoints"], corners, atol=1e-2)
        np.testing.assert_allclose(episode["reward"], np.clip(plan.coverage / 0.95, 0, 1))
        assert episode["is_terminal"][-1]
    again = build_planned(planned, tmp_path / "b", episodes=4, seed=3)
    (shard,) = folder.glob("*.array_record-*")
    assert shard.read_bytes() == (again / shard.name).read_bytes()


def test_planned_images_are_drawn_on_request(planned, tmp_path):
    folder = build_planned(planned, tmp_path, episodes=1, images=True)
    (episode,) = open_dataset(folder).episodes("train", ["image"])
    images = episode["observation"]["image"]
    assert images.shape[1:] == (96, 96, 3)
    assert len({image.tobytes() for image in images}) > len(images) // 2


def test_planned_refuses_other_arguments_and_hopeless_plans(planned, tmp_path, capsys):
    build_planned(planned, tmp_path, episodes=2)
    assert planned.main(["--episodes", "3", "--out", str(tmp_path)]) == 2
    assert "was built with episodes=2, asked for 3" in capsys.readouterr().err
    assert planned.main(["--episodes", "2", "--out", str(tmp_path)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert planned.main(["--episodes", "0", "--out", str(tmp_path)]) == 2
    assert "--episodes must be at least 1" in capsys.readouterr().err

    def hopeless(seeds, config, progress):
        return [d for d in stand_in_planner(seeds, config, progress) if not d.success]

    builder = planned.PushTPlanned(planner=hopeless, data_dir=str(tmp_path / "b"))
    with pytest.raises(ValueError, match="0 of 8 plans succeeded"):
        rlds_build.prepare(builder, builder.arguments)


@pytest.mark.slow
def test_real_plans_reach_the_goal(planned, tmp_path):
    assert planned.main(["--episodes", "2", "--seed", "1", "--out", str(tmp_path)]) == 0
    for episode in open_dataset(tmp_path / "push_t_planned" / "1.0.0").episodes("train"):
        assert episode["reward"][-1] == 1.0
        assert episode["episode_metadata"]["max_coverage"] > 0.95


@pytest.mark.slow
def test_whole_human_dataset(build, shared_dir, tmp_path):
    replay = shared_dir / "data" / "pusht_cchi_v7_replay.zarr"
    assert build.main(["--replay", str(replay), "--out", str(tmp_path)]) == 0
    dataset = open_dataset(tmp_path / "push_t" / "1.0.0")
    arrays = build.open_replay(replay)
    bounds = arrays.bounds()
    assert dataset.splits == {"train": 206}
    assert bounds[-1][1] == 25650
    episodes = dataset.episodes("train", ["agent_pos", "action"])
    for (start, stop), episode in zip(bounds, episodes, strict=True):
        np.testing.assert_array_equal(episode["action"], arrays.arrays["action"].read(start, stop))
        state = arrays.arrays["state"].read(start, stop)
        np.testing.assert_array_equal(episode["observation"]["agent_pos"], state[:, :2])


@pytest.mark.parametrize("name", ["push_t", "push_t_planned"])
def test_cards_agree_with_the_simulator(repository, name):
    card = json.loads((repository / "datasets" / "cards" / f"{name}.json").read_text())
    assert card["name"] == name
    assert card["license"]
    assert card["action"] == json.loads(json.dumps(ACTION_SPEC.to_json()))
    observation = OBSERVATION_SPEC
    if name == "push_t_planned":
        observation = observation.select(n for n in observation.names if n != "image")
    assert card["observation"] == json.loads(json.dumps(observation.to_json()))
