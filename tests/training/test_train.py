"""The training script on a real pack with the tiny policy: resume, signals, NaN, refusals."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import flagsaver

from arp_jax import train
from arp_jax.data.pack import pack_dataset
from arp_jax.data.synthetic import write_synthetic
from arp_jax.normalize import Affine, normalizer_to_json
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from arp_jax.training import metrics, preemption, run_dir
from arp_jax.training.checkpoint import CheckpointStore, LoadedRun, RunBundle, load_run
from arp_jax.training.optim import make_optimizer
from arp_jax.training.run_config import RunConfig
from arp_jax.training.state import TrainState
from tests.training import tiny_config
from tests.training.conftest import leaves_equal
from tests.training.tiny_policy import build_tiny
from tests.training.tiny_run import assert_same_run, make_config, rows, run, tiny_setting

__all__ = ["tiny_setting"]  # a fixture of every test here

DRIVER = Path(__file__).with_name("train_tiny.py")


@pytest.fixture(scope="module")
def pack_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    observation = OBSERVATION_SPEC.select(["agent_pos", "block_pose"])
    source = write_synthetic(folder, observation, ACTION_SPEC)
    pack_dataset(source, folder / "pack", ("agent_pos", "block_pose"), progress=False).close()
    return folder / "pack"


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, pack_dir: Path) -> Path:
    """Four steps without interruption, a checkpoint at 2 and at 4."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert run(make_config(pack_dir), folder) == 0
    return folder


