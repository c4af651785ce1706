"""Every ACT config builds its policy: shapes only, no arithmetic but one tiny forward pass."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.evaluation.config_policy import policy_of_config
from arp_jax.policies.act import ActPolicy
from arp_jax.training.optim import make_optimizer, path_name
from arp_jax.training.run_config import RunConfig
from arp_jax.training.state import example_batch
from tests.golden_files import FAST_COMPILE

# "config" or "config:variant" -> A.
CONFIGS = {
    **{"act_push_t_state": 2, "act_transfer_cube_state": 14},
    **{"act_aloha": 14, "act_aloha:published": 14},
    **{"act_aloha:mobile": 16, "act_aloha:mobile_published": 16},
    **{"act_cotrain_wipe_wine": 16, "act_cotrain_wipe_wine:alone": 16},
    **{"act_cotrain_cabinet": 16, "act_cotrain_cabinet:alone": 16},
}


def resolved(config, **policy):
    name, _, variant = config.partition(":")
    config = importlib.import_module(f"configs.{name}").get_config(*([variant] if variant else []))
    with config.unlocked():
        config.policy.update(policy)
    return RunConfig.resolve(config.to_dict())


def shapes_of(config):
    policy = policy_of_config(config.plain)
    batch = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, example_batch(policy.spec)))
    return policy, batch, jax.eval_shape(policy.init, jax.random.key(0), batch)


@pytest.mark.parametrize("name", CONFIGS)
def test_config_builds(name):
    config = resolved(name)
    policy, batch, params = shapes_of(config)
    jax.eval_shape(make_optimizer(config.optim, 1).init, params)  # groups name real parameters
    chunk = jax.eval_shape(policy.act, params, batch["observation"], jax.random.key(0))
    assert chunk.shape == (1, policy.spec.horizon, CONFIGS[name])
    if "cotrain" in name:
        mix = config.data.mix
        assert mix.stats == (mix.members[0][0],)
        assert config.data.held_out_fraction == pytest.approx(0.1 if "wine" in name else 0.01)
        static = any(member == "aloha_compressed_dataset" for member, _ in mix.members)
        assert static == (not name.endswith("alone"))


def test_published_size():
    """83.92 M, of which 11.17 are the trunk; the statistics of frozen norms are no parameters."""
    _, _, params = shapes_of(resolved("act_aloha:published"))
    sizes = {
        path_name(path): int(np.prod(leaf.shape))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    kept = {k: n for k, n in sizes.items() if not ("/trunks_0/" in k and "norm" in k)}
    trunk = sum(n for k, n in kept.items() if "/trunks_0/" in k)
    assert round(sum(kept.values()) / 1e6, 2) == 83.92
    assert round(trunk / 1e6, 2) == 11.17


def test_bfloat16_keeps_parameters_and_losses_in_float32():
    policy, batch, params = shapes_of(resolved("act_aloha", compute_dtype="bfloat16"))
    loss, _ = jax.eval_shape(
        lambda *a: policy.loss(*a, train=True), params, batch, jax.random.key(0)
    )
    assert loss.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_bfloat16_is_near_float32():
    chunks = []
    layers = {"style_layers": 1, "encoder_layers": 1, "decoder_layers": 1, "embed_dim": 32}
    for dtype in ("float32", "bfloat16"):
        config = resolved("act_push_t_state", compute_dtype=dtype, **layers)
        policy = policy_of_config(config.plain)
        assert isinstance(policy, ActPolicy)
        batch = jax.tree.map(jnp.asarray, example_batch(policy.spec))
        batch["observation"] = jax.tree.map(lambda x: x + 0.3, batch["observation"])
        init = jax.jit(policy.init, compiler_options=FAST_COMPILE)
        act = jax.jit(policy.act, compiler_options=FAST_COMPILE)
        params = init(jax.random.key(0), batch)
        chunks.append(act(params, batch["observation"], jax.random.key(0)))
    assert chunks[1].dtype == jnp.float32
    difference = np.abs(chunks[0] - chunks[1])
    assert 0 < difference.max() < 0.05 * np.abs(chunks[0]).max()
