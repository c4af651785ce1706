"""The comparison of policies: what is refused, what is done again, and what it says at the end."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from arp_jax.evaluation import report
from arp_jax.evaluation.episodes import EpisodeResults
from arp_jax.profile import load_config
from arp_jax.training.sections import read_section
from launch import compare, comparison
from tests.commands import run_module

CONFIGS = ("compare_push_t.py", "compare_transfer_cube.py")
N = 40


def plan_of(name="compare_push_t.py", **changes):
    return read_section(compare.Plan, {**load_config(name), **changes}, "config")


def episodes(seed, success, first_id=0):
    rng = np.random.default_rng(seed)
    score = np.clip(rng.normal(0.5, 0.1, N) + 0.4 * success, 0, 1)
    return EpisodeResults(
        episode=np.arange(N),
        seed=np.full(N, 100_000),
        initial=np.random.default_rng(first_id).uniform(size=(N, 5)),
        length=np.full(N, 100),
        success=score > 0.7,
        max_reward=score,
        best={"coverage": score},
        final={"coverage": score},
        success_metric="coverage",
        trajectory=None,
        seconds=1.0,
        compile_seconds=1.0,
    )


@pytest.fixture
def finished(tmp_path):
    """A folder with two runs, as far as the table reads them: the second is better."""
    for name, success in (("first", 0.0), ("second", 1.0)):
        run = tmp_path / name
        (run / "artifact").mkdir(parents=True)
        config = {"train": {"steps": 300, "batch_size": 64}}
        (run / "config.json").write_text(json.dumps(config))
        manifest = {"latency": {"median_ms": 12.34}}
        (run / "artifact" / "manifest.json").write_text(json.dumps(manifest))
        results = {name: episodes(len(name), np.full(N, success))}
        protocol = {"env": "push_t", "episodes": N, "seed": 100_000}
        about = {"parameter count": 1234}
        out = run / "eval" / comparison.EVALUATION
        report.write_report(out, results, about, protocol=protocol)
    return tmp_path


def rows_of(folder):
    return comparison.read_rows(folder, ("first", "second"), {"first": 2.0, "second": 3.5})


def test_the_table_has_counts_intervals_and_paired_differences(finished):
    rows = rows_of(finished)
    assert rows[0].against is None
    difference = rows[1].against.success
    assert (rows[0].steps, rows[0].examples) == (300, 300 * 64)
    assert difference.difference.value == rows[1].summary.success.value - (
        rows[0].summary.success.value
    )
    assert difference.difference.low > 0
    lines = comparison.table(rows).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    second = [cell.strip() for cell in lines[3].split("|")]
    assert second[1:7] == ["second", "1,234", "3.5", "300", "19,200", str(N)]
    assert second[7] == rows[1].summary.success.describe(percent=True)
    assert second[10].startswith(f"{100 * difference.difference.value:+.1f} points [")
    assert second[10].endswith(f"p = {difference.p_value:.2g}")
    assert lines[0].split("|")[8].strip() == "max coverage"


def test_the_files_say_how_to_do_it_again(finished):
    plan = {"minutes": 2.0, "untimed": ["second"]}
    printed = comparison.write(finished, "A title", rows_of(finished), plan)
    readme = (finished / "README.txt").read_text()
    assert comparison.table(rows_of(finished)) in readme
    assert "took training steps for 2 minutes" in readme
    assert "A title: first, second" in readme
    assert "{" not in readme
    assert str(finished / "comparison.png") in printed
    assert (finished / "comparison.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["policies"][1]["against"]["success"]["p_value"] < 0.05
    assert summary["policies"][0]["summary"]["n"] == N


def test_different_initial_states_are_not_compared(finished):
    other = episodes(1, np.zeros(N), first_id=1)
    other.save(finished / "second/eval/compare" / report.table_name("second"))
    with pytest.raises(ValueError, match="same initial states"):
        rows_of(finished)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("variant", ["cpu", "full"])
def test_all_policies_of_a_config_share_data_and_observations(repository, name, variant):
    plan = plan_of(f"{name}:{variant}")
    assert plan.order == ("arp", "act", "diffusion", "vinn")
    assert plan.episodes >= 200
    shared = set.intersection(*(set(flags) for flags in plan.policies.values()))
    assert {f.split("=")[0] for f in shared} >= {
        "--config.observations",
        "--config.data.validation_fraction",
    }
    for file, *flags in plan.policies.values():
        config = load_config(Path(file).name)
        assert config["eval"]["env"] == plan.env
        assert (config["eval"]["execute"], config["data"]["split_seed"]) == (
            {"push_t": 8, "transfer_cube": 50}[plan.env],
            42,
        )
        for flag in flags:  # every flag names a key of the config that it changes
            section = config
            for key in re.match(r"--config\.([\w.]+)=", flag)[1].split("."):
                assert key in section, flag
                section = section[key]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": ("arp", "rt1")}, "config.policies has no 'rt1'"),
        ({"order": ("arp",)}, "needs two policies"),
        ({"minutes": 0.0}, "minutes must be positive"),
        ({"timing_steps": 11}, "timing_steps must be >= 12"),
        ({"budget": 1}, "config.budget is not a config key"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        plan_of(**changes)


def test_a_folder_holds_one_comparison(tmp_path):
    folder = tmp_path / "out"
    compare.keep_plan(plan_of(), "DATA", folder)
    compare.keep_plan(plan_of(episodes=7), "DATA", folder)
    assert compare.read_json(folder / compare.PLAN_FILE)["episodes"] == 7
    with pytest.raises(ValueError, match="begun with another minutes"):
        compare.keep_plan(plan_of(minutes=1.0), "DATA", folder)
    with pytest.raises(ValueError, match="begun with another source"):
        compare.keep_plan(plan_of(), "OTHER", folder)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="no comparison; choose another"):
        compare.keep_plan(plan_of(), "DATA", tmp_path)


def test_a_copied_budget_may_lie_in_a_new_folder(tmp_path):
    (tmp_path / compare.BUDGET_FILE).write_text('{"arp": {"steps_per_s": 2.0, "steps": 9}}')
    compare.keep_plan(plan_of(), "DATA", tmp_path)
    assert (tmp_path / compare.PLAN_FILE).is_file()


def test_steps_fill_the_minutes():
    assert compare.steps_within(2.0, 3.01) == 361
    assert compare.steps_within(0.001, 1.0) == 1


def test_a_killed_training_is_continued_and_its_time_counts(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(compare, "run_command", commands.append)
    run = tmp_path / "arp"
    run.mkdir()
    (run / "config.json").write_text('{"train": {"steps": 9}}')
    (run / "metrics.jsonl").write_text("")
    begin = (run / "metrics.jsonl").stat().st_mtime - 100
    compare.write_json(tmp_path / compare.BUDGET_FILE, {"arp": {"steps_per_s": 2.0, "steps": 9}})
    compare.write_json(tmp_path / compare.ATTEMPTS_FILE, {"arp": [[begin, None]]})
    compare.train(plan_of(), "arp", "DATA", tmp_path)
    (command,) = commands
    assert command[-1] == "--resume"
    assert "--config.train.steps=9" in command
    assert 100 <= compare.spent_seconds(tmp_path, "arp") < 110
    # With its last checkpoint it is not started again.
    (run / "checkpoints" / "9").mkdir(parents=True)
    compare.train(plan_of(), "arp", "DATA", tmp_path)
    assert len(commands) == 1


TINY = """
from configs import compare_push_t

