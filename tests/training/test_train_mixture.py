"""Training on mixtures: exact resumption, whose statistics, what is refused, public layouts."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arp_jax.data.cards import load_card
from arp_jax.data.pack import pack_dataset
from arp_jax.data.stats import compute_stats
from arp_jax.data.synthetic import write_raw_dataset, write_synthetic
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from arp_jax.specs import SpecMismatch
from arp_jax.training import data_report
from arp_jax.training.data_config import DataConfig
from arp_jax.training.inputs import Inputs, open_inputs
from arp_jax.training.sections import read_section
from tests.data.rlds_folder import synthetic_episodes, write_folder
from tests.training.tiny_run import assert_same_run, make_config, rows, run, tiny_setting

__all__ = ["tiny_setting"]  # a fixture of every test here

NAMES = ("agent_pos", "block_pose")


def write(folder: Path, seed: int, episodes: int, **action: Any) -> Path:
    observation = OBSERVATION_SPEC.select(NAMES)
    spec = dataclasses.replace(ACTION_SPEC, **action)
    return write_synthetic(folder, observation, spec, episodes=episodes, seed=seed)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack "first" of 10 episodes, an RLDS folder "second" of 5, both of 40 to 60 steps each."""
    folder = tmp_path_factory.mktemp("data")
    pack_dataset(write(folder, 0, 10), folder / "first", NAMES, progress=False).close()
    write(folder / "second", 1, 5).parent.rename(folder / "second" / "other")
    (folder / "second" / "other" / "1.0.0").rename(folder / "second" / "1.0.0")
    return folder


def mixed(data_dir: Path, **changes: Any) -> dict[str, Any]:
    settings = {"data__mixture": "first=3,second=1", "data__mixture_weights": "draw"}
    return make_config(data_dir, **(settings | changes))


def inputs_of(config: dict[str, Any], folder: Path) -> Inputs:
    return open_inputs(config, read_section(DataConfig, config["data"], "config.data"), folder)


def test_four_steps_are_two_plus_two(data_dir: Path, tmp_path: Path, capsys: Any) -> None:
    straight, folder = tmp_path / "straight", tmp_path / "run"
    assert run(mixed(data_dir), straight) == 0
    # The table of what will be seen: 32 examples, three quarters of the first.
    out = capsys.readouterr().out
    assert "2 datasets" in out
    assert "held out), statistics of all\n" in out
    (row,) = (line.split() for line in out.splitlines() if line.strip().startswith("second"))
    assert row[:2] == ["second", "1"]
    assert row[4:6] == ["25.00%", "8"]
    assert run(mixed(data_dir, train__steps=2), folder) == 0
    assert run(mixed(data_dir), folder, resume=True) == 0
    assert_same_run(straight, folder, step=4)
    assert list(rows(folder)) == [1, 2, 3, 4]
    # The mixture decides what is learned: another one is another run.
    with pytest.raises(ValueError, match=r"config\.data\.mixture is 'first=1,second=1'"):
        run(mixed(data_dir, data__mixture="first=1,second=1"), folder, resume=True)
    # So does any member's content, though the path is the same.
    write(tmp_path / "changed", 2, 5).parent.rename(tmp_path / "changed" / "second")
    (tmp_path / "changed" / "first").symlink_to(data_dir / "first")
    changed = mixed(tmp_path / "changed", train__steps=6, data__pack_dir=str(tmp_path / "packs"))
    with pytest.raises(ValueError, match="another member of the mixture changed since step 4"):
        run(changed, folder, resume=True)


def test_only_the_target_is_held_out(data_dir: Path, tmp_path: Path) -> None:
    found = inputs_of(mixed(data_dir, data__validation_fraction=0.3), tmp_path)
    assert (len(found.train_episodes), len(found.validation_episodes)) == (7, 3)
    assert found.shares[1].episodes == 5
    assert found.validation is not None
    first = inputs_of(make_config(data_dir / "first", data__validation_fraction=0.3), tmp_path)
    assert first.validation is not None
    for position in range(3):
        left = found.validation.batch_at(position)["observation"]["agent_pos"]
        right = first.validation.batch_at(position)["observation"]["agent_pos"]
        np.testing.assert_array_equal(left, right)


def test_statistics_of_the_target_only_where_asked(data_dir: Path, tmp_path: Path) -> None:
    everything = inputs_of(mixed(data_dir), tmp_path)
    target = inputs_of(mixed(data_dir, data__stats="target"), tmp_path)
    alone = inputs_of(make_config(data_dir / "first"), tmp_path)
    for name in (*NAMES, "action"):
        np.testing.assert_array_equal(target.stats[name].mean, alone.stats[name].mean)
        assert target.stats[name].count == alone.stats[name].count
    # All: as if the two had been one dataset, quantiles included.
    steps = [np.arange(pack.num_steps) for pack in packs(everything)]
    joined = {
        name: np.concatenate(
            [p.read_steps(s, [name])[name] for p, s in zip(packs(everything), steps, strict=True)]
        )
        for name in (*NAMES, "action")
    }
    episode = {"observation": {n: joined[n] for n in NAMES}, "action": joined["action"]}
    for name, expected in compute_stats([episode]).items():
        for field in ("mean", "std", "min", "max", "q01", "q99"):
            found = getattr(everything.stats[name], field)
            np.testing.assert_allclose(found, getattr(expected, field), rtol=1e-5, err_msg=name)
        assert everything.stats[name].count == expected.count
    assert everything.content_hash != alone.content_hash
    # They were kept; a second start reads them.
    (kept,) = (tmp_path / "pack").glob("stats-*.json")
    before = kept.stat().st_mtime_ns
    inputs_of(mixed(data_dir), tmp_path)
    assert kept.stat().st_mtime_ns == before


