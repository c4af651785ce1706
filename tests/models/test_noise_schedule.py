"""Noise schedules and sampling against the vectors of diffusers (`golden/act/sched.npz`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.noise_schedule import (
    PREDICTIONS,
    NoiseSchedule,
    ddim_steps,
    ddpm_variance,
    sample_ddim,
    sample_ddpm,
)
from tests.golden_files import GoldenCheck, golden_paths, load_golden

SCHEDULES = [path for path in golden_paths("act") if "out/ddim50_betas" in load_golden(path)]


def given(predictions):
    """A network that says the i-th prediction at its i-th call, found by its level."""

    def predict(table):
        return lambda noisy, level: jnp.asarray(predictions)[table[level]]

    return predict


@pytest.mark.golden
@pytest.mark.parametrize("path", SCHEDULES, ids=lambda p: p.stem)
def test_tables_noise_and_traces(path, capsys):
    golden, check = load_golden(path), GoldenCheck(path.stem, tolerance=1e-6)
    ddim, ddpm = NoiseSchedule(50), NoiseSchedule(100)
    for name, schedule in (("ddim50", ddim), ("ddpm100", ddpm)):
        check.compare(f"{name}_betas", schedule.betas, golden[f"out/{name}_betas"])
        check.compare(f"{name}_alphas", schedule.alphas, golden[f"out/{name}_alphas_cumprod"])
        levels = golden["in/t_add"] * (schedule.steps // 50)
        noisy = schedule.add_noise(golden["in/x0"], golden["in/eps"], levels)
        check.compare(f"{name}_add_noise", noisy, golden[f"out/{name}_add_noise"])
    for count in (10, 16):
        check.compare(
            f"steps_{count}", ddim_steps(50, count), golden[f"out/ddim50_timesteps_{count}"]
        )
    check.compare("variance", ddpm_variance(ddpm), golden["out/ddpm100_variance"])

    calls = np.zeros(50, np.int32)
    calls[ddim_steps(50, 10)] = np.arange(10)
    predict = given(golden["in/ddim_preds"])(jnp.asarray(calls))
    sample = jax.jit(lambda start: sample_ddim(ddim, predict, start, 10))(golden["in/ddim_x"])
    check.compare("ddim", sample, golden["out/ddim50_trace"][-1])
    calls = jnp.arange(100)[::-1]
    predict = given(golden["in/ddpm_preds"])(calls)
    noises = golden["in/ddpm_noise"]
    sample = jax.jit(lambda start: sample_ddpm(ddpm, predict, start, noises))(golden["in/ddpm_x"])
    check.compare("ddpm", sample, golden["out/ddpm100_trace"][-1])
    check.finish(capsys)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_target_is_what_splits_the_noisy_chunk_again(prediction):
    schedule = NoiseSchedule(50, prediction, clip=0.0)
    rng = np.random.default_rng(0)
    clean, noise = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)
    for level in (0, 20, 45):
        steps = np.full(4, level)
        noisy = schedule.add_noise(clean, noise, steps)
        target = schedule.target(clean, noise, steps)
        found = schedule.clean_and_noise(noisy, target, schedule.alphas[level])
        np.testing.assert_allclose(found[0], clean, atol=2e-4)
        np.testing.assert_allclose(found[1], noise, atol=2e-3)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_network_recovers_the_chunk(prediction):
    schedule = NoiseSchedule(20, prediction)
    clean = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 8, 3)).astype(np.float32)
    alphas = jnp.asarray(schedule.alphas)

    def predict(noisy, level):
        alpha = alphas[level]
        noise = (noisy - jnp.sqrt(alpha) * clean) / jnp.sqrt(1 - alpha)
        return schedule.target(clean, noise, jnp.full(2, level))

    start = jax.random.normal(jax.random.key(0), clean.shape)
    np.testing.assert_allclose(sample_ddim(schedule, predict, start, 5), clean, atol=1e-4)
    noises = jax.random.normal(jax.random.key(1), (20, *clean.shape))
    np.testing.assert_allclose(sample_ddpm(schedule, predict, start, noises), clean, atol=1e-4)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"prediction 'noise' is unknown"):
        NoiseSchedule(50, "noise")
    with pytest.raises(ValueError, match=r"inference steps must be in 1 \.\. 50, found 51"):
        ddim_steps(50, 51)