def test_four_steps_are_two_plus_two(straight: Path, pack_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(make_config(pack_dir, train__steps=2), folder) == 0
    # The checkpoint was written while the straight run trained on: it holds step 2 all the same.
    first, whole = load_run(folder, 2, use_ema=False), load_run(straight, 2, use_ema=False)
    assert leaves_equal(first.params, whole.params)
    assert not leaves_equal(first.params, load_run(straight, 4, use_ema=False).params)
    assert run(make_config(pack_dir), folder, resume=True) == 0
    assert_same_run(straight, folder, step=4)
    assert list(rows(folder)) == [1, 2, 3, 4]


def test_a_finished_run_says_so(straight: Path, pack_dir: Path, capsys: Any) -> None:
    before = (straight / metrics.FILE).read_text()
    assert run(make_config(pack_dir), straight, resume=True) == 0
    assert "raise config.train.steps above 4" in capsys.readouterr().out
    assert (straight / metrics.FILE).read_text() == before


def test_run_directory(straight: Path, pack_dir: Path) -> None:
    assert json.loads((straight / "config.json").read_text())["train"]["steps"] == 4
    record = json.loads((straight / "run.json").read_text())["starts"][0]
    assert record["versions"]["jax"]
    assert record["devices"]
    assert record["command"] in (straight / "README.txt").read_text()
    found: LoadedRun = load_run(straight)
    assert found.step == 4
    assert found.spec.horizon == 4
    assert found.config["data"]["source"] == str(pack_dir)
    assert set(found.normalizer) == {"agent_pos", "block_pose", "action"}
    assert {"steps_per_s", "examples_per_s", "data_wait_share"} <= rows(straight)[4].keys()
    assert rows(straight, "start")[0]["compile_s"] > 0


def test_sigterm_saves_and_the_rest_follows(
    straight: Path, pack_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, write = tmp_path / "run", metrics.MetricWriter.write

    def write_and_signal(self: Any, step: int, kind: str, values: Any) -> None:
        write(self, step, kind, values)
        if (step, kind) == (2, "train"):
            os.kill(os.getpid(), signal.SIGTERM)

    # Step 2 is logged when it is saved, so the signal comes before step 3; 3 is no saving step.
    monkeypatch.setattr(metrics.MetricWriter, "write", write_and_signal)
    assert run(make_config(pack_dir), folder) == preemption.EXIT_CODE
    monkeypatch.undo()
    assert load_run(folder).step == 3
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build_policy", build_tiny)
        assert run(make_config(pack_dir), folder, resume=True) == 0
    assert_same_run(straight, folder, step=4)


def test_kill_nine_during_a_checkpoint(straight: Path, pack_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for resume, step in ((False, 2), (True, 4)):
        command = [
            *(sys.executable, str(DRIVER), f"--kill_while_saving={step}"),
            *(f"--config={tiny_config.__file__}", f"--workdir={folder}"),
            *(f"--config.data.source={pack_dir}", f"--resume={resume}"),
        ]
        killed = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        left = [path.name for path in (folder / "checkpoints").iterdir()]
        # Really in the middle: an unfinished folder is there, a finished one is not.
        assert str(step) not in left
        assert any(name.startswith(f"{step}.") for name in left)
        with (folder / metrics.FILE).open("a") as file:
            file.write('{"step": 5, "kind": "tra')
    assert run(make_config(pack_dir), folder, resume=True) == 0
    assert_same_run(straight, folder, step=4)
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["2", "4"]


def test_nan_stops_and_saves_the_batch(pack_dir: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "run"
    config = make_config(pack_dir, train__steps=40, train__save_every=1, train__log_every=3)
    # The largest actions occur in a few batches only; the loss is nan from the first of them on.
    config["policy"]["fail_at"] = 0.7999
    assert run(config, folder) == 1
    (path,) = folder.glob("non_finite_step_*.npz")
    step = int(path.stem.split("_")[-1])
    assert f"loss is nan at step {step}; its batch is {path}" in capsys.readouterr().out
    with np.load(path) as batch:
        assert batch["action"].max() > 0.7999
        assert batch["observation.agent_pos"].shape == (8, 2, 2)
    assert step > 1
    # The checkpoints before it are sound, and none was written after it.
    good = load_run(folder, use_ema=False)
    assert good.step == step - 1
    assert all(np.isfinite(x).all() for x in good.params["hidden"].values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__stepz": 4}, "config.train.stepz is not a config key; did you mean 'steps'"),
        ({"optim__schedule": "cosin"}, "config.optim: schedule 'cosin' is unknown"),
        ({"policy__widht": 4}, "config.policy.widht is not a config key; did you mean 'width'"),
        ({"data__source": "nowhere/at/all"}, "config.data.source 'nowhere/at/all' is no directory"),
        ({"data__normalization": {"action": "limits"}}, "normalization.agent_pos is missing"),
        ({"train__accumulate": 3}, "config.train: accumulate 3 must divide batch_size"),
        ({"mesh__data": 3}, "config.mesh: data 3 x fsdp 1 must be the number of devices"),
    ],
)
def test_wrong_config_is_one_clear_line(
    pack_dir: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        run(make_config(pack_dir, **changes), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_unknown_section_is_named(pack_dir: Path, tmp_path: Path) -> None:
    message = r"config\.trian is not a config key; did you mean 'train'"
    with pytest.raises(ValueError, match=message):
        run(make_config(pack_dir) | {"trian": {}}, tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.train.stepz=3"], "--config.train.stepz is not a config key; did you mean"),
        (["--config.trian.steps=3"], "--config.trian is not a config key; did you mean 'train'"),
        (["--config=configs/absent.py"], "--config=configs/absent.py: [Errno 2] No such file"),
        (["--config.train.steps=x"], "flag --config.train.steps=x: invalid literal for int()"),
        (["--resum"], "Unknown command line flag 'resum'. Did you mean: resume"),
        (["stray"], "unexpected argument 'stray'"),
        (["--workdir="], "--workdir= is empty; name a directory or leave the flag out"),
    ],
)
def test_wrong_command_line_is_one_clear_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    saved = flagsaver.save_flag_values()
    argv = ["train", f"--config={tiny_config.__file__}", f"--workdir={tmp_path}/run", *arguments]
    monkeypatch.setattr(sys, "argv", argv)  # ml_collections looks there for overrides
    try:
        with pytest.raises(SystemExit) as caught:
            train.main(train.parse_flags(argv))
    finally:
        flagsaver.restore_flag_values(saved)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not (tmp_path / "run").exists()


def test_a_failed_start_can_be_repeated(pack_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    bad = make_config(pack_dir, optim__weight_decay_groups=(("enocder", 0.0),))
    with pytest.raises(ValueError, match="'enocder' matches no parameter"):
        run(bad, folder)
    assert run(make_config(pack_dir, train__steps=2), folder) == 0


def test_a_run_is_never_written_over_by_accident(
    straight: Path, pack_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="is not empty; continue it with --resume"):
        run(make_config(pack_dir), straight)
    with pytest.raises(ValueError, match="no run in"):
        run(make_config(pack_dir), tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"config.seed is 5, .* was started with 0"):
        run(make_config(pack_dir) | {"seed": 5}, straight, resume=True)
    with pytest.raises(ValueError, match=r"config\.policy\.width is 48"):
        run(make_config(pack_dir, policy__width=48), straight, resume=True)


def test_changed_data_is_refused(straight: Path, pack_dir: Path, tmp_path: Path) -> None:
    observation = OBSERVATION_SPEC.select(["agent_pos", "block_pose"])
    other = write_synthetic(tmp_path, observation, ACTION_SPEC, seed=1)
    config = make_config(pack_dir, train__steps=6, data__source=str(other))
    config["data"]["pack_dir"] = str(tmp_path / "pack")
    with pytest.raises(ValueError, match="changed since step 4"):
        run(config, straight, resume=True)


@pytest.fixture
def imported(straight: Path, pack_dir: Path, tmp_path: Path) -> Path:
    """A run as arp_jax.import_checkpoint writes it: step 0, no data, a normalizer of its own."""
    source, folder = load_run(straight, use_ema=False), tmp_path / "run"
    tx = make_optimizer(RunConfig.resolve(make_config(pack_dir)).optim, 4)
    average = jax.tree.map(jnp.copy, source.params)
    rng = jax.random.PRNGKey(0)
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(zero, source.params, tx.init(source.params), average, rng)
    normalizer = source.normalizer | {"block_pose": Affine([1.0, 2.0, 0.0], [300.0, 200.0, 3.0])}
    store = CheckpointStore(folder)
    bundle = RunBundle(make_config(pack_dir), source.spec, {}, normalizer)
    store.save(0, state, {"batches": 0, "pack": ""}, bundle)
    store.close()
    run_dir.write_run_files(folder, make_config(pack_dir), resume=False)
    (folder / "README.txt").write_text("imported from a file")
    return folder


def test_an_imported_run_is_trained_on(imported: Path, pack_dir: Path) -> None:
    before = load_run(imported, 0, use_ema=False)
    assert run(make_config(pack_dir, train__steps=2), imported, resume=True) == 0
    assert run(make_config(pack_dir), imported, resume=True) == 0
    assert list(rows(imported)) == [1, 2, 3, 4]
    after = load_run(imported, use_ema=False)
    assert after.step == 4
    # Its parameters know no other units than the ones they were trained with, whatever the data's.
    assert leaves_equal(normalizer_to_json(after.normalizer), normalizer_to_json(before.normalizer))
    # Two steps at a rate of at most 0.01 do not lead far: they started at the import.
    first = load_run(imported, 2, use_ema=False)
    changes = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), first.params, before.params)
    assert 0 < max(jax.tree.leaves(changes)) < 0.05
    assert (imported / "README.txt").read_text() == "imported from a file"


def test_an_import_refuses_data_of_another_robot(
    imported: Path, pack_dir: Path, tmp_path: Path
) -> None:
    observation = OBSERVATION_SPEC.select(["agent_pos", "block_pose"])
    action = dataclasses.replace(ACTION_SPEC, rate_hz=50.0)
    config = make_config(pack_dir, data__source=str(write_synthetic(tmp_path, observation, action)))
    with pytest.raises(ValueError, match=r"rate_hz: expected 10.*, found 50"):
        run(config, imported, resume=True)


def test_overwrite_removes_only_the_run(pack_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "mine").write_text("kept")
    (folder / "checkpoints" / "90").mkdir(parents=True)
    assert run(make_config(pack_dir, train__steps=2), folder, overwrite=True) == 0
    assert (folder / "data" / "mine").read_text() == "kept"
    assert load_run(folder).step == 2


@pytest.mark.slow
def test_two_processes_train_and_resume_as_one_does(
    straight: Path, pack_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    for steps, resume in ((2, False), (4, True)):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        launch = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
        command = [
            *(sys.executable, str(DRIVER), f"--config={tiny_config.__file__}"),
            *(f"--workdir={folder}", f"--config.data.source={pack_dir}"),
            *(f"--config.train.steps={steps}", f"--resume={resume}"),
        ]
        processes = [
            subprocess.Popen(
                command,
                env={**os.environ, **launch, "JAX_PROCESS_ID": str(index)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(2)
        ]
        outputs = [process.communicate(timeout=120)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], outputs
    for kind in ("train", "validation"):
        one, two = (rows(path, kind) for path in (straight, folder))
        assert one.keys() == two.keys()
        for step, row in one.items():
            np.testing.assert_allclose(two[step]["loss"], row["loss"], rtol=1e-5)
