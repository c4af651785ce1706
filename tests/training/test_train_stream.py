"""Training from a stream: the real entry, what a run reads, resumption, what is refused."""

import dataclasses
import importlib.util
import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from arp_jax.data.cards import load_card
from arp_jax.data.mixes import MIXES
from arp_jax.data.pack import pack_dataset
from arp_jax.data.synthetic import write_raw_dataset
from arp_jax.normalize import unnormalize
from arp_jax.specs import SpecMismatch
from arp_jax.training import data_report
from arp_jax.training.data_config import DataConfig
from arp_jax.training.finish import check_finish
from arp_jax.training.inputs import Inputs, open_inputs
from arp_jax.training.run_config import RunConfig
from arp_jax.training.sections import read_section
from arp_jax.training.validation import held_out_batches
from tests.data.rlds_folder import synthetic_episodes, write_folder
from tests.data.test_stream import READERS
from tests.training.tiny_run import make_config, rows, run, tiny_setting

__all__ = ["tiny_setting"]  # a fixture of every test here

HAVE_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
FIRST = [5, 3, 9, 4, 7, 3, 8, 2, 6, 5]
SECOND = [6, 4, 7, 5]
FIELDS = ("mean", "std", "min", "max", "q01", "q99", "count")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RLDS folders "first" (ten episodes, four shards) and "second" (four) of TFRecord files."""
    folder = tmp_path_factory.mktemp("sets")
    for seed, (name, lengths) in enumerate((("first", FIRST), ("second", SECOND))):
        write_folder(folder / name / "1.0.0", synthetic_episodes(lengths, seed), files=4)
    return folder


def streamed(source: Path, **changes: Any) -> dict[str, Any]:
    """The tiny config on a stream that needs no TensorFlow."""
    settings = {"data__stream": True, "data__stream_reader": "python"}
    config = make_config(source, **(settings | changes))
    config["data"]["normalization"] = {"agent_pos": "quantile", "action": "min_max"}
    return config | {"observations": ("agent_pos",)}


def inputs_of(config: dict[str, Any], folder: Path) -> Inputs:
    return open_inputs(config, read_section(DataConfig, config["data"], "config.data"), folder)


def form(batch: Any) -> Any:
    return jax.tree.map(lambda x: (x.dtype, x.shape), batch)


def assert_same_batch(left: Any, right: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, left, right)


def positions(batch: Any, found: Inputs) -> set[tuple[float, ...]]:
    """Where the examples of a batch stand, in pixels."""
    values = batch["observation"]["agent_pos"][:, -1]
    return {tuple(p) for p in unnormalize(values, found.normalizer["agent_pos"]).round(1)}


def stored(episodes: Any) -> set[tuple[float, ...]]:
    return {tuple(p) for episode in episodes for p in episode["agent_pos"].round(1)}


@pytest.mark.parametrize("reader", READERS)
def test_four_steps_and_their_resumption(
    data_dir: Path, tmp_path: Path, capsys: Any, reader: str
) -> None:
    config = streamed(data_dir / "first", data__stream_reader=reader, train__steps=2)
    longer = streamed(data_dir / "first", data__stream_reader=reader)
    straight, folder = tmp_path / "straight", tmp_path / "run"
    assert run(longer, straight) == 0
    out = capsys.readouterr().out
    assert "data: streamed, 8 episodes, 41 examples (2 episodes held out), 5.1 batches" in out
    assert "approximately" not in out
    assert run(config, folder) == 0
    # Until it is interrupted a stream is a function of the config.
    for step in (1, 2):
        assert rows(folder)[step]["loss"] == rows(straight)[step]["loss"]
    held_out = rows(straight, "validation")
    assert rows(folder, "validation")[2]["loss"] == held_out[2]["loss"]
    capsys.readouterr()
    assert run(longer, folder, resume=True) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "approximately" in line]
    assert len(lines) == 1
    assert "goes on near batch 2" in lines[0]
    assert list(rows(folder)) == [1, 2, 3, 4]
    assert np.isfinite([row["loss"] for row in rows(folder).values()]).all()
    assert list(rows(folder, "validation")) == [2, 4]


def test_other_data_are_refused(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(streamed(data_dir / "first", train__steps=2), folder) == 0
    other = write_folder(tmp_path / "other", synthetic_episodes(FIRST[:-1], 5), files=4)
    with pytest.raises(ValueError, match=r"--resume: the data at .*other changed since step 2"):
        run(streamed(other), folder, resume=True)
    with pytest.raises(ValueError, match=r"config\.data\.stream is False, .* started with True"):
        run(streamed(data_dir / "first", data__stream=False), folder, resume=True)
    # A copy elsewhere is the same data, and less memory the same run.
    shutil.copytree(data_dir / "first" / "1.0.0", tmp_path / "moved")
    moved = streamed(tmp_path / "moved", data__stream_buffer_mb=1e-3)
    assert run(moved, folder, resume=True) == 0


def test_statistics_and_batches_are_those_of_a_pack(data_dir: Path, tmp_path: Path) -> None:
    task = {"data__goal": "hindsight"}
    config = streamed(data_dir / "first", **task) | {"observations": ("agent_pos", "image")}
    found = inputs_of(config, tmp_path)
    config["data"]["stream"] = False
    packed = inputs_of(config, tmp_path)
    assert packed.pack is not None
    for name, expected in packed.pack.stats.items():
        for field in FIELDS:
            left, right = (getattr(stats, field) for stats in (found.stats[name], expected))
            np.testing.assert_allclose(left, right, rtol=1e-6, err_msg=f"{name} {field}")
    assert found.stats["action"].count == sum(FIRST)
    assert found.spec == packed.spec
    assert found.train_examples is not None
    assert found.train_examples + found.validation_examples == sum(FIRST)
    expected_form = form(packed.train.sample())
    assert form(found.train.sample()) == expected_form
    assert form(next(found.train.starting_at(0))) == expected_form
    assert form(next(found.train.starting_at(3))) == expected_form
    assert found.train.batch_at(0) is None
    # The pass over the data is made once.
    (kept,) = (tmp_path / "stream").glob("stats-*.json")
    before = kept.stat().st_mtime_ns
    config["data"]["stream"] = True
    again = inputs_of(config, tmp_path)
    assert kept.stat().st_mtime_ns == before
    assert again.content_hash == found.content_hash != packed.content_hash
    assert_same_batch(again.train.sample(), found.train.sample())


def test_the_last_episodes_are_held_out(data_dir: Path, tmp_path: Path) -> None:
    found = inputs_of(streamed(data_dir / "first", data__validation_fraction=0.3), tmp_path)
    assert found.train_episodes.tolist() == list(range(7))
    assert found.validation_episodes.tolist() == [7, 8, 9]
    assert (found.train_examples, found.validation_examples) == (sum(FIRST[:7]), sum(FIRST[7:]))
    episodes = synthetic_episodes(FIRST)
    seen: set[tuple[float, ...]] = set()
    for batch in itertools.islice(found.train.starting_at(0), 60):
        seen |= positions(batch, found)
    assert seen == stored(episodes[:7])
    held_out = held_out_batches(found, 8, most=10)
    assert len(held_out) == 2  # 13 windows
    places = set().union(*(positions(batch, found) for batch in held_out))
    assert places < stored(episodes[7:])
    assert len(places) > 8
    # Drawn at random, but the same ones whenever they are asked for.
    for left, right in zip(held_out, held_out_batches(found, 8, most=10), strict=True):
        assert_same_batch(left, right)
    part = streamed(data_dir / "first", data__split="train[2:9]", data__max_train_episodes=3)
    found = inputs_of(part, tmp_path)
    assert positions(found.train.sample(), found) <= stored(episodes[2:5])
    assert found.train_examples == sum(FIRST[2:5])
    assert len(held_out_batches(found, 8, most=1)) == 1


def test_a_mixture_of_streams(data_dir: Path, tmp_path: Path, capsys: Any) -> None:
    shares = {"data__mixture": "first=3,second=1", "data__mixture_weights": "draw"}
    assert run(streamed(data_dir, **shares), tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert "data: streamed, 2 datasets" in out
    (row,) = (line.split() for line in out.splitlines() if line.strip().startswith("second"))
    assert row[:7] == ["second", "1", "4", str(sum(SECOND)), "25.00%", "8", "0.36"] or "-" in row
    found = inputs_of(streamed(data_dir, **shares), tmp_path)
    # As if the two had been one dataset.
    both = synthetic_episodes(FIRST) + synthetic_episodes(SECOND, 1)
    joined = np.concatenate([episode["action"] for episode in both])
    np.testing.assert_allclose(found.stats["action"].mean, joined.mean(0), rtol=1e-6)
    q01 = np.quantile(joined.astype(np.float64), 0.01, axis=0)
    np.testing.assert_allclose(found.stats["action"].q01, q01, rtol=1e-6)
    assert found.stats["action"].count == len(joined)
    mine, drawn = stored(synthetic_episodes(SECOND, 1)), 0
    for batch in itertools.islice(found.train.starting_at(0), 128):  # one block
        values = batch["observation"]["agent_pos"][:, -1]
        values = unnormalize(values, found.normalizer["agent_pos"]).round(1)
        drawn += sum(tuple(p) in mine for p in values)
    assert drawn == 256
    # Only the target gives statistics: nothing of the other is read before training.
    target = inputs_of(streamed(data_dir, data__stats="target", **shares), tmp_path)
    assert target.stats["action"].count == sum(FIRST)
    assert target.shares[1].examples is target.train_examples is None
    table = data_report.describe(target, streamed(data_dir, **shares))
    assert "examples not all counted" in table
    assert "statistics of first" in table
    # Unless its share depends on its size.
    shares["data__mixture_weights"] = "step"
    sized = inputs_of(streamed(data_dir, data__stats="target", **shares), tmp_path)
    assert sized.shares[1].examples == sum(SECOND)
    assert sized.shares[0].fraction == pytest.approx(123 / (123 + sum(SECOND)), abs=1e-3)
    assert len({target.content_hash, sized.content_hash}) == 2


def test_public_layouts_are_streamed(tmp_path: Path) -> None:
    """bridge and fractal as they lie on a disk, with goals and sentence vectors, in one size."""
    for seed, name in enumerate(("bridge", "fractal20220817_data")):
        write_raw_dataset(tmp_path, load_card(name), episodes=3, seed=seed)
    config = streamed(
        tmp_path,
        data__mixture="bridge_fractal",
        data__resize="image=24x32",
        data__goal="uniform",
        data__language=True,
        data__stream_buffer_mb=2,
    )
    config["data"]["normalization"] = {"action": "quantile"}
    config |= {"observations": ("image",), "window": 2, "horizon": 3}
    found = inputs_of(config, tmp_path / "run")
    batch = next(found.train.starting_at(0))
    assert batch["observation"]["image"].shape == (8, 2, 24, 32, 3)
    assert batch["task"]["goal"]["image"].shape == (8, 24, 32, 3)
    assert batch["task"]["language_embedding"].shape == (8, 512)
    assert found.spec.observation.cameras[0].height == 24
    assert {note.split()[0] for note in found.shares[1].notes} >= {"action.rate_hz"}
    # Each in its own size they do not go together, as packs do not.
    config["data"]["resize"] = ""
    with pytest.raises(SpecMismatch, match=r"differ in size of image"):
        inputs_of(config, tmp_path / "run")


def test_the_actions_of_a_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two members of `rtx`, which gives every one the actions of RT-1-X."""
    mix = dataclasses.replace(MIXES["rtx"], members=MIXES["rtx"].members[:2])
    monkeypatch.setitem(MIXES, "rtx", mix)
    for name, _ in mix.members:
        write_raw_dataset(tmp_path, load_card(name), episodes=3, seed=0)
    config = streamed(tmp_path, data__mixture="rtx", data__stats="target")
    config["data"]["normalization"] = {"action": "min_max"}
    found = inputs_of(config | {"observations": ()}, tmp_path / "run")
    assert found.spec.action.size == 11
    assert [share.weight for share in found.shares] == [150, 50]
    assert next(found.train.starting_at(0))["action"].shape == (8, 4, 11)


