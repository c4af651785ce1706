"""VINN through the training script: library, export, and BYOL interrupted and continued."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from arp_jax.data.loader import Loader
from arp_jax.export.artifact import ExportSource, write_artifact
from arp_jax.export.runtime import load_artifact
from arp_jax.normalize import unnormalize
from arp_jax.training.checkpoint import LoadedRun, load_run
from arp_jax.training.data_config import DataConfig
from arp_jax.training.finish import FILE, each_window_once
from arp_jax.training.inputs import Inputs, open_inputs
from arp_jax.training.run_config import RunConfig
from arp_jax.training.sections import read_section
from configs import vinn_push_t_image, vinn_push_t_state
from tests.training.conftest import leaves_equal
from tests.training.tiny_run import rows, run


def state_config() -> dict[str, Any]:
    """Four episodes of synthetic Push-T in the library, one held out."""
    config = vinn_push_t_state.get_config()
    config.data.source = "synthetic"
    config.policy.neighbors = 1
    config.data.max_train_episodes = 4
    return config.to_dict()


def image_config(steps: int) -> dict[str, Any]:
    config = vinn_push_t_image.get_config()
    config.data.source = "synthetic"
    config.policy.update({"trunk_width": 16, "projection": 8, "projection_hidden": 16})
    config.policy.most_neighbors = 5
    config.images.size = (16, 16)
    config.data.max_train_episodes = 2
    config.train.steps = steps
    config.train.batch_size = 4
    config.train.log_every = 1
    config.train.eval_every = 2
    config.train.eval_batches = 1
    config.train.save_every = 2
    return config.to_dict()


def inputs_of(folder: Path, config: dict[str, Any]) -> Inputs:
    plain = RunConfig.resolve(config).plain
    return open_inputs(plain, read_section(DataConfig, plain["data"], "data"), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vinn") / "run"
    assert run(state_config(), path) == 0
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedRun:
    return load_run(folder)


def test_four_episodes_are_repeated(folder: Path, loaded: LoadedRun) -> None:
    target = inputs_of(folder, state_config()).target
    assert isinstance(target, Loader)
    assert len(loaded.params["library"]["chunks"]) == target.num_windows
    act, windows, errors = jax.jit(loaded.policy.act), 0, []
    for batch in each_window_once(target, 100):
        chunk = act(loaded.params, batch["observation"], jax.random.key(0))
        errors.append(np.abs(chunk - batch["action"]).mean())
        windows += len(chunk)
    assert windows == target.num_windows
    assert max(errors) < 1e-2


def test_the_run_tells_the_error_of_every_k(folder: Path) -> None:
    report = json.loads((folder / FILE).read_text())
    assert report["neighbors"] == 1  # as the config wants
    assert len(report["errors"]) == 5
    assert 0 < min(report["errors"]) <= max(report["errors"])
    assert report["held_out"] > 30


def test_wrong_checkpoints_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"moving average .*; leave out --no_ema"):
        load_run(folder, use_ema=False)


def test_an_artifact_acts_alike(loaded: LoadedRun, tmp_path: Path) -> None:
    parts = (loaded.policy, loaded.params, loaded.normalizer, loaded.stats)
    write_artifact(ExportSource(*parts, name="vinn", provenance={}), tmp_path / "out", ("cpu",))
    artifact = load_artifact(tmp_path / "out")
    library = loaded.params["library"]
    names = [f.name for f in loaded.spec.observation.features]
    vectors = np.split(np.asarray(library["parts"]["0"])[:3, None], [2], axis=-1)
    observation = {
        name: np.asarray(unnormalize(vector, loaded.normalizer[name]), np.float32)
        for name, vector in zip(names, vectors, strict=True)
    }
    expected = unnormalize(np.asarray(library["chunks"])[:3], loaded.normalizer["action"])
    np.testing.assert_allclose(artifact.act(observation, 0), expected, atol=0.01)  # px


@pytest.mark.slow
def test_four_steps_of_byol_are_two_plus_two(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert run(image_config(4), one) == 0
    with pytest.raises(ValueError, match=r"before the policy was finished.*--resume"):
        load_run(one, 2)
    for steps, resume in ((2, False), (4, True)):
        assert run(image_config(steps), other, resume) == 0
    left, right = (load_run(path, 4) for path in (one, other))
    assert set(left.params) == {"encoders", "library", "neighbors"}
    assert set(left.params["encoders"]["image"]) == {"trunk"}
    assert leaves_equal(left.params, right.params)
    assert list(rows(one)) == [1, 2, 3, 4] == list(rows(other))
    assert all(rows(one)[n]["loss"] == rows(other)[n]["loss"] for n in range(1, 5))
    assert rows(one)[1]["loss"] > 0
    assert json.loads((one / FILE).read_text()) == json.loads((other / FILE).read_text())
