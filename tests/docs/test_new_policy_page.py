"""The worked example of docs/new_policy.md works: files, commands, and the Python at its end."""

import os
import re
import runpy
import shlex
import subprocess
import sys

import numpy as np
import pytest

from arp_jax.export.runtime import load_artifact
from arp_jax.export_policy import main as export_main
from arp_jax.policies.base import build_policy
from arp_jax.train import train
from arp_jax.training.run_config import RunConfig
from tests.policies.test_arp import push_t_spec


def blocks(repository, language):
    page = (repository / "docs" / "new_policy.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


@pytest.fixture
def folder(repository, tmp_path, monkeypatch):
    """A folder with the page's two files, where a user would start."""
    policy, config, _ = blocks(repository, "python")
    for text in (policy, config):
        (tmp_path / re.match(r"# (\w+\.py)\n", text)[1]).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("linear_chunk", None)


def test_the_pages_policy_trains_acts_and_is_exported(repository, folder, capsys):
    config = runpy.run_path("linear_push_t.py")["get_config"]()
    config.train.steps = 2
    run = folder / "runs" / "linear"
    assert train(RunConfig.resolve(config.to_dict()), run, resume=False, overwrite=False) == 0
    capsys.readouterr()
    example = blocks(repository, "python")[2]
    exec(compile(example, "docs/new_policy.md", "exec"), {})
    shown = re.search(r"print\(.*\)  # (.*)", example)[1]
    assert capsys.readouterr().out.strip() == shown
    assert export_main([str(run), "--platforms", "cpu"]) == 0
    # What was exported needs the class no more.
    sys.modules.pop("linear_chunk")
    (folder / "linear_chunk.py").unlink()
    artifact = load_artifact(run / "artifact")
    assert artifact.manifest["policy"] == "linear_chunk:LinearChunk"
    seen = {"agent_pos": np.zeros((3, 2, 2)), "keypoints": np.zeros((3, 2, 16))}
    assert artifact.act(seen).shape == (3, 16, 2)


@pytest.mark.slow
def test_the_pages_commands_run_as_they_stand(repository, folder):
    environment = os.environ | {"PYTHONPATH": str(repository)}
    commands = [line for block in blocks(repository, "sh")[1:] for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "python"
        finished = subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
    assert (folder / "runs/linear/artifact/manifest.json").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("linear_chunck:LinearChunk", "No module named 'linear_chunck'; start where the file lies"),
        ("linear_chunk:Linear", "linear_chunk.py has no class 'Linear'"),
        ("linear_chunk:jnp", "linear_chunk.py has no class 'jnp'"),
        ("linear_chunk:LinearOptions", "the class has no init()"),
        (":LinearChunk", "Empty module name"),
        ("linear", "is unknown; choose one of .* or name a class of your own"),
    ],
)
def test_a_wrong_path_of_a_class_is_one_clear_line(folder, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        build_policy(name, {"name": name}, push_t_spec())
    assert "\n" not in str(caught.value)
    assert repr(name) in str(caught.value)


def test_a_misspelt_option_of_the_pages_policy_is_named(folder):
    with pytest.raises(ValueError, match=r"policy\.rige is no option of linear_chunk"):
        build_policy("linear_chunk:LinearChunk", {"name": "x", "rige": 1.0}, push_t_spec())
