"""Heads: densities that integrate, draws that follow them, low variance, batch statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.heads import ClassHead, GaussianHead, Sampling, gaussian_nll
from arp_jax.models.heatmap_head import ExplicitBatchNorm, HeatmapHead, updated_statistics
from arp_jax.models.tokens import TokenType

DRAWS = 4000


def gaussian_head(components: int, low_variance: bool, dim: int = 1) -> GaussianHead:
    options = {"num_latents": components, "low_var_eval": low_variance}
    token = TokenType(
        "y",
        dim=dim,
        is_continuous=True,
        embedding="linear",
        predictor="gmm",
        predictor_options=options,
    )
    return GaussianHead(token, 4)


@pytest.mark.parametrize("components", [1, 3])
def test_gaussian_density_integrates_to_one(components: int) -> None:
    head = gaussian_head(components, False)
    width = 2 if components == 1 else 9
    raw = jax.random.normal(jax.random.key(components), (1, 1, width))
    grid = jnp.linspace(-30, 30, 20001)
    rows = jnp.broadcast_to(raw, (1, 20001, width))
    density = np.exp(jax.jit(head.log_prob)(rows, grid[None, :, None]))
    assert float(density.sum() * (grid[1] - grid[0])) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_draws_have_the_predicted_moments(components: int, temperature: float) -> None:
    head = gaussian_head(components, False)
    width = 2 if components == 1 else 9
    raw = jax.random.normal(jax.random.key(7), (1, 1, width))
    raw = jnp.broadcast_to(raw, (1, DRAWS, width))

    @jax.jit
    def run(raw: jax.Array) -> tuple[jax.Array, ...]:
        drawn = head.pick(raw, jax.random.key(0), Sampling(True, temperature))
        warm = head.pick(raw, jax.random.key(0), Sampling(True))
        likelihoods = head.log_prob(raw, drawn).mean(), head.log_prob(raw, warm).mean()
        return drawn, *head.mean_and_std(raw), *likelihoods

    drawn, mean, std, likelihood, warm_likelihood = (np.asarray(x) for x in run(raw))
    if components == 1 or temperature == 1.0:
        assert drawn.mean() == pytest.approx(mean[0, 0, 0], abs=0.1)
        assert drawn.std() == pytest.approx(std[0, 0, 0] * np.sqrt(temperature), rel=0.1)
    else:  # colder: likelier on average than at temperature 1
        assert likelihood > warm_likelihood


def test_low_variance_mixture_returns_a_component_mean_even_zero() -> None:
    head = gaussian_head(2, True)
    raw = jnp.asarray([[[0.0, 0.0, 0.0, 5.0, 2.0, 2.0]]])  # means 0 and 5, large variances
    raw = jnp.broadcast_to(raw, (1, 200, 6))
    pick = jax.jit(lambda raw: head.pick(raw, jax.random.key(0), Sampling(True)))
    drawn = np.asarray(pick(raw))[0, :, 0]
    assert np.isfinite(drawn).all()
    nearest = np.minimum(np.abs(drawn), np.abs(drawn - 5.0))
    assert nearest.max() < 1e-3
    assert 50 < (drawn > 2.5).sum() < 150
    density = jax.jit(lambda raw: head.log_prob(raw, jnp.zeros((1, 200, 1)), True))(raw)
    assert np.isfinite(np.asarray(density)).all()


def test_mixture_mean_and_mode() -> None:
    head = gaussian_head(2, True)
    raw = jnp.asarray([[[0.0, np.log(3.0), 0.0, 4.0, 0.0, 0.0]]])
    assert float(head.pick(raw, None, Sampling())[0, 0, 0]) == pytest.approx(3.0)
    assert float(head.pick(raw, None, Sampling(mixture="mode"))[0, 0, 0]) == pytest.approx(4.0)


def test_variance_floor_is_straight_through() -> None:
    loss = lambda variance: gaussian_nll(jnp.zeros(()), variance, jnp.asarray(1e-3))  # noqa: E731
    assert float(loss(1e-9)) == pytest.approx(0.5 * (np.log(1e-6) + 1.0))
    assert float(jax.grad(loss)(1e-9)) == float(jax.grad(loss)(1e-6))


def test_class_draws_follow_the_logits() -> None:
    head = ClassHead(TokenType("c", dim=2, dict_sizes=(3, 2)))
    shares = np.array([0.6, 0.3, 0.1, 0.8, 0.2], np.float32)
    raw = jnp.broadcast_to(jnp.log(shares), (1, DRAWS, 5))
    pick = jax.jit(lambda raw: head.pick(raw, jax.random.key(0), Sampling(True)))
    drawn = np.asarray(pick(raw))[0]
    np.testing.assert_allclose(np.bincount(drawn[:, 0].astype(int)) / DRAWS, shares[:3], atol=0.04)
    np.testing.assert_allclose(np.bincount(drawn[:, 1].astype(int)) / DRAWS, shares[3:], atol=0.04)
    both = jnp.asarray([[[0, 1]]])
    assert float(head.log_prob(raw[:, :1], both)[0, 0]) == pytest.approx(np.log(0.12), rel=1e-4)
    padded = head.padded(raw[:, :1])
    assert padded.shape == (1, 1, 2, 3)
    assert float(padded[0, 0, 1, 2]) == -np.inf


@pytest.mark.parametrize("order", ["xy", "hw"])
def test_heatmap_pick_and_label_agree(order: str) -> None:
    token = TokenType(
        "p",
        dim=2,
        dict_sizes=(8, 6),
        embedding="zero",
        predictor="upsample_from_2d_attn",
        predictor_options={"attn_with": (4, 3, 4), "token_format": order},
    )
    head = HeatmapHead(token, 4)
    raw = jnp.zeros((1, 1, 6, 8)).at[0, 0, 2, 5].set(30.0)
    value = head.pick(raw, None, Sampling())
    assert value[0, 0].tolist() == ([5.0, 2.0] if order == "xy" else [2.0, 5.0])
    assert float(head.log_prob(raw, value)[0, 0]) == pytest.approx(0.0, abs=1e-5)
    soft = jnp.zeros((1, 6, 8)).at[0, 2, 5].set(1.0)
    assert float(head.log_prob(raw, soft)[0, 0]) == pytest.approx(0.0, abs=1e-5)
    with pytest.raises(ValueError, match="heat-map label has shape"):
        head.log_prob(raw, jnp.zeros((1, 5, 5)))


def test_batch_statistics_are_results_and_ignore_invalid_rows() -> None:
    norm = ExplicitBatchNorm(2)
    x = np.random.default_rng(0).normal(3.0, 2.0, (4, 2, 3, 2)).astype(np.float32)
    params = {"params": {"scale": np.ones(2, np.float32), "bias": np.zeros(2, np.float32)}}
    apply = jax.jit(norm.apply)
    y, found = apply(params, x, None, jnp.asarray([1.0, 1.0, 0.0, 1.0]))
    kept = x[[0, 1, 3]].reshape(-1, 2)
    np.testing.assert_allclose(found["mean"], kept.mean(0), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(y)[[0, 1, 3]].std((0, 1, 2)), 1.0, rtol=1e-3)
    running = {"mean": np.zeros(2, np.float32), "var": np.ones(2, np.float32)}
    after = updated_statistics({"norm_0": running}, {"norm_0": found})["norm_0"]
    np.testing.assert_allclose(after["mean"], 0.1 * kept.mean(0), rtol=1e-5)
    np.testing.assert_allclose(after["var"], 0.9 + 0.1 * kept.var(0, ddof=1), rtol=1e-5)
    fixed, _ = apply(params, x, running, jnp.ones(4))
    np.testing.assert_allclose(fixed, x / np.sqrt(1 + 1e-5), rtol=1e-5)