def packs(found: Inputs) -> list[Any]:
    """The opened packs behind a mixture's loader."""
    return [member._pack for member in found.train._members]  # type: ignore[attr-defined]


def test_members_that_mean_other_things_are_refused(data_dir: Path, tmp_path: Path) -> None:
    write(tmp_path / "slow", 1, 3, rate_hz=5.0).parent.rename(tmp_path / "slow" / "second")
    (tmp_path / "slow" / "first").symlink_to(data_dir / "first")
    config = mixed(tmp_path / "slow")
    with pytest.raises(SpecMismatch, match=r"first differ in action\.rate_hz: .*='rate'"):
        inputs_of(config, tmp_path)
    config["data"]["mixture_differences"] = "rate"
    found = inputs_of(config, tmp_path)
    assert found.shares[1].notes == ("action.rate_hz 5.0 (target 10.0)",)
    assert "action.rate_hz 5.0 (target 10.0)" in data_report.describe(found, config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture": "first=1,third=1"}, r"config\.data\.mixture .*third' is no directory"),
        ({"mixture": "wash"}, r"config\.data: mixture 'wash' is unknown; did you mean 'wash_pan'"),
        ({"source": "synthetic"}, "'synthetic' is no place for the members of a mixture"),
        ({"stats": "mine"}, "stats 'mine' is unknown"),
        ({"mixture": "", "mixture_weights": "", "stats": "all"}, "stats 'all' is about a mixture"),
        ({"validation_fraction": -1}, "-1 needs a mix that has published one"),
        ({"goal": "far"}, "goal 'far' is unknown"),
    ],
)
def test_wrong_sections_are_one_clear_line(
    data_dir: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config = mixed(data_dir)
    config["data"] |= changes
    with pytest.raises(ValueError, match=message) as caught:
        inputs_of(config, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_named_mix_brings_its_own_shares(data_dir: Path, tmp_path: Path) -> None:
    for name, source in (("cabinet", "first"), ("aloha_compressed_dataset", "second")):
        (tmp_path / name).symlink_to(data_dir / source)
    for name in ("cabinet_handles", "cabinet_grasp_pots"):
        (tmp_path / name).symlink_to(data_dir / "second")
    config = make_config(tmp_path, data__mixture="cabinet", data__validation_fraction=-1)
    found = inputs_of(config, tmp_path / "run")
    assert [share.count for share in found.shares] == [615, 102, 102, 205]
    assert len(found.validation_episodes) == 1  # 1 % of ten, at least one
    assert found.stats["action"].count == found.pack.num_steps


def test_public_layouts_with_goals_and_language(tmp_path: Path) -> None:
    """Bridge and fractal as they lie on a disk, in other sizes and rates, with 512-d sentences."""
    for seed, name in enumerate(("bridge", "fractal20220817_data")):
        write_raw_dataset(tmp_path, load_card(name), episodes=3, seed=seed)
    config = make_config(
        tmp_path,
        data__mixture="bridge_fractal",
        data__resize="image=24x32",
        data__goal="uniform",
        data__language=True,
        data__language_dropout=0.25,
        data__normalization={"action": "quantile"},
    )
    config |= {"observations": ("image",), "window": 2, "horizon": 3}
    found = inputs_of(config, tmp_path / "run")
    assert {note.split()[0] for note in found.shares[1].notes} >= {"action.rate_hz"}
    batch = found.train.batch_at(0)
    task = batch["task"]
    assert batch["observation"]["image"].shape == (8, 2, 24, 32, 3)
    assert task["goal"]["image"].shape == (8, 24, 32, 3)
    assert batch["action_is_past_goal"].shape == (8, 3)
    assert task["language_embedding"].shape == (8, 512)
    silent = task["language"] == -1
    assert (task["language"] < len(found.instructions)).all()
    assert not task["language_embedding"][silent].any()
    assert np.abs(task["language_embedding"][~silent]).sum(1).all()
    dropped = np.concatenate([found.train.batch_at(i)["task"]["language"] for i in range(40)])
    assert 0.1 < (dropped == -1).mean() < 0.45
    assert load_card("bridge").specs.action.unit in str(found.spec.action)


def test_members_without_language_join_those_with(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for index, told in enumerate((None, ["push", "lift"])):
        episodes = synthetic_episodes([6, 4], seed=index)
        source = write_folder(tmp_path / f"toy{index}", episodes, instructions=told)
        pack_dataset(source, folder / f"toy{index}", progress=False).close()
    config = make_config(folder, data__mixture="toy0=1,toy1=1", data__language=True)
    config |= {"observations": ("agent_pos",)}
    found = inputs_of(config, tmp_path)
    assert found.instructions == ("push", "lift")
    batch = found.train.batch_at(0)
    owners = found.train.sources(found.train.stream_at(0))[0]  # type: ignore[attr-defined]
    assert ((batch["task"]["language"] == -1) == (owners == 0)).all()
    with pytest.raises(ValueError, match="no episode has an instruction"):
        inputs_of({**config, "data": {**config["data"], "mixture": "toy0=1"}}, tmp_path)


def test_what_is_odd_is_said_before_training(data_dir: Path, tmp_path: Path) -> None:
    config = make_config(data_dir / "first", data__normalization={n: "quantile" for n in NAMES})
    config["data"]["normalization"]["action"] = "limits"
    found = inputs_of(config, tmp_path)
    lines = data_report.odd_dimensions(found, config["data"]["normalization"])
    # One percent on either side, by the meaning of quantiles; actions keep to their limits.
    (line,) = (line for line in lines if "agent_pos beyond +-1" in line)
    share = float(line.split("x ")[1].split("%")[0])
    assert 1.0 < share < 3.0
    assert not any("action" in line for line in lines)