def test_memory_stays_within_its_bound(data_dir: Path, tmp_path: Path) -> None:
    shares = {"data__mixture": "first=1,second=1", "data__stream_buffer_mb": 2e-3}
    config = streamed(data_dir, **shares) | {"observations": ("agent_pos", "image")}
    stream: Any = inputs_of(config, tmp_path).train.starting_at(0)
    most = 0
    for _ in range(60):
        next(stream)
        most = max(most, stream.nbytes)
    # Two members, each at most one episode (nine steps of 4 x 4 pixels) over its half.
    assert 0 < most <= 2e-3 * 2**20 + 2 * 9 * (200 + 16)


def test_a_loss_that_is_not_finite(data_dir: Path, tmp_path: Path, capsys: Any) -> None:
    config = streamed(data_dir / "first")
    config["policy"]["fail_at"] = 0.5
    assert run(config, tmp_path / "run") == 1
    assert "its batch is gone with the stream" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "nowhere/at/all"}, r"config\.data\.source 'nowhere/at/all' is no directory"),
        ({"stream_reader": "numpy"}, "stream_reader 'numpy' is unknown; choose one of"),
        ({"stream_buffer_mb": 0}, "stream_buffer_mb must be positive"),
        ({"resize": "wrist=4x4"}, r"no camera 'wrist' among \['agent_pos'\]"),
        ({"language": True}, "stores no 'language_embedding'"),
        ({"pad_after": 0, "validation_fraction": 0.1, "split": "train[:2]"}, "has room for"),
        ({"validation_fraction": 1.5}, "cannot split 10 episodes"),
    ],
)
def test_wrong_sections_are_one_clear_line(
    data_dir: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config = streamed(data_dir / "first")
    config["data"] |= changes
    config["horizon"] = 5
    with pytest.raises(ValueError, match=message) as caught:
        inputs_of(config, tmp_path)
    assert "\n" not in str(caught.value)


def test_packs_and_reports_are_not_streamed(data_dir: Path, tmp_path: Path) -> None:
    pack_dataset(data_dir / "first" / "1.0.0", tmp_path / "pack", progress=False).close()
    with pytest.raises(ValueError, match="is a pack and read as one; set stream to False"):
        inputs_of(streamed(tmp_path / "pack"), tmp_path)
    found = inputs_of(streamed(data_dir / "first"), tmp_path)
    finishing: Any = SimpleNamespace(finish=lambda *_: None)
    with pytest.raises(ValueError, match="reads every window once more"):
        check_finish(finishing, found)
    check_finish(finishing, inputs_of(streamed(tmp_path / "pack", data__stream=False), tmp_path))
    config = streamed(data_dir / "first") | {"report": "digits"}
    config["policy"] = {"name": "arp_digits"}
    with pytest.raises(ValueError, match="'digits' reads a pack; set config"):
        RunConfig.resolve(config)


def test_a_shard_cut_short_is_named(data_dir: Path, tmp_path: Path) -> None:
    """At the end of a record, where no checksum fails."""
    folder = write_folder(tmp_path / "cut", synthetic_episodes(FIRST), files=1)
    short = write_folder(tmp_path / "short", synthetic_episodes(FIRST)[:-2], files=1)
    name = "toy-train.tfrecord-00000-of-00001"
    shutil.copy(short / name, folder / name)
    with pytest.raises(ValueError, match=r"cut, split 'train': episode 8 of it is missing") as told:
        inputs_of(streamed(folder), tmp_path)
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "stream").glob("stats-*"))


