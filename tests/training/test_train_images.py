"""Training with the `images` section, then evaluating and exporting: one preprocessing for all."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from arp_jax import evaluate, export_policy
from arp_jax.export.runtime import content_hash, load_artifact, row_keys
from arp_jax.models.image_augment import ImageAugment, augment_images
from arp_jax.policies.base import make_physical_act
from arp_jax.policies.preprocessed import network_of
from arp_jax.sim.push_t.env import OBSERVATION_SPEC
from arp_jax.training.checkpoint import LoadedRun, load_run
from arp_jax.training.run_config import RunConfig
from tests.commands import run_module
from tests.training import tiny_config
from tests.training.conftest import leaves_equal
from tests.training.tiny_run import rows, run, tiny_setting

__all__ = ["tiny_setting"]  # a fixture of every test here

IMAGES = {
    "masks": ((0, 0, 10, 96),),
    "scale": (0.7, 1.0),
    "size": (16, 16),
    "brightness": 0.2,
    "hue": 0.05,
}


def image_config(images: dict[str, Any] | None = IMAGES) -> dict[str, Any]:
    config = tiny_config.get_config()
    config.observations = ("agent_pos", "image")
    config.data.source = "synthetic"
    config.train.steps = 2
    config.train.batch_size = 4
    config.train.eval_batches = 1
    config.images.update(images or {})
    return config.to_dict()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "run"
    assert run(image_config(), path) == 0
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedRun:
    return load_run(folder)


def test_the_run_keeps_raw_cameras_and_its_preprocessing(folder: Path, loaded: LoadedRun) -> None:
    assert loaded.spec.observation.cameras == OBSERVATION_SPEC.select(["image"]).cameras
    (camera,) = network_of(loaded.policy).spec.observation.cameras
    assert (camera.height, camera.width) == (16, 16)
    # 2 steps of 2 numbers and a picture of 16 x 16 each.
    assert loaded.params["hidden"]["kernel"].shape == (2 * (2 + 16 * 16 * 3), 32)
    assert json.loads((folder / "config.json").read_text())["images"]["size"] == [16, 16]


@pytest.mark.slow
def test_training_draws_and_resumes_the_same(folder: Path, tmp_path: Path) -> None:
    once_more = tmp_path / "again"
    config = image_config()
    config["train"]["steps"], config["train"]["save_every"] = 1, 1
    assert run(config, once_more) == 0
    config["train"]["steps"] = 2
    assert run(config, once_more, resume=True) == 0
    assert leaves_equal(load_run(folder).params, load_run(once_more).params)
    still = tmp_path / "still"
    quiet = {"masks": IMAGES["masks"], "size": (16, 16), "crop": (0, 0, 90, 90)}
    assert run(image_config(quiet), still) == 0
    assert rows(still)[2]["loss"] != rows(folder)[2]["loss"]


def test_evaluation_takes_the_environments_own_frames(
    folder: Path, tmp_path: Path, capsys: Any
) -> None:
    flags = ["--episodes=2", "--envs=2", "--max_steps=6", "--execute=3", "--videos=0"]
    assert evaluate.main([str(folder), *flags, f"--out={tmp_path}"]) == 0, capsys.readouterr().err


def test_the_artifact_takes_raw_frames_and_gives_the_policys_actions(
    folder: Path, loaded: LoadedRun, tmp_path: Path
) -> None:
    out = tmp_path / "artifact"
    assert export_policy.main([str(folder), f"--out={out}", "--platforms=cpu"]) == 0
    artifact = load_artifact(out)
    assert artifact.manifest["signature"]["observation"]["image"] == {
        "dtype": "uint8",
        "shape": ["b", 2, 96, 96, 3],
    }
    rng = np.random.default_rng(0)
    observation = {
        "agent_pos": rng.uniform(0, 512, (3, 2, 2)).astype(np.float32),
        "image": rng.integers(0, 256, (3, 2, 96, 96, 3), np.uint8),
    }
    found = artifact.act(observation, seed=5)
    # By hand: the picture as the section says, then the network alone.
    options = ImageAugment(masks=IMAGES["masks"], scale=IMAGES["scale"], size=IMAGES["size"])
    seen = {**observation, "image": np.asarray(augment_images(observation["image"], options))}
    act = make_physical_act(network_of(loaded.policy), loaded.normalizer)
    keys = jax.random.wrap_key_data(row_keys(5, 3), impl="threefry2x32")
    for row in range(3):
        one = {name: value[row : row + 1] for name, value in seen.items()}
        expected = np.asarray(act(loaded.params, one, keys[row]))[0]
        np.testing.assert_allclose(found[row], expected, atol=0.02)  # of 512 pixels
    steps = artifact.manifest["preprocessing"]
    assert steps["cameras"]["image"]["scale"] == [0.7, 1.0]
    assert steps["content_hash"] == content_hash(steps)
    changed = {**steps, "cameras": {"image": {**steps["cameras"]["image"], "size": [17, 16]}}}
    assert content_hash(changed) != steps["content_hash"]


def test_a_run_from_before_the_section(tmp_path: Path) -> None:
    """Nothing in the section, or no section at all, is the same run and the same policy."""
    first = tmp_path / "plain"
    config = image_config(None)
    assert run(config, first) == 0
    stored = json.loads((first / "config.json").read_text())
    del stored["images"]
    (first / "config.json").write_text(json.dumps(stored))
    config["train"]["steps"] = 3
    assert run(config, first, resume=True) == 0  # it may be continued
    assert type(load_run(first).policy).__name__ == "TinyPolicy"


def test_what_does_not_fit_ends_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.images\.sise is no option of an image"):
        RunConfig.resolve(image_config({"sise": (16, 16)}))
    with pytest.raises(ValueError, match=r"camera 'image': crop .* is not within 96 x 96"):
        run(image_config({"crop": (0, 0, 97, 5)}), tmp_path / "run")


@pytest.mark.slow
def test_a_real_image_policy(tmp_path: Path, repository: Path) -> None:
    """Commands as a user gives them: ARP with its ResNet on cropped, shrunk, recoloured frames."""
    folder = tmp_path / "run"
    flags = (
        "--config=configs/push_t_image.py",
        f"--workdir={folder}",
        "--config.data.source=synthetic",
        "--config.images.size=(88, 88)",
        "--config.images.scale=(0.8, 1.0)",
        "--config.images.contrast=0.2",
        "--config.policy.layers=2",
        "--config.train.steps=2",
        "--config.train.batch_size=2",
        "--config.train.eval_batches=1",
        "--config.train.save_every=2",
    )
    run_module("arp_jax.train", *flags, cwd=repository)
    quick = ("--episodes=1", "--envs=1", "--max_steps=8", "--videos=0")
    run_module("arp_jax.evaluate", folder, *quick, cwd=repository)
    printed = run_module("arp_jax.export_policy", folder, "--platforms=cpu", cwd=repository)
    assert "image uint8 [b, 2, 96, 96, 3]" in printed
    described = run_module("arp_jax.describe", flags[0], *flags[3:6], cwd=repository)
    assert described
