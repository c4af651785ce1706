"""Sharding rules, and that eight virtual devices train as one does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from arp_jax.training.optim import OptimConfig, make_optimizer
from arp_jax.training.sharding import (
    check_batch_size,
    initialize_distributed,
    leaf_spec,
    make_mesh,
    shard_batch,
    state_sharding,
)
from arp_jax.training.state import TrainState, UpdateConfig, init_state, make_update_fn
from tests.training.conftest import make_batch
from tests.training.tiny_policy import TinyConfig, TinyPolicy, tiny_spec


def train(data: int, fsdp: int, accumulate: int = 1) -> dict[str, Any]:
    """Three steps of the tiny policy on a mesh over all devices; losses and placement."""
    policy = TinyPolicy(TinyConfig(width=64, dropout=0.2), tiny_spec())
    tx = make_optimizer(OptimConfig(learning_rate=1e-2, schedule="constant", warmup_steps=0), 3)
    mesh = make_mesh(data, fsdp)

    def init(rng: jax.Array) -> TrainState:
        return init_state(policy, tx, rng)

    rng = jax.random.PRNGKey(0)
    shardings = state_sharding(jax.eval_shape(init, rng), mesh, min_elements=16)
    state = jax.jit(init, out_shardings=shardings)(rng)
    update = make_update_fn(policy, tx, UpdateConfig(accumulate), state_sharding=shardings)
    losses = []
    for step in range(3):
        state, metrics = update(state, shard_batch(make_batch(32, seed=step), mesh))
        losses.append(float(metrics["loss"]))
    kernel, moment = (tree["hidden"]["kernel"] for tree in (state.params, state.opt_state[1].mu))
    return {
        "losses": losses,
        "kernel": list(kernel.addressable_shards[0].data.shape),
        "moment": list(moment.addressable_shards[0].data.shape),
        "weight": float(np.abs(np.asarray(kernel)).sum()),
    }


MESHES = ((8, 1, 1), (2, 4, 2))


def test_eight_devices_train_as_one_does() -> None:
    code = f"from {__name__} import *; print(json.dumps([train(*mesh) for mesh in MESHES]))"
    flags = "--xla_force_host_platform_device_count=8"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    copied, sharded = json.loads(result.stdout.splitlines()[-1])
    # Micro-batches draw their own dropout masks: each mesh is compared with the same on one device.
    for found, one in ((copied, train(-1, 1)), (sharded, train(-1, 1, 2))):
        for name in ("losses", "weight"):
            np.testing.assert_allclose(found[name], one[name], rtol=2e-5)
    # fsdp = 4 cuts the kernel [10, 64] and its Adam moment along the 64.
    assert copied["kernel"] == [10, 64]
    assert sharded["kernel"] == sharded["moment"] == [10, 16]


@pytest.mark.parametrize(
    ("shape", "fsdp", "expected"),
    [
        ((64, 128), 4, PartitionSpec(None, "fsdp")),
        ((128, 64), 4, PartitionSpec("fsdp")),
        ((64, 64), 4, PartitionSpec(None, "fsdp")),
        ((129, 64), 4, PartitionSpec(None, "fsdp")),
        ((129, 65), 4, PartitionSpec()),
        ((64, 128), 1, PartitionSpec()),
        ((4, 4), 4, PartitionSpec()),
        ((), 4, PartitionSpec()),
    ],
)
def test_largest_divisible_dimension(shape: tuple, fsdp: int, expected: PartitionSpec) -> None:
    assert leaf_spec(shape, fsdp, min_elements=32) == expected


def test_one_device_mesh_and_errors() -> None:
    mesh = make_mesh()
    assert dict(mesh.shape) == {"data": jax.device_count(), "fsdp": 1}
    batch = shard_batch({"x": np.arange(6.0)}, mesh)
    np.testing.assert_array_equal(batch["x"], np.arange(6.0))
    with pytest.raises(ValueError, match="data 3 x fsdp 2 must be the number of devices"):
        make_mesh(3, 2)
    with pytest.raises(ValueError, match="batch_size = 0 must be a multiple"):
        check_batch_size(0, mesh)


def test_incomplete_launch_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1234")
    monkeypatch.delenv("JAX_NUM_PROCESSES", raising=False)
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES"):
        initialize_distributed()
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS")
    initialize_distributed()
