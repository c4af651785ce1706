"""Draws, goals and instructions: golden tables by hand, every choice reachable, no state."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.data import draws
from arp_jax.data.goals import GOALS, goal_steps
from arp_jax.data.language import EpisodeInstructions

EXTREME = np.array([0, 2**64 - 1], np.uint64)


def test_splitmix64_gives_the_published_sequence():
    # The generator's state advances by the golden gamma; first outputs for the seed 1234567.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + k * gamma) % 2**64 for k in range(5)], np.uint64)
    assert draws.splitmix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_bits_depend_on_every_word():
    base = (5, draws.GOAL, np.array([2]), np.array([7]))
    seen = {int(draws.draw_bits(*base)[0])}
    for position, other in enumerate((6, draws.LANGUAGE, np.array([3]), np.array([8]))):
        words = list(base)
        words[position] = other
        seen.add(int(draws.draw_bits(*words)[0]))
    assert len(seen) == 5


def test_golden_choice():
    # The upper 32 bits as a fraction of 2^32, times the count, rounded down.
    bits = np.array([0, 2**62, 2**63 - 1, 2**63, 3 * 2**62, 2**64 - 1], np.uint64)
    count = np.full(6, 4)
    assert draws.draw_below(bits, count).tolist() == [0, 1, 1, 2, 3, 3]
    assert draws.draw_below(bits, np.full(6, 2)).tolist() == [0, 0, 0, 1, 1, 1]
    assert draws.draw_below(bits, np.ones(6, int)).tolist() == [0] * 6


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000, 2**32 - 1])
def test_first_and_last_choice_can_come(count):
    """Octo's sample_match_keys_uniform excludes len - 1: the last key is never drawn."""
    assert draws.draw_below(EXTREME, np.full(2, count)).tolist() == [0, count - 1]


def test_chance_is_exact_at_its_ends():
    assert draws.draw_chance(EXTREME, 0.0).tolist() == [False, False]
    assert draws.draw_chance(EXTREME, 1.0).tolist() == [True, True]
    bits = draws.draw_bits(0, draws.LANGUAGE, 0, np.arange(20_000))
    assert abs(draws.draw_chance(bits, 0.3).mean() - 0.3) < 4 * np.sqrt(0.21 / 20_000)


# Absolute steps 10 .. 14 are one episode of five examples.
CURRENT, LAST, IDS = np.arange(10, 15), np.full(5, 14), np.arange(5)


def test_golden_hindsight():
    goals = goal_steps("hindsight", CURRENT, LAST, 0, np.zeros(5), IDS)
    assert goals.tolist() == [14, 14, 14, 14, 14]


def test_golden_uniform_from_given_bits(monkeypatch):
    # Bits of a quarter, a half, nearly one, zero: choices among 4, 3, 2, 1 and no later steps.
    bits = np.array([2**62, 2**63, 2**64 - 1, 0, 2**64 - 1], np.uint64)
    monkeypatch.setattr(draws, "draw_bits", lambda *_: bits)
    goals = goal_steps("uniform", CURRENT, LAST, 0, np.zeros(5), IDS)
    assert goals.tolist() == [12, 13, 14, 14, 14]


def test_goals_are_fixed_forever():
    # Written down once: a change would make old runs resume with other goals.
    current, last, ids = np.arange(10, 20), np.full(10, 19), np.arange(10)
    first = goal_steps("uniform", current, last, 0, np.zeros(10), ids).tolist()
    later = goal_steps("uniform", current, last, 0, np.full(10, 3), ids).tolist()
    assert first == [18, 12, 18, 18, 18, 18, 17, 19, 19, 19]
    assert later == [17, 19, 13, 19, 18, 19, 19, 19, 19, 19]


@given(length=st.integers(1, 9), seed=st.integers(0, 2**63 - 1), kind=st.sampled_from(GOALS))
@settings(max_examples=40, deadline=None)
def test_goals_are_later_steps_of_the_same_episode(length, seed, kind):
    current, last = np.arange(100, 100 + length), np.full(length, 99 + length)
    goals = goal_steps(kind, current, last, seed, np.zeros(length), np.arange(length))
    assert (goals <= last).all()
    assert (goals[:-1] > current[:-1]).all()
    assert goals[-1] == last[-1]


def test_uniform_goals_are_uniform():
    n = 30_000
    current, last = np.full(n, 5), np.full(n, 9)
    goals = goal_steps("uniform", current, last, 1, np.zeros(n), np.arange(n))
    counts = np.bincount(goals, minlength=10)
    assert counts[:6].sum() == 0
    assert np.abs(counts[6:] / n - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / n)


def test_unknown_goal_names_the_choices():
    with pytest.raises(ValueError, match=r"goal 'far' is unknown; choose one of .*hindsight"):
        goal_steps("far", CURRENT, LAST, 0, IDS, IDS)


# Episode 0 has instructions 4 and 2, episode 1 none, episode 2 only 7, episode 3 none.
TABLE = EpisodeInstructions([(4, 2), (), (7,), ()])


def test_golden_instructions_from_given_bits(monkeypatch):
    bits = np.array([0, 2**63 - 1, 2**63, 2**64 - 1, 2**63, 2**64 - 1, 0], np.uint64)
    monkeypatch.setattr(draws, "draw_bits", lambda *_: bits)
    chosen = TABLE.choose(np.array([0, 0, 0, 0, 1, 2, 3]), 0, np.zeros(7), np.arange(7))
    assert chosen.tolist() == [4, 4, 2, 2, -1, 7, -1]
    assert chosen.dtype == np.int32


def test_instructions_are_fixed_forever():
    episodes = np.zeros(12, int)
    chosen = TABLE.choose(episodes, 3, np.zeros(12), np.arange(12), dropout=0.25)
    assert chosen.tolist() == [2, 2, 4, 2, 4, -1, 4, -1, 2, 2, 4, 2]


def test_every_alternative_and_the_dropout_have_their_share():
    n = 30_000
    chosen = TABLE.choose(np.zeros(n, int), 0, np.zeros(n), np.arange(n), dropout=0.2)
    shares = [(chosen == value).mean() for value in (4, 2, -1)]
    assert np.abs(np.array(shares) - [0.4, 0.4, 0.2]).max() < 0.012
    assert (TABLE.choose(np.zeros(n, int), 0, np.zeros(n), np.arange(n), 1.0) == -1).all()


def test_a_draw_does_not_depend_on_its_neighbors():
    episodes, epochs, ids = np.array([0, 2, 0, 0]), np.array([0, 0, 1, 2]), np.array([9, 3, 9, 5])
    together = TABLE.choose(episodes, 8, epochs, ids, 0.5)
    alone = [TABLE.choose(episodes[[i]], 8, epochs[[i]], ids[[i]], 0.5)[0] for i in range(4)]
    assert together.tolist() == alone
