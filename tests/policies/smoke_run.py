"""A policy through the real commands: trained from its config, resumed, exported, compared.

In: a config of the repository made small, and where its data lie. Out: run directories, and what
they have in common. What is checked is the same for every policy; tests say which config.
"""

import contextlib
import importlib
import io
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arp_jax import export_policy, train
from arp_jax.evaluation.open_loop import open_loop_errors
from arp_jax.export.artifact import random_observation
from arp_jax.export.runtime import load_artifact
from arp_jax.policies.base import make_physical_act
from arp_jax.training.checkpoint import load_run
from arp_jax.training.inputs import open_inputs
from arp_jax.training.run_config import RunConfig
from tests.training.tiny_run import assert_same_run


def small_config(name: str, variant: str = "", **sections: Any) -> RunConfig:
    """configs/NAME.py with changes: `policy={...}`, `optim={...}` or plain keys."""
    config = importlib.import_module(f"configs.{name}").get_config(*([variant] if variant else []))
    with config.unlocked():
        for section, values in sections.items():
            if isinstance(values, dict):
                config[section].update(values)
            else:
                config[section] = values
    return RunConfig.resolve(config.to_dict())


def with_steps(config: RunConfig, steps: int) -> RunConfig:
    """The same config for a longer or shorter training; the schedule stays."""
    plain = {**config.plain, "train": {**config.plain["train"], "steps": steps}}
    return RunConfig.resolve(plain)


def trained(config: RunConfig, folder: Path, resume: bool = False) -> Path:
    """Trains in this process; returns the run directory."""
    assert train.train(config, folder, resume=resume, overwrite=False) == 0
    return folder


def check_resume(config: RunConfig, folder: Path) -> Path:
    """2 steps and 2 more are the same bits as 4; returns the run of 4.

    `config` must save every 2 steps and give its schedule a length (`optim.decay_steps`).
    """
    straight = trained(with_steps(config, 4), folder / "straight")
    trained(with_steps(config, 2), folder / "resumed")
    trained(with_steps(config, 4), folder / "resumed", resume=True)
    assert_same_run(straight, folder / "resumed", step=4)
    return straight


def check_export(run: Path, rows: int = 3) -> None:
    """The exported program chooses the actions of the live policy, row by row."""
    with contextlib.redirect_stdout(io.StringIO()):
        assert export_policy.main([str(run), "--platforms", "cpu"]) == 0
    artifact, loaded = load_artifact(run / "artifact"), load_run(run)
    observation = random_observation(loaded.spec, rows, seed=3)
    found = artifact.act(observation, seed=5)
    assert found.shape == (rows, loaded.spec.horizon, loaded.spec.action.size)
    act = jax.jit(make_physical_act(loaded.policy, loaded.normalizer))
    scale = loaded.normalizer["action"].scale
    for row in range(rows):
        one = {name: value[row : row + 1] for name, value in observation.items()}
        key = jax.random.fold_in(jax.random.key(5), row)
        live = np.asarray(act(loaded.params, one, key)[0])
        np.testing.assert_allclose(found[row] / scale, live / scale, atol=1e-5)


def normalised_error(run: Path, config: RunConfig, batches: int = 8) -> float:
    """Mean |predicted - recorded| action of training examples, normalised, without padding."""
    loaded = load_run(run)
    stream = open_inputs(config.plain, config.data, run, loaded.normalizer).train
    examples = [stream.batch_at(position) for position in range(batches)]
    errors = open_loop_errors(loaded.policy, loaded.params, loaded.normalizer, examples)
    weights = errors.count[:, None] / errors.count.sum() / errors.action.size
    return float((errors.mean_absolute / loaded.normalizer["action"].scale * weights).sum())
