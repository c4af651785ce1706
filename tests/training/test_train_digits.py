"""The digits demonstration end to end, tiny: data made, three steps, resumed exactly, reported."""

import csv
import functools
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from absl.testing import flagsaver
from PIL import Image

from arp_jax import train
from arp_jax.data import digits
from arp_jax.evaluation import digits_baselines, digits_report
from arp_jax.training import run_dir
from arp_jax.training.checkpoint import load_run
from arp_jax.training.inputs import open_inputs
from arp_jax.training.run_config import RunConfig
from configs import arp_digits
from tests.training.conftest import leaves_equal

IMAGES = 60


@pytest.fixture(scope="module", autouse=True)
def _few_images(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Some images instead of all, few draws, and compiled programs kept for this module."""
    images, classes = (values[:IMAGES] for values in digits.binary_digits())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setattr(digits, "binary_digits", lambda: (images, classes))
        patch.setattr(digits_report, "DRAWN", 4)
        yield


def make_config(**train_changes: Any) -> dict[str, Any]:
    config = arp_digits.get_config().to_dict()
    config["policy"] |= {"layers": 1, "embed_dim": 16, "heads": 2}
    config["train"] |= {"steps": 3, "batch_size": 8, "log_every": 1, "eval_every": 1}
    config["train"] |= {"save_every": 2, "eval_batches": 2} | train_changes
    return config


def run(config: dict[str, Any], folder: Path, **flags: bool) -> int:
    flags = {"resume": False, "overwrite": False} | flags
    return train.train(RunConfig.resolve(config), folder, **flags)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "run"
    assert run(make_config(), folder) == 0
    return folder


def test_the_readme_names_what_a_pen_is_good_for(straight: Path) -> None:
    text = (straight / "README.txt").read_text()
    assert f"look at {straight / 'report'}" in text
    assert f"arp_jax.export_policy {straight}" in text
    assert "arp_jax.evaluate" not in text  # there is no environment of a pen


def test_an_epoch_is_every_image_once(straight: Path) -> None:
    found = load_run(straight)
    assert (found.spec.horizon, found.spec.window) == (27, 1)
    lines = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    held_out = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in held_out] == [1, 2, 3]
    for line in held_out:
        assert line["nats_per_image"] == pytest.approx(27 * line["loss"], rel=1e-5)


def test_resumed_run_is_the_same_and_reports_the_same(straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(make_config(steps=2), folder) == 0
    assert run(make_config(), folder, resume=True) == 0
    for use_ema in (False, True):
        one, two = (load_run(path, 3, use_ema) for path in (straight, folder))
        assert leaves_equal(one.params, two.params)
    for name in ("digits.png", "digits.csv", "digits.json"):
        assert (folder / "report" / name).read_bytes() == (straight / "report" / name).read_bytes()


def test_report(straight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads((straight / "report/digits.json").read_text())
    overall = found["overall"]
    assert found["training_images"] + overall["n"] == IMAGES
    assert overall["n"] == sum(row["n"] for row in found["per_class"]) == 12
    assert overall["drawn"] == 40
    for name in ("arp", "pixel_chain", "independent"):
        row = overall["nats_per_image"][name]
        assert row["low"] <= row["value"] <= row["high"]
    # Three steps of training: near the uniform distribution over 8 rows and 8 columns, 27 times.
    assert overall["nats_per_image"]["arp"]["value"] == pytest.approx(27 * np.log(64), rel=0.25)
    last = (straight / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["step"] == 3
    with (straight / "report/digits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["digit"] == "all"
    assert float(rows[-1]["nats_arp"]) == overall["nats_per_image"]["arp"]["value"]
    with Image.open(straight / "report/digits.png") as picture:
        assert picture.width > 2 * picture.height - 60
    # A finished run whose report is gone gets it back.
    before = (straight / "report/digits.json").read_bytes()
    (straight / "report/digits.json").unlink()
    assert run(make_config(), straight, resume=True) == 0
    assert (straight / "report/digits.json").read_bytes() == before
    text = capsys.readouterr().out
    assert "nats per image" in text
    assert f"report: {straight / 'report'}" in text


def test_held_out_images_are_scored_whole(straight: Path) -> None:
    """The report reads episodes, the loader windows: both give the same held-out nats."""
    config = RunConfig.resolve(make_config())
    inputs, loaded = open_inputs(config.plain, config.data, straight), load_run(straight)
    pens = digits_report.Pens.read(inputs.pack, inputs.validation_episodes)
    nats = digits_report.score(loaded.policy, loaded.params, loaded.normalizer, pens)
    batches = [inputs.validation.batch_at(i) for i in range(3)]  # 24 examples: two epochs of 12
    loss = jax.jit(functools.partial(loaded.policy.loss, train=False))
    losses = [loss(loaded.params, batch, jax.random.PRNGKey(0))[0] for batch in batches]
    assert nats.mean() == pytest.approx(27 * np.mean(losses), rel=1e-5)
    images, _ = digits.binary_digits()
    np.testing.assert_array_equal(pens.images, images[inputs.validation_episodes])


def test_baselines_are_distributions_and_see_structure() -> None:
    images, classes = digits.binary_digits()
    every = (np.arange(1, 64)[:, None] >> np.arange(6) & 1).astype(bool).reshape(-1, 2, 3)
    seen = images[:, 2:4, 2:5]
    kept = seen.any((1, 2))
    for model in (digits_baselines.pixel_chain, digits_baselines.independent_pixels):
        nats = model(seen[kept], classes[kept], every, np.full(63, 3))
        total = np.exp(-nats).sum()
        assert 0.9 < total < 1 + 1e-9  # the empty image is the only one left out
    distance = digits_baselines.nearest_distance(images[:5], ~images[:5])
    assert (distance <= 64).all()
    assert distance.min() > 0
    assert (digits_baselines.nearest_distance(images, images) == 0).all()


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        (None, "report", "digit", r"config\.report 'digit': choose one of"),
        ("policy", "name", "arp", r"config\.report 'digits' is about the policy arp_digits"),
        ("data", "validation_fraction", 0.0, r"needs config\.data\.validation_fraction"),
        (None, "horizon", 20, r"config\.horizon 20 is too short"),
    ],
)
def test_what_cannot_be_reported_fails_before_training(
    tmp_path: Path, section: str | None, key: str, value: Any, message: str
) -> None:
    config = make_config()
    (config if section is None else config[section])[key] = value
    with pytest.raises(ValueError, match=message):
        run(config, tmp_path / "run")


def test_the_run_directory_is_named_after_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_dir.choose_folder(None, "configs/a/b.py:c") == tmp_path / "runs/b"
    assert run_dir.choose_folder("here", "configs/b.py") == tmp_path / "here"
    asked = []
    monkeypatch.setattr(train, "train", lambda config, folder, *_: asked.append(folder) or 0)
    saved = flagsaver.save_flag_values()
    argv = ["train", f"--config={arp_digits.__file__}"]
    monkeypatch.setattr(sys, "argv", argv)
    try:
        with pytest.raises(SystemExit) as caught:
            train.main(train.parse_flags(argv))
    finally:
        flagsaver.restore_flag_values(saved)
    assert caught.value.code == 0
    assert asked == [tmp_path / "runs/arp_digits"]
    # A run that is there already is refused as ever.
    (tmp_path / "runs/arp_digits").mkdir(parents=True)
    (tmp_path / "runs/arp_digits/config.json").write_text("{}")
    with pytest.raises(ValueError, match="is not empty; continue it with --resume"):
        run_dir.check_start(asked[0], resume=False, overwrite=False)
