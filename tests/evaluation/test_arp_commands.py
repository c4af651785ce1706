"""`describe` and `profile` as a user runs them: a config file is all they need."""

import json
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pytest

from arp_jax import describe, profile
from arp_jax.evaluation.config_policy import policy_of_config
from configs import arp_push_t_ablations, debug
from tests.commands import run_module


def test_describe_prints_and_draws(tmp_path, repository):
    picture = tmp_path / "new/tokens.svg"
    flags = ["--config=configs/debug.py", "--config.horizon=5", f"--svg={picture}"]
    printed = run_module("arp_jax.describe", *flags, cwd=repository)
    assert "fine-action (predicted by gmm)" in printed
    assert printed.count("\nq") == 2 + 4 + 5
    assert str(picture) in printed
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


WRONG = [
    (["--config=configs/debug.py", "--config.eval.env=ant"], "'ant' has no known spec"),
    (["--config=configs/debug.py", "--config.policy.heads=5"], "policy.embed_dim 32"),
    ([], "give --config=configs/NAME.py"),
]


@pytest.mark.parametrize("command", ["describe", pytest.param("profile", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("flags", "message"), [WRONG[0], *(pytest.param(*w, marks=pytest.mark.slow) for w in WRONG[1:])]
)
def test_wrong_usage_is_one_line(command, flags, message, repository):
    error = run_module(f"arp_jax.{command}", *flags, cwd=repository, status=2).strip()
    assert error.splitlines()[-1].startswith("error: ")
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error


def test_profile_writes_its_numbers(tmp_path, capsys):
    out = tmp_path / "p.json"
    given = {"config": debug.get_config(), "all": False, "batch": 2, "no_compile": True}
    profile.run_command(SimpleNamespace(**given, json=str(out)))
    assert "encoder" in capsys.readouterr().out
    document = json.loads(out.read_text())
    rows = {row["name"]: row for row in document["rows"]}
    assert document["batch_size"] == 2
    assert document["total"]["parameters"] == sum(r["parameters"] for r in rows.values())
    # A window of 2, each 2 + 16 numbers, 32 hidden units, 2 examples.
    assert rows["encoder/hidden_dense"]["act_macs"] == 2 * 2 * 18 * 32
    assert document["checks"]["act"]["explained"] == pytest.approx(1, abs=0.1)


@pytest.mark.slow
def test_profile_as_a_command(tmp_path, repository):
    out = tmp_path / "p.json"
    flags = ["--config=configs/debug.py", f"--json={out}"]
    printed = run_module("arp_jax.profile", *flags, cwd=repository)
    assert "training step" in printed
    assert json.loads(out.read_text())["memory"]["training step"]["temporary"] > 0


def test_schedules_are_found_by_name():
    policy = policy_of_config(debug.get_config().to_dict())
    assert list(describe.schedules_of(policy)) == ["schedule"]
    policy.more = {"first": policy.schedule, "second": policy.schedule}
    assert list(describe.schedules_of(policy)) == ["schedule", "more_first", "more_second"]
    with pytest.raises(ValueError, match="has no chunk schedule"):
        describe.schedules_of(SimpleNamespace(spec=policy.spec))


def test_every_ablation_makes_a_policy():
    for variant in arp_push_t_ablations.VARIANTS:
        policy = policy_of_config(arp_push_t_ablations.get_config(variant).to_dict())
        assert policy.schedule.length == (32 if variant.startswith("flat") else 22)
    chunks = {
        variant: policy_of_config(
            arp_push_t_ablations.get_config(variant).to_dict()
        ).schedule.num_chunks
        for variant in ("published", "one_step", "plan_3", "action_1", "flat")
    }
    assert chunks == {"published": 4, "one_step": 3, "plan_3": 5, "action_1": 19, "flat": 32}
