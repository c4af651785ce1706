"""Pictures against gym-pusht's, and against what must be seen."""

import jax
import numpy as np
import pytest

from arp_jax.sim.push_t import geometry
from arp_jax.sim.push_t.raster import render


def test_colors_are_where_the_bodies_are():
    image = np.asarray(render([100.0, 400.0], [256.0, 128.0, 0.0]))
    assert image.shape == (96, 96, 3)
    assert image.dtype == np.uint8
    scale = 96 / geometry.WORLD_SIZE

    def pixel(x, y):
        return tuple(image[int(y * scale), int(x * scale)])

    assert pixel(100, 400) == (78, 126, 255)  # the agent's lighter inside
    assert pixel(256, 143) == (142, 163, 183)  # bar
    assert pixel(256, 230) == (142, 163, 183)  # stem
    assert pixel(240, 270) == (144, 238, 144)  # goal
    assert pixel(450, 450) == (255, 255, 255)


def test_batches_and_vmap_agree():
    rng = np.random.default_rng(0)
    agent, block = rng.uniform(50, 450, (4, 2)), rng.uniform(100, 400, (4, 3))
    batched = np.asarray(render(agent, block))
    assert batched.shape == (4, 96, 96, 3)
    mapped = np.asarray(jax.vmap(render)(np.float32(agent), np.float32(block)))
    assert np.abs(batched.astype(int) - mapped).mean() < 0.01


def test_mean_error_against_gym_pusht_is_below_half_a_level():
    gymnasium = pytest.importorskip("gymnasium")
    pytest.importorskip("gym_pusht")
    env = gymnasium.make("gym_pusht/PushT-v0", obs_type="pixels").unwrapped
    errors = []
    for seed in range(20):
        expected, info = env.reset(seed=seed)
        found = np.asarray(render(info["pos_agent"], info["block_pose"]))
        errors.append(np.abs(expected.astype(int) - found).mean())
    assert np.max(errors) < 0.5, errors
