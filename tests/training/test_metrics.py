"""Metrics: the lag of one interval, the first bad step, the file after a crash."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from arp_jax.training import metrics
from arp_jax.training.metrics import MetricBuffer, MetricsConfig, MetricWriter, NonFiniteMetric


def scalars(loss: float) -> dict:
    return {"loss": jnp.float32(loss), "grad_norm": jnp.float32(1.0)}


def test_buffer_lags_one_interval() -> None:
    buffer = MetricBuffer()
    for step in (1, 2):
        buffer.add(step, scalars(step))
    buffer.close_interval({"steps_per_s": 10.0})
    assert list(buffer.fetch(lag=1)) == []
    for step in (3, 4):
        buffer.add(step, scalars(step))
    buffer.close_interval({"steps_per_s": 20.0})
    assert list(buffer.fetch(lag=1)) == [(2, {"loss": 1.5, "grad_norm": 1.0, "steps_per_s": 10.0})]
    buffer.add(5, scalars(7))
    buffer.close_interval({})
    assert [step for step, _ in buffer.fetch(lag=0)] == [4, 5]
    assert list(buffer.fetch(lag=0)) == []


def test_the_first_bad_step_is_named() -> None:
    buffer = MetricBuffer()
    for step, loss in enumerate([1.0, 2.0, float("nan"), float("inf")], start=10):
        buffer.add(step, scalars(loss))
    buffer.close_interval({})
    with pytest.raises(NonFiniteMetric, match="loss is nan at step 12") as caught:
        list(buffer.fetch(lag=0))
    assert caught.value.step == 12


def test_file_drops_lost_work_and_a_cut_line(tmp_path: Path) -> None:
    writer = MetricWriter(tmp_path, MetricsConfig())
    for step in (1, 2, 3):
        writer.write(step, "train", {"loss": 0.5 * step})
    # Every line is on disk at once: no close before this read.
    assert len((tmp_path / metrics.FILE).read_text().splitlines()) == 3
    with (tmp_path / metrics.FILE).open("a") as file:
        file.write('{"step": 4, "lo')
    writer.close()
    writer = MetricWriter(tmp_path, MetricsConfig(), resume_step=2)
    writer.write(3, "train", {"loss": float("nan")})
    writer.close()
    rows = [json.loads(line) for line in (tmp_path / metrics.FILE).read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[-1] == {"step": 3, "kind": "train", "loss": None}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MetricsConfig(tensorboard=True), r"config.metrics.tensorboard needs .*tensorboardX"),
        (MetricsConfig(wandb_project="x"), r"config.metrics.wandb_project needs .*wandb"),
    ],
)
def test_absent_services_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: MetricsConfig, message: str
) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(metrics.importlib, "import_module", absent)
    with pytest.raises(ValueError, match=message):
        MetricWriter(tmp_path, config)


def test_services_receive_what_the_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple] = []
    board = SimpleNamespace(
        add_scalar=lambda *call: calls.append(("board", *call)),
        close=lambda: calls.append(("board closed",)),
    )
    run = SimpleNamespace(
        log=lambda values, step: calls.append(("wandb", values, step)),
        finish=lambda: calls.append(("wandb closed",)),
    )
    packages = {
        "tensorboardX": SimpleNamespace(SummaryWriter=lambda folder: board),
        "wandb": SimpleNamespace(init=lambda **options: run),
    }
    monkeypatch.setattr(metrics.importlib, "import_module", packages.__getitem__)
    writer = MetricWriter(tmp_path, MetricsConfig(tensorboard=True, wandb_project="x"))
    writer.write(3, "train", {"loss": 0.5})
    writer.close()
    assert calls == [
        ("board", "train/loss", 0.5, 3),
        ("wandb", {"train/loss": 0.5}, 3),
        ("board closed",),
        ("wandb closed",),
    ]