@pytest.mark.skipif(HAVE_TENSORFLOW, reason="says what is missing where TensorFlow is")
def test_a_missing_tensorflow_is_one_clear_line(data_dir: Path, tmp_path: Path) -> None:
    config = streamed(data_dir / "first", data__stream_reader="tensorflow")
    with pytest.raises(ValueError, match=r"pip install 'arp_jax\[tf\]'.*stream_reader=python"):
        inputs_of(config, tmp_path)
    config["data"]["source"] = "gs://bucket/set/1.0.0"
    with pytest.raises(
        ValueError, match=r"config\.data\.source gs://.*pip install 'arp_jax\[tf\]'"
    ):
        inputs_of(config, tmp_path)


def test_a_remote_folder_is_streamed_like_its_copy(data_dir: Path, tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install tensorflow-cpu")
    remote = "ram://training"  # a file system of TensorFlow's that no other library opens
    for path in data_dir.glob("*/*/*"):
        there = f"{remote}/{path.relative_to(data_dir)}"
        tf.io.gfile.makedirs(there.rpartition("/")[0])
        tf.io.gfile.copy(str(path), there, overwrite=True)
    shares = {"data__mixture": "first=3,second=1", "data__stream_reader": "tensorflow"}
    near = inputs_of(streamed(data_dir, **shares), tmp_path / "near")
    config = streamed(data_dir, **shares)
    config["data"]["source"] = remote
    far = inputs_of(config, tmp_path / "far")
    assert far.content_hash == near.content_hash
    assert far.where == f"{remote}/first/1.0.0"
    pairs = zip(near.train.starting_at(0), far.train.starting_at(0), strict=False)
    for left, right in itertools.islice(pairs, 6):
        assert_same_batch(left, right)
    config["data"] |= {"mixture": "", "source": f"{remote}/first"}
    assert run(config, tmp_path / "run") == 0
    config["data"]["source"] = f"{remote}/nowhere"
    with pytest.raises(ValueError, match=r"'ram://training/nowhere' is no directory"):
        inputs_of(config, tmp_path)
