"""Open-loop errors are in physical units, per horizon step and dimension, without padding."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.evaluation.open_loop import open_loop_errors
from arp_jax.normalize import Affine
from arp_jax.specs import ActionSpec, FeatureSpec, ObservationSpec, PolicySpec

SPEC = PolicySpec(
    ObservationSpec(features=(FeatureSpec("state", ("s",), "m", "world"),)),
    ActionSpec(("x", "y"), "px", "world", (True,) * 2, (0.0,) * 2, (512.0,) * 2, 10.0),
    window=1,
    horizon=3,
)
NORMALIZER = {"action": Affine(np.float32([100, 200]), np.float32([10, 20]))}


@dataclasses.dataclass(frozen=True)
class Zero:
    spec: PolicySpec = SPEC

    def act(self, params, observation, rng):
        return jnp.zeros((len(observation["state"]), 3, 2))


def batch(action, pad):
    return {
        "observation": {"state": np.zeros((len(action), 1, 1), np.float32)},
        "action": np.float32(action),
        "action_is_pad": np.array(pad),
    }


def test_errors_by_hand():
    # Normalised actions; predicted 0 means (100, 200) px. Second example ends after one action.
    first = batch([[[1, 0], [2, 0], [0, 1]]], [[False, False, False]])
    second = batch([[[-3, 0], [9, 9], [9, 9]]], [[False, True, True]])
    errors = open_loop_errors(Zero(), {}, NORMALIZER, [first, second])
    np.testing.assert_array_equal(errors.count, [2, 1, 1])
    np.testing.assert_allclose(errors.mean_absolute, [[20, 0], [20, 0], [0, 20]])
    np.testing.assert_allclose(errors.bias, [[10, 0], [-20, 0], [0, -20]])
    np.testing.assert_allclose(errors.root_mean_square[0, 0], np.sqrt((10**2 + 30**2) / 2))
    recorded_x = np.array([110.0, 120, 100, 70])
    np.testing.assert_allclose(errors.recorded_spread[0], recorded_x.std())
    assert "x px" in errors.describe()
    assert errors.to_json()["count"] == [2, 1, 1]


def test_no_batches_are_refused():
    with pytest.raises(ValueError, match="no batch"):
        open_loop_errors(Zero(), {}, NORMALIZER, [])
