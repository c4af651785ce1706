"""Order of examples: golden permutations, exact counts a block, any position at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.data.order import MOST_BLOCK, BlockOrder, EpochOrder, block_counts, epoch_order


def test_order_is_fixed_forever():
    # Written down from numpy 2.4: a change would make old runs resume in another order.
    assert epoch_order(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert epoch_order(42, 7, 8).tolist() == [6, 7, 4, 5, 2, 0, 1, 3]


@pytest.mark.parametrize("start", [0, 3, 25, 1000])
def test_epochs_are_permutations(start):
    order = EpochOrder(seed=5, size=10)
    stream = np.arange(start * 10, (start + 2) * 10)
    epochs, examples = order.at(stream)
    assert epochs.tolist() == [start] * 10 + [start + 1] * 10
    assert sorted(examples[:10]) == sorted(examples[10:]) == list(range(10))
    assert examples[:10].tolist() != examples[10:].tolist()
    assert examples[:10].tolist() == epoch_order(5, start, 10).tolist()


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [
        ((1.0,), (1024,)),
        ((0.5, 0.5), (512, 512)),
        ((0.75, 0.25), (768, 256)),
        # 341.33 each: the one that is left over goes to the first of equal remainders.
        ((1 / 3, 1 / 3, 1 / 3), (342, 341, 341)),
        # 614.4, 102.4, 102.4, 204.8: sum of floors 1022; .8 first, then .4 of the first.
        ((0.6, 0.1, 0.1, 0.2), (615, 102, 102, 205)),
        # 1/1000 of 1024 is one example: the block grows until there are eight, 8192.
        ((0.999, 0.001), (8184, 8)),
    ],
)
def test_golden_block_counts(fractions, expected):
    assert block_counts(fractions).tolist() == list(expected)


@given(weights=st.lists(st.floats(1e-2, 1e2), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_counts_follow_the_fractions(weights):
    shares = np.array(weights) / sum(weights)
    counts = block_counts(shares.tolist())
    size = counts.sum()
    assert size & (size - 1) == 0
    assert np.abs(counts - shares * size).max() < 1 + 1e-6
    assert (counts > 0).all()


def test_a_member_that_would_never_come_is_refused():
    with pytest.raises(ValueError, match=f"member 1 .* less than one example in {MOST_BLOCK}"):
        block_counts([1 - 1e-8, 1e-8])


def test_golden_block():
    order = BlockOrder(seed=0, counts=[5, 3])
    assert epoch_order(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    members, positions = order.at(np.arange(8))
    # Pattern 0 0 0 0 0 1 1 1 read in that order; positions count each member's own examples.
    assert members.tolist() == [0, 0, 0, 1, 0, 0, 1, 1]
    assert positions.tolist() == [0, 1, 2, 0, 3, 4, 1, 2]


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    seed=st.integers(0, 2**63 - 1),
    blocks=st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_every_member_streams_without_gaps(counts, seed, blocks):
    order, size = BlockOrder(seed, counts), sum(counts)
    members, positions = order.at(np.arange(blocks * size))
    for index, count in enumerate(counts):
        own = positions[members == index]
        assert own.tolist() == list(range(blocks * count))
    for block in range(blocks):
        found = members[block * size : (block + 1) * size]
        assert np.bincount(found, minlength=len(counts)).tolist() == counts
    # Any position alone, by an order that saw none before it.
    for k in {0, size - 1, blocks * size - 1}:
        alone = BlockOrder(seed, counts).at(np.array([k]))
        assert (alone[0][0], alone[1][0]) == (members[k], positions[k])


def test_far_positions_cost_no_more():
    far = np.array([10**15])
    members, positions = BlockOrder(1, [3, 1]).at(far)
    assert positions[0] // 3 == 10**15 // 4 if members[0] == 0 else positions[0] == 10**15 // 4
