"""Sharding rules, and that eight virtual devices train as one does."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from arp_jax.training.sharding import (
    check_batch_size,
    initialize_distributed,
    leaf_spec,
    make_mesh,
    shard_batch,
)

# Trains five steps with the mesh given on the command line and prints losses and placement.
SCRIPT = """
import json, sys
import jax, numpy as np
from tests.training.conftest import make_batch
from tests.training.tiny_policy import TinyConfig, TinyPolicy, tiny_spec
from arp_jax.training import sharding
from arp_jax.training.optim import OptimConfig, make_optimizer
from arp_jax.training.state import UpdateConfig, init_state, make_update_fn

data, fsdp, accumulate = map(int, sys.argv[1:])
policy = TinyPolicy(TinyConfig(width=64, dropout=0.2), tiny_spec())
tx = make_optimizer(OptimConfig(learning_rate=1e-2, schedule="constant", warmup_steps=0), 5)
mesh = sharding.make_mesh(data, fsdp)
init = lambda rng: init_state(policy, tx, rng)
rng = jax.random.PRNGKey(0)
shardings = sharding.state_sharding(jax.eval_shape(init, rng), mesh, min_elements=16)
state = jax.jit(init, out_shardings=shardings)(rng)
update = make_update_fn(
    policy, tx, UpdateConfig(accumulate=accumulate), state_sharding=shardings
)
losses = []
for step in range(5):
    state, metrics = update(state, sharding.shard_batch(make_batch(32, seed=step), mesh))
    losses.append(float(metrics["loss"]))
kernel = state.params["hidden"]["kernel"]
moment = state.opt_state[1].mu["hidden"]["kernel"]
print(json.dumps({
    "devices": jax.device_count(), "losses": losses,
    "kernel": [list(kernel.shape), list(kernel.addressable_shards[0].data.shape)],
    "moment": list(moment.addressable_shards[0].data.shape),
    "weight": float(np.abs(np.asarray(kernel)).sum()),
}))
"""


def train(devices: int, data: int, fsdp: int, accumulate: int = 1) -> dict:
    flags = f"--xla_force_host_platform_device_count={devices}"
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(data), str(fsdp), str(accumulate)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_eight_devices_train_as_one_does() -> None:
    one = train(1, -1, 1)
    sharded = train(8, 2, 4, accumulate=2)
    assert (one["devices"], sharded["devices"]) == (1, 8)
    # fsdp = 4 cuts the kernel [10, 64] and its Adam moment along the 64.
    assert sharded["kernel"] == [[10, 64], [10, 16]]
    assert sharded["moment"] == [10, 16]
    whole = train(8, 8, 1)
    assert whole["kernel"] == [[10, 64], [10, 64]]
    for name in ("losses", "weight"):
        np.testing.assert_allclose(whole[name], one[name], rtol=2e-5)
    # Micro-batches draw other dropout masks, so only their first losses are close.
    assert abs(sharded["losses"][0] - one["losses"][0]) < 0.2 * one["losses"][0]
    np.testing.assert_allclose(train(8, 2, 4)["losses"], one["losses"], rtol=2e-5)


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
