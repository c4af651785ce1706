"""Runs of the training script with the tiny policy: config, start, what was logged, comparison."""

from pathlib import Path
from typing import Any

import pytest

from arp_jax import train
from arp_jax.training import checkpoint, metrics
from arp_jax.training.checkpoint import load_run
from arp_jax.training.run_config import RunConfig
from tests.training import tiny_config
from tests.training.conftest import leaves_equal
from tests.training.tiny_policy import build_tiny


@pytest.fixture(scope="module", autouse=True)
def tiny_setting(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny policy behind `build_policy`, and compiled programs kept for this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setattr(train, "build_policy", build_tiny)
        patch.setattr(checkpoint, "build_policy", build_tiny)
        yield


def make_config(pack_dir: Path, **changes: Any) -> dict[str, Any]:
    """The tiny config as plain values; `changes` are "section__key"=value."""
    config = tiny_config.get_config()
    config.data.source = str(pack_dir)
    plain = config.to_dict()
    for name, value in changes.items():
        section, key = name.split("__")
        plain[section][key] = value
    return plain


def run(config: dict[str, Any], folder: Path, resume: bool = False, overwrite: bool = False) -> int:
    return train.train(RunConfig.resolve(config), folder, resume, overwrite)


def rows(folder: Path, kind: str = "train") -> dict[int, dict[str, Any]]:
    lines = metrics.read_lines(folder / metrics.FILE)
    return {line["step"]: line for line in lines if line["kind"] == kind}


def assert_same_run(one: Path, other: Path, step: int) -> None:
    """Parameters, moving average and every logged loss are the same bits."""
    for use_ema in (False, True):
        left, right = (load_run(path, step, use_ema) for path in (one, other))
        assert leaves_equal(left.params, right.params)
    for kind in ("train", "validation"):
        left_rows, right_rows = rows(one, kind), rows(other, kind)
        assert left_rows.keys() == right_rows.keys()
        for at, row in left_rows.items():
            assert row["loss"] == right_rows[at]["loss"], (kind, at)
            assert row.get("grad_norm") == right_rows[at].get("grad_norm"), (kind, at)
