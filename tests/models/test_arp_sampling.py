"""Rules of drawing: temperature, top-k and top-p cut exactly what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.models.sampling import Sampling, categorical, truncated

# Probabilities .5, .25, .125, .125 in shuffled order.
LOGITS = jnp.log(jnp.asarray([0.125, 0.5, 0.125, 0.25]))


def kept(sampling: Sampling) -> list[int]:
    return np.flatnonzero(np.isfinite(truncated(LOGITS, sampling))).tolist()


def test_top_k_keeps_the_likeliest_and_their_ties() -> None:
    assert kept(Sampling(True, top_k=1)) == [1]
    assert kept(Sampling(True, top_k=2)) == [1, 3]
    assert kept(Sampling(True, top_k=3)) == [0, 1, 2, 3]  # the third and fourth are equal
    assert kept(Sampling(True, top_k=9)) == [0, 1, 2, 3]


def test_top_p_keeps_the_least_set_that_reaches_p() -> None:
    assert kept(Sampling(True, top_p=0.01)) == [1]
    assert kept(Sampling(True, top_p=0.5)) == [1]
    assert kept(Sampling(True, top_p=0.6)) == [1, 3]
    assert kept(Sampling(True, top_p=1.0)) == [0, 1, 2, 3]
    assert kept(Sampling(True, top_k=1, top_p=0.9)) == [1]


def test_draws_follow_the_rule() -> None:
    logits = jnp.broadcast_to(LOGITS, (20_000, 4))
    for sampling, expected in [
        (Sampling(True), [0.125, 0.5, 0.125, 0.25]),
        (Sampling(True, temperature=0.5), [1 / 22, 16 / 22, 1 / 22, 4 / 22]),
        (Sampling(True, top_k=2), [0, 2 / 3, 0, 1 / 3]),
        (Sampling(True, top_p=0.6), [0, 2 / 3, 0, 1 / 3]),
    ]:
        drawn = np.asarray(categorical(logits, jax.random.key(0), sampling))
        share = np.bincount(drawn, minlength=4) / len(drawn)
        np.testing.assert_allclose(share, expected, atol=0.015)
    assert int(categorical(LOGITS, None, Sampling())) == 1


def test_changed_numbers_are_not_traced_again() -> None:
    draw = jax.jit(lambda key, rule: categorical(LOGITS, key, rule))
    for temperature, top_k, top_p in [(1.0, 2, 0.9), (0.5, 3, 0.8), (2.0, 1, 0.1)]:
        draw(jax.random.key(0), Sampling(True, temperature, top_k=top_k, top_p=top_p))
    assert draw._cache_size() == 1


@pytest.mark.parametrize(
    "numbers",
    [{"temperature": 0.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"mixture": "x"}],
)
def test_bad_numbers_are_named(numbers: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(numbers))):
        Sampling(True, **numbers)
