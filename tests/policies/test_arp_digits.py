"""The digits policy: its size, that its likelihood is one, that it draws what it predicts."""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from arp_jax.policies.arp_digits import DigitsArpConfig, DigitsArpPolicy
from arp_jax.policies.base import build_policy
from arp_jax.specs import ActionSpec, FeatureSpec, ObservationSpec, PolicySpec

SMALL = DigitsArpConfig(layers=1, embed_dim=16, heads=2, dropout=0.0)


def spec(rows: int, columns: int, pixels: int, classes: int = 10, **changes) -> PolicySpec:
    feature = FeatureSpec("digit", ("class",), "1", "image", (0.0,), (classes - 1.0,))
    high = (rows - 1.0, columns - 1.0)
    action = ActionSpec(("row", "column"), "px", "image", (True, True), (0.0, 0.0), high, 1.0)
    whole = {"window": 1, "horizon": pixels, "action_offset": 0} | changes
    return PolicySpec(ObservationSpec((feature,)), action, **whole)


def perturbed(policy: DigitsArpPolicy) -> dict:
    """Parameters that make every token depend on class and past (fresh AdaLN layers do not)."""

    @jax.jit
    def make(rng):
        flat, unravel = ravel_pytree(policy.init(rng, {}))
        return unravel(flat + 0.1 * jax.random.normal(jax.random.fold_in(rng, 1), flat.shape))

    return make(jax.random.PRNGKey(0))


def every_list(rows: int, columns: int, pixels: int) -> np.ndarray:
    """All pixel lists [(rows * columns)^pixels, pixels, 2], normalised."""
    grid = list(itertools.product(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns)))
    return np.array(list(itertools.product(grid, repeat=pixels)), np.float32)


def batch(action: np.ndarray, digit: int, classes: int = 10) -> dict:
    observed = np.full((len(action), 1, 1), 2 * digit / (classes - 1) - 1, np.float32)
    return {"observation": {"digit": observed}, "action": action}


@pytest.fixture(scope="module")
def tiny() -> tuple[DigitsArpPolicy, dict, Callable[[np.ndarray, int], dict]]:
    """A policy, parameters, and the likelihood of pixel lists of a class as one program."""
    policy = DigitsArpPolicy(SMALL, spec(2, 3, pixels=2))
    params, program = perturbed(policy), jax.jit(policy.log_prob)

    def log_prob(lists: np.ndarray, digit: int) -> dict:
        return {name: np.asarray(x) for name, x in program(params, batch(lists, digit)).items()}

    return policy, params, log_prob


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
    _, _, log_prob = tiny
    log_prob = log_prob(every_list(2, 3, pixels=2), 3)
    assert {name: x.shape for name, x in log_prob.items()} == {"h": (36, 2), "w": (36, 2)}
    nats = -sum(x.sum(-1) for x in log_prob.values())
    np.testing.assert_allclose(np.exp(-nats).sum(), 1.0, rtol=1e-5)
    assert np.ptp(nats) > 0.5  # not simply uniform


def test_loss_is_the_mean_of_the_nats(tiny):
    policy, params, log_prob = tiny
    lists = every_list(2, 3, pixels=2)
    evaluate = jax.jit(functools.partial(policy.loss, train=False))
    loss, metrics = evaluate(params, batch(lists, digit=3), jax.random.PRNGKey(0))
    nats = -sum(x.sum(-1) for x in log_prob(lists, 3).values()).mean()
    np.testing.assert_allclose(metrics["nats_per_image"], nats, rtol=1e-5)
    np.testing.assert_allclose(loss, metrics["h.ce_loss"] + metrics["w.ce_loss"], rtol=1e-6)


def test_draws_follow_the_likelihood_of_their_class(tiny):
    policy, params, log_prob = tiny
    lists, count = every_list(2, 3, pixels=2), 4000
    act = jax.jit(policy.act)
    shares = {}
    for digit in (0, 7):
        observation = batch(np.zeros((count, 2, 2), np.float32), digit)["observation"]
        drawn = np.asarray(act(params, observation, jax.random.PRNGKey(digit)))
        assert drawn.shape == (count, 2, 2)
        matches = np.isclose(drawn[:, None], lists[None], atol=1e-6).all((2, 3))  # [count, 36]
        assert (matches.sum(1) == 1).all()
        shares[digit] = np.exp(sum(x.sum(-1) for x in log_prob(lists, digit).values()))
        # Pearson's statistic has 35 degrees of freedom; 80 is passed once in 20,000 tries.
        statistic = count * (matches.mean(0) - shares[digit]) ** 2 / shares[digit]
        assert statistic.sum() < 80
    assert np.abs(shares[0] - shares[7]).sum() > 0.05


def test_a_token_depends_on_the_past_only(tiny):
    _, _, log_prob = tiny
    found = log_prob(every_list(2, 3, pixels=2), 1)
    # Lists in order: first row (2), first column (3), second pixel (6).
    row = found["h"][:, 0].reshape(2, 3, 6)
    column = found["w"][:, 0].reshape(2, 3, 6)
    np.testing.assert_allclose(row, np.broadcast_to(row[:, :1, :1], row.shape), rtol=1e-5)
    np.testing.assert_allclose(column, np.broadcast_to(column[..., :1], column.shape), rtol=1e-5)
    assert np.ptp(column[:, 0, 0]) > 1e-3  # the column does depend on the row


def test_training_uses_dropout_and_has_a_gradient():
    policy = DigitsArpPolicy(DigitsArpConfig(layers=1, embed_dim=16, heads=2), spec(2, 3, 2))
    params, some = perturbed(policy), batch(every_list(2, 3, 2)[:8], digit=2)

    @jax.jit
    def loss_and_gradient(params, rng):
        return jax.value_and_grad(lambda p: policy.loss(p, some, rng, train=True)[0])(params)

    (one, gradient), (two, _) = (loss_and_gradient(params, jax.random.PRNGKey(k)) for k in (0, 1))
    assert one != two
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
