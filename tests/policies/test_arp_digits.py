"""The digits policy: its size, that its likelihood is one, that it draws what it predicts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.policies.arp_digits import DigitsArpConfig, DigitsArpPolicy
from arp_jax.policies.base import build_policy
from arp_jax.specs import ActionSpec, FeatureSpec, ObservationSpec, PolicySpec

SMALL = DigitsArpConfig(layers=2, embed_dim=16, heads=2, dropout=0.0)


def spec(rows: int, columns: int, pixels: int, classes: int = 10, **changes) -> PolicySpec:
    feature = FeatureSpec("digit", ("class",), "1", "image", (0.0,), (classes - 1.0,))
    high = (rows - 1.0, columns - 1.0)
    action = ActionSpec(("row", "column"), "px", "image", (True, True), (0.0, 0.0), high, 1.0)
    whole = {"window": 1, "horizon": pixels, "action_offset": 0} | changes
    return PolicySpec(ObservationSpec((feature,)), action, **whole)


def perturbed(policy: DigitsArpPolicy) -> dict:
    """Parameters that make every token depend on class and past (fresh AdaLN layers do not)."""
    params = policy.init(jax.random.PRNGKey(0), {})
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.PRNGKey(1), len(leaves))
    noisy = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


def every_list(rows: int, columns: int, pixels: int) -> np.ndarray:
    """All pixel lists [(rows * columns)^pixels, pixels, 2], normalised."""
    grid = list(itertools.product(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns)))
    return np.array(list(itertools.product(grid, repeat=pixels)), np.float32)


def batch(action: np.ndarray, digit: int, classes: int = 10) -> dict:
    observed = np.full((len(action), 1, 1), 2 * digit / (classes - 1) - 1, np.float32)
    return {"observation": {"digit": observed}, "action": action}


@pytest.fixture(scope="module")
def tiny() -> tuple[DigitsArpPolicy, dict]:
    policy = DigitsArpPolicy(SMALL, spec(2, 3, pixels=2))
    return policy, perturbed(policy)


def test_the_published_size():
    policy = DigitsArpPolicy(DigitsArpConfig(), spec(28, 28, pixels=139))
    params = jax.eval_shape(lambda: policy.init(jax.random.PRNGKey(0), {}))
    sizes = {
        name: sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(tree))
        for name, tree in params.items()
    }
    assert sizes == {"transformer": 391_800, "class_table": 640}
    assert policy.schedule.length == 279


def test_likelihoods_of_all_lists_sum_to_one(tiny):
    policy, params = tiny
    lists = every_list(2, 3, pixels=2)
    log_prob = policy.log_prob(params, batch(lists, digit=3))
    assert {name: x.shape for name, x in log_prob.items()} == {"h": (36, 2), "w": (36, 2)}
    nats = -sum(x.sum(-1) for x in log_prob.values())
    np.testing.assert_allclose(np.exp(-nats).sum(), 1.0, rtol=1e-5)
    assert np.ptp(nats) > 0.5  # not simply uniform


def test_loss_is_the_mean_of_the_nats(tiny):
    policy, params = tiny
    some = batch(every_list(2, 3, pixels=2)[::5], digit=3)
    loss, metrics = policy.loss(params, some, jax.random.PRNGKey(0), train=False)
    nats = -sum(x.sum(-1) for x in policy.log_prob(params, some).values()).mean()
    np.testing.assert_allclose(metrics["nats_per_image"], nats, rtol=1e-5)
    np.testing.assert_allclose(loss, metrics["h.ce_loss"] + metrics["w.ce_loss"], rtol=1e-6)


def test_draws_follow_the_likelihood_of_their_class(tiny):
    policy, params = tiny
    lists, count = every_list(2, 3, pixels=2), 4000
    act = jax.jit(policy.act)
    shares = {}
    for digit in (0, 7):
        observation = batch(np.zeros((count, 2, 2), np.float32), digit)["observation"]
        drawn = np.asarray(act(params, observation, jax.random.PRNGKey(digit)))
        assert drawn.shape == (count, 2, 2)
        matches = np.isclose(drawn[:, None], lists[None], atol=1e-6).all((2, 3))  # [count, 36]
        assert (matches.sum(1) == 1).all()
        expected = np.exp(
            sum(x.sum(-1) for x in policy.log_prob(params, batch(lists, digit)).values())
        )
        shares[digit] = expected
        # Pearson's statistic has 35 degrees of freedom; 80 is passed once in 20,000 tries.
        assert (count * (matches.mean(0) - expected) ** 2 / expected).sum() < 80
    assert np.abs(shares[0] - shares[7]).sum() > 0.05


def test_a_token_depends_on_the_past_only(tiny):
    policy, params = tiny
    lists = every_list(2, 3, pixels=2)
    log_prob = policy.log_prob(params, batch(lists, digit=1))
    first = np.asarray(log_prob["h"][:, 0])
    np.testing.assert_allclose(first[:18], first[0], rtol=1e-5)  # the first row is 0 in these
    second = np.asarray(log_prob["w"][:, 0]).reshape(6, 6)  # [first pixel, second pixel]
    np.testing.assert_allclose(second, second[:, :1] * np.ones((1, 6)), rtol=1e-5)


def test_training_uses_dropout_and_has_a_gradient():
    policy = DigitsArpPolicy(DigitsArpConfig(layers=1, embed_dim=16, heads=2), spec(2, 3, 2))
    params, some = perturbed(policy), batch(every_list(2, 3, 2)[:8], digit=2)

    def loss(params, seed):
        return policy.loss(params, some, jax.random.PRNGKey(seed), train=True)[0]

    assert loss(params, 0) != loss(params, 1)
    gradient = jax.grad(loss)(params, 0)
    assert jnp.abs(gradient["class_table"][2]).max() > 0
    assert jnp.abs(gradient["class_table"][3]).max() == 0


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({"layer": 3}, {}, "policy.layer is no option of arp_digits"),
        ({"heads": 3}, {}, "policy.embed_dim 64 must be a multiple of policy.heads 3"),
        ({"layers": 0}, {}, "policy.layers must be at least 1"),
        ({"dropout": 1.0}, {}, r"policy.dropout must be in \[0, 1\)"),
        ({"temperature": 0.0}, {}, "policy.temperature must be positive"),
        ({"class_feature": "klass"}, {}, "no feature 'klass'"),
        ({}, {"window": 2}, "needs config.window 1 and config.action_offset 0, found 2 and 0"),
        ({}, {"action_offset": -1}, "config.action_offset 0, found 1 and -1"),
    ],
)
def test_bad_options_are_named(options, changes, message):
    with pytest.raises(ValueError, match=message):
        build_policy("arp_digits", {"name": "arp_digits", **options}, spec(8, 8, 27, **changes))


def test_bad_specs_are_named():
    good = spec(8, 8, 27)
    action = ActionSpec(("x",), "m", "world", (True,), (0.0,), (1.0,), 10.0)
    other = PolicySpec(good.observation, action, 1, 27, 0)
    with pytest.raises(ValueError, match=r"draws pixels \(row, column\) from 0"):
        DigitsArpPolicy(SMALL, other)
    feature = FeatureSpec("digit", ("class",), "1", "image")
    unlimited = PolicySpec(ObservationSpec((feature,)), good.action, 1, 27, 0)
    with pytest.raises(ValueError, match="'digit' must be one class number with limits"):
        DigitsArpPolicy(SMALL, unlimited)
