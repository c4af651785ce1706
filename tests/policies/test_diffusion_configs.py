"""Every config of Diffusion Policy builds its policy, at its published size; shapes only."""

import jax
import numpy as np
import pytest

from arp_jax.training.optim import make_optimizer
from tests.policies.test_act_configs import resolved, shapes_of

# A ResNet-18 with group norm, its 1x1 convolution to 32 keypoints and its linear layer.
ENCODER = 11_176_512 + (512 * 32 + 32) + (64 * 64 + 64)
# Config -> (A, parameters of the network in millions, of the encoders).
CONFIGS = {
    "diffusion_push_t_state": (2, 4.55, 0),
    "diffusion_transfer_cube_state": (14, 4.50, 0),
    "diffusion_push_t_image": (2, 251.51, ENCODER),
    "diffusion_push_t_transformer": (2, 8.96, 0),
    "diffusion_aloha": (16, 68.19, 3 * ENCODER),
}


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", CONFIGS)
def test_config_builds(name):
    config = resolved(name)
    policy, batch, params = shapes_of(config)
    actions, net, encoders = CONFIGS[name]
    assert count(params["net"]) / 1e6 == pytest.approx(net, abs=0.01)
    assert count(params["encoders"]) == encoders
    jax.eval_shape(make_optimizer(config.optim, 1).init, params)  # groups name real parameters
    chunk = jax.eval_shape(policy.act, params, batch["observation"], jax.random.key(0))
    assert chunk.shape == (1, policy.spec.horizon, actions)