TINY = ("--config.train.batch_size=8", "--config.data.validation_fraction=0.25")
ARP = ("--config.policy.layers=1", "--config.policy.embed_dim=16", "--config.policy.heads=2")


def get_config():
    config = compare_push_t.get_config()
    config.order = ("arp", "vinn")
    config.policies = {
        "arp": (*compare_push_t.POLICIES["arp"], *compare_push_t.SHARED, *TINY, *ARP),
        "vinn": (*compare_push_t.POLICIES["vinn"], *compare_push_t.SHARED, *TINY),
    }
    config.minutes, config.timing_steps = 0.005, 12
    config.episodes = config.envs = 2
    return config
"""


@pytest.mark.slow
def test_a_tiny_comparison_from_the_command_line(repository, tmp_path):
    (tmp_path / "tiny.py").write_text(TINY)
    out = tmp_path / "out"
    command = ("launch.compare", f"--config={tmp_path}/tiny.py", "--source=synthetic")
    printed = run_module(*command, f"--workdir={out}", cwd=repository)
    assert "success minus arp" in printed
    summary = json.loads((out / "summary.json").read_text())
    assert [row["name"] for row in summary["policies"]] == ["arp", "vinn"]
    for row in summary["policies"]:
        assert row["summary"]["n"] == 2
        assert row["minutes"] > 0
        assert (out / row["name"] / "README.txt").is_file()
    budget = json.loads((out / "budget.json").read_text())
    assert summary["policies"][0]["steps"] == budget["arp"]["steps"]
    # Once more: nothing is left to do but the table.
    again = run_module(*command, f"--workdir={out}", cwd=repository)
    assert "$ python" not in again
    assert "arp: trained" in again
    wrong = run_module(*command, f"--workdir={out}", "--config.minutes=3", cwd=repository, status=2)
    assert "begun with another minutes" in wrong
