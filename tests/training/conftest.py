"""Fixtures of the training tests: a tiny policy, its batches, fast compilation."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from arp_jax.training.optim import OptimConfig, make_optimizer
from tests.training.tiny_policy import TinyConfig, TinyPolicy, tiny_spec

TRAIN_TINY = Path(__file__).with_name("train_tiny.py")


@pytest.fixture
def policy() -> TinyPolicy:
    return TinyPolicy(TinyConfig(dropout=0.0), tiny_spec())


@pytest.fixture
def tx() -> optax.GradientTransformation:
    config = OptimConfig(learning_rate=1e-2, schedule="constant", warmup_steps=0, clip_norm=1.0)
    return make_optimizer(config, total_steps=10)


def make_batch(size: int, seed: int = 0) -> dict[str, Any]:
    """A batch of noise with the shapes of `tiny_spec`."""
    rng = np.random.default_rng(seed)
    return {
        "observation": {
            "agent_pos": rng.normal(size=(size, 2, 2)).astype(np.float32),
            "block_pose": rng.normal(size=(size, 2, 3)).astype(np.float32),
        },
        "action": rng.normal(size=(size, 4, 2)).astype(np.float32),
        "action_is_pad": np.zeros((size, 4), bool),
    }


def leaves_equal(left: Any, right: Any) -> bool:
    """Whether two trees hold the same bits."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)
