"""The commands as a user runs them; the whole way (train, evaluate, compare, export) is slow."""

import json

import numpy as np
import pytest

from arp_jax import evaluate, export_policy
from arp_jax.evaluation.video import read_video
from tests.commands import run_module


def test_baseline_in_push_t_writes_everything(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--policy=random", "--episodes=5", "--envs=3", "--max_steps=9", f"--out={out}"]
    assert evaluate.main([*arguments, "--videos=2", "--public_seeds"]) == 0
    printed = capsys.readouterr().out
    assert "success" in printed
    summary = json.loads((out / "summary.json").read_text())
    assert summary["n"] == 5
    assert 0 <= summary["max_coverage_mean"] <= 1
    assert summary["about"]["seed"] == 100_000
    assert summary["about"]["versions"]
    assert {p.name for p in out.iterdir()} == {
        "summary.json",
        "report.html",
        "scores.png",
        "episodes.mp4",
        "failures.png",
        "failures.mp4",
        "episodes_random.npz",
    }
    film = read_video(out / "episodes.mp4")
    assert len(film) == 10  # the initial frame and nine steps
    assert film.std() > 10
    with np.load(out / "episodes_random.npz") as table:
        # RandomState(100000): the first public Push-T seed.
        law = np.random.RandomState(100_000)
        expected = [law.randint(50, 450), law.randint(50, 450), law.randint(100, 400)]
        np.testing.assert_array_equal(table["initial"][0, :3], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no run at nowhere"),
        (["--policy=random", "--env=ant"], "--env 'ant' is unknown"),
        (["--policy=random", "--episodes=0"], "--episodes must be at least 1"),
        (["--policy=planner", "--env=gym_pusht/PushT-v0"], "--policy planner plans in push_t"),
    ],
)
def test_wrong_usage_is_one_line(arguments, message, capsys):
    assert evaluate.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.startswith("error: ")
    assert "\n" not in error


def test_wrong_export_is_one_line(tmp_path, capsys):
    assert export_policy.main([str(tmp_path / "none")]) == 2
    assert "no run at" in capsys.readouterr().err
    assert export_policy.main(["--inspect", str(tmp_path)]) == 2
    assert "manifest.json does not exist" in capsys.readouterr().err


@pytest.mark.slow
def test_train_evaluate_compare_export(tmp_path, repository):
    """A real ARP policy: outcomes for E = 1, 7 and 32, comparison of two runs, gym, export."""
    runs = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(runs):
        config = ["--config=configs/debug.py", f"--config.seed={seed}", "--config.train.steps=30"]
        run_module("arp_jax.train", *config, f"--workdir={folder}", cwd=repository)
    tables = []
    flags = ["--episodes=9", "--max_steps=48", "--videos=0"]
    for envs in (1, 7, 32):
        out = tmp_path / f"envs_{envs}"
        run_module(
            "arp_jax.evaluate", runs[0], *flags, f"--envs={envs}", f"--out={out}", cwd=repository
        )
        tables.append(dict(np.load(out / "episodes_a.npz")))
    for table in tables[1:]:
        apart = np.abs(table["best_coverage"] - tables[0]["best_coverage"]).max()
        print(f"ARP in push_t: best coverage at most {apart:.2e} apart")
        assert apart < 1e-3
        np.testing.assert_array_equal(table["initial"], tables[0]["initial"])
        np.testing.assert_array_equal(table["length"], tables[0]["length"])
    out = tmp_path / "compared"
    printed = run_module(
        "arp_jax.evaluate", "--compare", *runs, *flags, f"--out={out}", cwd=repository
    )
    assert "b minus a, paired on 9 episodes" in printed
    assert json.loads((out / "summary.json").read_text())["comparison"]["score"]
    changed = ["--ensemble=0.01", "--latency=2", f"--out={tmp_path / 'ensemble'}"]
    run_module("arp_jax.evaluate", runs[0], *flags, *changed, cwd=repository)
    with np.load(tmp_path / "ensemble/episodes_a.npz") as table:
        np.testing.assert_array_equal(table["initial"], tables[0]["initial"])
        assert (table["best_coverage"] != tables[0]["best_coverage"]).any()
    gym = ["--env=gym_pusht/PushT-v0", "--episodes=3", "--max_steps=24"]
    assert "max coverage" in run_module("arp_jax.evaluate", runs[0], *gym, cwd=repository)
    assert "parity" in run_module("arp_jax.export_policy", runs[0], cwd=repository)
    inspected = run_module(
        "arp_jax.export_policy", "--inspect", runs[0] / "artifact", cwd=repository
    )
    assert "cpu, cuda, tpu" in inspected
