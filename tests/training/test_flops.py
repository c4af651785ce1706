"""Counted multiply-accumulates agree with arithmetic, with XLA, and with the published Push-T."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from arp_jax import profile
from arp_jax.policies.arp import ArpPolicy, ArpPolicyConfig
from arp_jax.training.flops import operations, scope_names, total_macs, xla_check
from arp_jax.training.profiling import module_rows, profile_policy
from tests.training.tiny_policy import TinyConfig, TinyPolicy, tiny_spec

# XLA's flops over 2 x visible MACs + our count of elementwise operations. Where matrices are tiny,
# a few per cent remain: the compiler writes erf and tanh out as polynomials and fuses twice.
BEFORE_OPTIMISATION, COMPILED = 0.05, 0.10


def shape(*size):
    return jax.ShapeDtypeStruct(size, jnp.float32)


def test_products_by_hand():
    macs = total_macs(operations(lambda a, b: a @ b, shape(3, 5), shape(5, 7)))
    assert macs == 3 * 5 * 7
    batched = operations(
        lambda a, b: jnp.einsum("bqhd,bkhd->bhqk", a, b), shape(2, 3, 4, 8), shape(2, 5, 4, 8)
    )
    assert total_macs(batched) == 2 * 4 * 3 * 5 * 8


def convolve(x, kernel, stride=1, padding="SAME", groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def test_convolutions_by_hand():
    found = operations(convolve, shape(2, 6, 6, 3), shape(3, 3, 3, 4))
    (one,) = (op for op in found if op.kind == "convolution")
    assert one.count == 2 * 36 * 9 * 3 * 4
    # An axis of 6 places has 3 * 6 taps, of which 2 fall outside.
    assert one.once == 2 * 16**2 * 3 * 4
    depthwise = operations(
        lambda x, k: convolve(x, k, groups=4), shape(1, 5, 5, 4), shape(3, 3, 1, 4)
    )
    assert total_macs(depthwise) == 25 * 9 * 4


def test_loops_count_with_their_trips_and_once():
    def function(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    ops = operations(function, shape(2, 8), shape(10, 8, 8))
    (product,) = (op for op in ops if op.kind == "product")
    assert product.count == 10 * 2 * 8 * 8
    assert product.once == 2 * 8 * 8
    check = xla_check(function, shape(2, 8), shape(10, 8, 8))
    assert check.macs == 10 * check.visible_macs
    assert check.flops < 4 * check.visible_macs  # XLA, too, saw one trip, not ten


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, jax.vmap], ids=lambda f: f.__name__)
def test_calls_are_followed(wrap):
    function = wrap(lambda a, b: jnp.einsum("...ij,...jk->...ik", a, b))
    assert total_macs(operations(function, shape(4, 3, 5), shape(4, 5, 7))) == 4 * 3 * 5 * 7


def test_gradients_are_counted():
    def loss(w, x):
        return jnp.sum(jax.nn.relu(x @ w))

    forward = total_macs(operations(loss, shape(8, 4), shape(16, 8)))
    assert total_macs(operations(jax.grad(loss), shape(8, 4), shape(16, 8))) == 2 * forward


def test_convolution_against_xla():
    for stride, padding in ((1, "SAME"), (2, "SAME"), (1, "VALID")):
        check = xla_check(
            lambda x, k, s=stride, p=padding: convolve(x, k, s, p),
            shape(1, 9, 9, 4),
            shape(3, 3, 4, 8),
        )
        assert check.flops == 2 * check.visible_macs, (stride, padding)


def test_scopes_are_modules():
    stack = "Net.losses/Net.predict/heads_a/upsampler/vmap(fc1)/fc1/bqhd,bkhd->bhqk"
    assert scope_names(stack) == ("Net", "heads_a", "upsampler", "fc1")
    assert scope_names("") == ()


SMALL = ArpPolicyConfig(
    encoder="state",
    state_hidden=32,
    plan_points=2,
    plan_chunk=2,
    heatmap_size=16,
    heatmap_upscale=4,
    layers=2,
    embed_dim=32,
    heads=2,
    sample=False,  # random bits are many integer operations beside so small a model
)


def test_heatmap_policy_agrees_with_xla_before_optimisation():
    spec = tiny_spec()
    policy = ArpPolicy(SMALL, spec)
    found = profile_policy(policy, 4, compile_programs=False)
    for name in ("act", "loss"):
        check = found.checks[name]
        assert check.macs == found.total(f"{name}_macs")
        assert check.explained == pytest.approx(1, abs=BEFORE_OPTIMISATION), name
        assert check.ratio > 1, name
    assert not found.memory
    rows = {row.name: row for row in found.rows}
    # 4 x 4 cells, 2 points, 4 examples; convolutions of 3 x 3 and 1 x 1 with 64 hidden channels.
    per_cell = 9 * (32 * 64 + 64 * 64 + 64 + 32 * 64) + 64 * 9 * 16
    assert rows["transformer/heads_coarse-plan"].act_macs == 4 * 2 * 16 * per_cell
    shapes = jax.eval_shape(policy.init, jax.random.key(0), profile.example_batch(spec))
    assert found.total("parameters") == sum(x.size for x in jax.tree.leaves(shapes))
    assert found.total("size") == 4 * found.total("parameters")
    assert "outside modules" not in rows


def test_compiled_policy_agrees_with_xla():
    policy = ArpPolicy(dataclasses.replace(SMALL, plan_points=0, layers=1), tiny_spec())
    batch = profile.example_batch(policy.spec, 4)
    key = jax.random.key(0)
    params = jax.eval_shape(policy.init, key, batch)
    check = xla_check(policy.act, params, batch["observation"], key)
    assert check.explained == pytest.approx(1, abs=COMPILED)
    assert check.macs == check.visible_macs > 0


def test_memory_of_compiled_programs():
    """A policy without tokens is profiled, too."""
    found = profile_policy(TinyPolicy(TinyConfig(), tiny_spec()), 2)
    assert found.total("loss_macs") > 0
    assert found.memory["act"].arguments >= found.total("size")
    # A training step holds parameters, both moments and the moving average, and their update.
    step = found.memory["training step"]
    assert step.arguments >= 4 * found.total("size")
    assert step.aliased >= 4 * found.total("size")
    assert step.temporary > 0


def test_published_push_t():
    found = profile.profile_config(profile.load_config("push_t_image.py"), 1, False)
    assert found.total("parameters") == 14_333_861
    rows = {row.name: row for row in found.rows}
    encoder = sum(r.act_macs for r in found.rows if r.name.startswith("encoder"))
    assert encoder / 1e9 == pytest.approx(0.592, abs=0.001)
    assert rows["transformer/heads_coarse-plan"].act_macs / 1e9 == pytest.approx(0.213, abs=0.0005)
    # The reference encodes the prompt again for every chunk, a cache does not: at most its count.
    head = found.total("act_macs") - encoder
    assert 0.94 * 0.285e9 < head <= 0.285e9
    assert 0.94 * 0.8775e9 < found.total("act_macs") <= 0.8775e9
    assert found.checks["act"].explained == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("config", "parameters", "macs"),
    [
        # 19.21 G counted by running the reference, and 0.37 G of attention hidden from its counter.
        ("arp_aloha.py", 59_159_886, 19.21e9 + 0.37e9),
        pytest.param("arp_rlbench.py", 72_115_622, None, marks=pytest.mark.slow),
        pytest.param("arp_rlbench.py:plus", 74_014_374, None, marks=pytest.mark.slow),
    ],
)
def test_published_sizes_of_the_large_models(config, parameters, macs):
    policy = profile.policy_of_config(profile.load_config(config))
    batch = profile.batch_of(policy, 1)
    params = jax.eval_shape(policy.init, jax.random.key(0), batch)
    act = operations(policy.act, params, batch["observation"], jax.random.key(0))
    rows = module_rows(policy, params, act, [])
    assert sum(row.parameters for row in rows) == parameters
    assert total_macs(act) == sum(row.act_macs for row in rows)
    if macs is not None:
        assert total_macs(act) == pytest.approx(macs, rel=1e-3)


def test_ablations_are_the_papers():
    sizes = {m.config: m.parameters for m in profile.PAPER if m.config.startswith("arp_push_t")}
    assert len(sizes) == 10
    for name, parameters in sizes.items():
        policy = profile.policy_of_config(profile.load_config(name))
        shapes = jax.eval_shape(policy.transformer.init_params, jax.random.key(0))
        # The image encoder is the same in all of them: 11,201,248.
        assert sum(x.size for x in jax.tree.leaves(shapes)) == parameters - 11_201_248, name
    flat = profile.policy_of_config(profile.load_config("arp_push_t_ablations.py:flat_discrete"))
    assert flat.schedule.length == 32
    assert flat.schedule.num_chunks == 32
    assert [t.name for t in flat.transformer.config.tokens] == ["x", "y"]
    assert flat.transformer.config.max_seq_len == flat.transformer.config.max_chunk_size == 32
    one = profile.policy_of_config(profile.load_config("arp_push_t_ablations.py:one_step"))
    assert one.schedule.chunk_ids == (0, 1, *[2] * 20)
    with pytest.raises(ValueError, match="'two_step' is unknown"):
        profile.load_config("arp_push_t_ablations.py:two_step")
