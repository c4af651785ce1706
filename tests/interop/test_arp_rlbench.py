"""RLBench parameters go to PyTorch's names and back, bit for bit; what does not fit is named."""

import jax
import numpy as np
import pytest

from arp_jax.interop.arp_rlbench import convert_rlbench, rlbench_to_torch
from arp_jax.policies.arp_rlbench import RlbenchArpPolicy, rlbench_spec
from tests.policies.test_arp_rlbench import SMALL, random_params


@pytest.fixture(scope="module")
def small():
    """(policy, parameters, state dict)"""
    policy = RlbenchArpPolicy(SMALL, rlbench_spec())
    params = jax.tree.map(np.asarray, random_params(policy))
    return policy, params, rlbench_to_torch(params, policy)


def test_there_and_back(small):
    policy, params, state = small
    found, report = convert_rlbench(state, policy)
    report.raise_if_incomplete("small")
    assert len(report.used) + len(report.ignored) == len(state)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_and_layouts(small):
    _, params, state = small
    assert state["mvt1.pos_encoding"].shape == (1, 12, 16)
    assert state["mvt2.patchify.conv2d.weight"].shape == (8, 10, 14, 14)
    assert state["mvt1.layers.1.0.fn.to_kv.weight"].shape == (32, 16)
    assert state["mvt1.layers.1.1.fn.net.0.weight"].shape == (128, 16)
    # Row 3, column 5, channel 2 of a patch, feature 4.
    kernel = params["coarse"]["embed_patch"]["linear"]["kernel"]
    at = (3 * 14 + 5) * 10 + 2
    assert state["mvt1.patchify.conv2d.weight"][4, 2, 3, 5] == kernel[at, 4]
    query = params["fine"]["across_views"]["query"]["kernel"]
    np.testing.assert_array_equal(state["mvt2.layers.1.0.fn.to_q.weight"], query[0].T)


def test_what_does_not_fit_is_named(small):
    policy, _, state = small
    broken = dict(state, surplus=np.zeros(1))
    broken["mvt1.fc_bef_attn.linear.bias"] = np.zeros(3)
    del broken["mvt2.pos_encoding"], broken["policy.pos_emb.weight"]
    _, report = convert_rlbench(broken, policy)
    assert report.unused == ["surplus"]
    assert set(report.missing) == {"mvt2.pos_encoding", "policy.pos_emb.weight"}
    assert [name for name, *_ in report.misshaped] == ["mvt1.fc_bef_attn.linear.bias"]
    with pytest.raises(ValueError, match=r"small\.pth: .* missing 2"):
        report.raise_if_incomplete("small.pth")
