"""Checkpoints: round trip, pruning, and one clear line for each way to be wrong."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from arp_jax.normalize import FeatureStats, affine_from_limits
from arp_jax.specs import SpecMismatch
from arp_jax.training import checkpoint, sharding
from arp_jax.training.checkpoint import CheckpointStore, RunBundle, load_run
from arp_jax.training.state import TrainState, UpdateConfig, init_state, make_update_fn
from tests.training.conftest import leaves_equal, make_batch
from tests.training.tiny_policy import TinyConfig, TinyPolicy, build_tiny, tiny_spec


@pytest.fixture
def bundle() -> RunBundle:
    values = np.array([0.1, 1 / 3], np.float32)
    stats = {"action": FeatureStats(values, values, values, values, values, values, 7)}
    return RunBundle(
        config={"policy": {"name": "tiny", "width": 32}, "seed": 3},
        spec=tiny_spec(),
        stats=stats,
        normalizer={"action": affine_from_limits((0.0, 0.0), (512.0, 512.0))},
    )


@pytest.fixture
def state(policy: TinyPolicy, tx: optax.GradientTransformation) -> TrainState:
    update = make_update_fn(policy, tx, UpdateConfig())
    state = init_state(policy, tx, jax.random.PRNGKey(0))
    for seed in range(2):
        state, _ = update(state, make_batch(8, seed))
    return state


def abstract(policy: TinyPolicy, tx: optax.GradientTransformation) -> TrainState:
    shapes = jax.eval_shape(lambda rng: init_state(policy, tx, rng), jax.random.PRNGKey(0))
    return sharding.with_sharding(shapes, sharding.state_sharding(shapes, sharding.make_mesh()))


def save(
    run_dir: Path, state: TrainState, bundle: RunBundle, steps: tuple[int, ...] = (2,)
) -> None:
    store = CheckpointStore(run_dir, keep=2)
    for step in steps:
        store.save(step, state, {"batches": step, "pack": "abc"}, bundle)
    store.close()


def test_round_trip_is_exact(
    tmp_path: Path,
    policy: TinyPolicy,
    tx: optax.GradientTransformation,
    state: TrainState,
    bundle: RunBundle,
) -> None:
    save(tmp_path, state, bundle, steps=(2, 4, 6))
    store = CheckpointStore(tmp_path)
    assert store.steps() == [4, 6]
    restored = store.restore(6, abstract(policy, tx))
    assert leaves_equal(state, restored)
    assert jax.tree.structure(state) == jax.tree.structure(restored)
    found, data = store.read_bundle(6)
    assert data == {"batches": 6, "pack": "abc"}
    assert found.config == bundle.config
    assert found.spec == bundle.spec
    assert leaves_equal(
        dataclasses.asdict(found.stats["action"]), dataclasses.asdict(bundle.stats["action"])
    )
    np.testing.assert_array_equal(
        found.normalizer["action"].scale, bundle.normalizer["action"].scale
    )
    store.close()


def test_load_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: TrainState, bundle: RunBundle
) -> None:
    monkeypatch.setattr(checkpoint, "build_policy", build_tiny)
    save(tmp_path, state, bundle)
    averaged = load_run(tmp_path, expected_spec=tiny_spec())
    assert averaged.step == 2
    assert leaves_equal(averaged.params, state.ema)
    assert leaves_equal(load_run(tmp_path, use_ema=False).params, state.params)
    actions = averaged.policy.act(
        averaged.params, make_batch(5)["observation"], jax.random.PRNGKey(0)
    )
    assert actions.shape == (5, 4, 2)
    with pytest.raises(ValueError, match=r"no checkpoint of step 9; it has \[2\]"):
        load_run(tmp_path, step=9)
    other = dataclasses.replace(tiny_spec(), horizon=8)
    with pytest.raises(SpecMismatch, match="horizon: expected 8, found 4"):
        load_run(tmp_path, expected_spec=other)


def test_checkpoint_of_another_policy_names_the_path(
    tmp_path: Path, tx: optax.GradientTransformation, state: TrainState, bundle: RunBundle
) -> None:
    save(tmp_path, state, bundle)
    wider = TinyPolicy(TinyConfig(width=48), tiny_spec())
    store = CheckpointStore(tmp_path)
    message = r"hidden/bias is float32\[32\] in the file and float32\[48\] in this config"
    with pytest.raises(ValueError, match=message):
        store.restore(2, abstract(wider, tx))
    store.close()


def test_checkpoint_of_another_optimiser_names_the_path(
    tmp_path: Path, policy: TinyPolicy, state: TrainState, bundle: RunBundle
) -> None:
    save(tmp_path, state, bundle)
    store = CheckpointStore(tmp_path)
    with pytest.raises(ValueError, match="another policy or optimiser: opt_state/"):
        store.restore(2, abstract(policy, optax.sgd(0.1)))
    store.close()


def test_missing_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run at"):
        load_run(tmp_path / "absent")
    with pytest.raises(ValueError, match="has no checkpoints folder"):
        load_run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="no complete checkpoint yet"):
        load_run(tmp_path)


def test_an_incomplete_checkpoint_is_invisible(
    tmp_path: Path, state: TrainState, bundle: RunBundle
) -> None:
    save(tmp_path, state, bundle)
    unfinished: Any = tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp"
    unfinished.mkdir()
    store = CheckpointStore(tmp_path)
    assert store.latest_step() == 2
    # Orbax removes it in the background, at the latest before the next save.
    store.save(4, state, {"batches": 4}, bundle)
    store.close()
    assert not unfinished.exists()
    assert CheckpointStore(tmp_path, read_only=True).latest_step() == 4
