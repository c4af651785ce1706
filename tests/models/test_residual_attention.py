"""Residual attention nets: published parameter counts, golden vectors, sizes, trunks by name."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.interop.torch_residual_attention import (
    attention_net_rules,
    block_rules,
    stage_rules,
)
from arp_jax.interop.torch_state import convert, to_torch
from arp_jax.interop.torch_trunks import named_trunk_rules
from arp_jax.models.residual_attention import (
    FORMS,
    AttentionStage,
    PreActivationBlock,
    ResidualAttention,
    upsample,
)
from arp_jax.models.trunks import TRUNKS, attention_form, make_trunk
from tests.golden_files import FAST_COMPILE, GoldenCheck, golden_paths, load_golden

# (parameters, those that are ever used), as their authors print them.
PUBLISHED = {
    "18": (3_000_704, 1_882_496),
    "56": (11_413_482, 7_202_794),
    "small": (723_306, 459_114),
}
FILES = [
    path for path in golden_paths("act") if any("conv4.weight" in key for key in load_golden(path))
]
# Names of the golden stages: pools, form for 32 pixels.
STAGES = {
    **{"stage1": (3, False), "stage2": (2, False), "stage3": (1, False)},
    **{"cifar1": (2, True), "cifar2": (1, True), "cifar3": (0, True)},
}


def shapes(module, size=32):
    frame = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), frame)["params"]


@pytest.mark.parametrize("name", FORMS)
def test_published_parameter_counts(name):
    form = FORMS[name]
    params = shapes(ResidualAttention(form, classes=0 if form.camera else 10))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    total = sum(leaf.size for _, leaf in leaves)
    # A shortcut that maps c to c channels belongs to a block without a change of shape.
    unused = sum(
        leaf.size
        for path, leaf in leaves
        if "shortcut" in jax.tree_util.keystr(path) and leaf.shape[2] == leaf.shape[3]
    )
    assert (total, total - unused) == PUBLISHED[name]


@pytest.mark.golden
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_blocks_and_stages_reproduce_their_vectors(path, capsys):
    golden, check = load_golden(path), GoldenCheck(path.stem)
    for name in (key.removeprefix("out/") for key in golden if key.startswith("out/")):
        x, expected = (golden[f"{side}/{name}"].transpose(0, 2, 3, 1) for side in ("in", "out"))
        features = expected.shape[3]
        if name in STAGES:
            pools, thumbnails = STAGES[name]
            module: nn.Module = AttentionStage(features, pools, "frozen_batch")
            rules = list(stage_rules(name, (), pools, thumbnails))
        else:
            stride = x.shape[1] // expected.shape[1]
            module = PreActivationBlock(x.shape[3], features, stride, "frozen_batch")
            rules = list(block_rules(name, ()))
        prefix = f"w/{name}."
        state = {k.removeprefix("w/"): v for k, v in golden.items() if k.startswith(prefix)}
        template = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
        params, report = convert(state, rules, template)
        report.raise_if_incomplete(name)
        apply = jax.jit(module.apply, compiler_options=FAST_COMPILE)
        check.compare(name, apply({"params": params}, x), expected)
        for key, value in to_torch(params, rules).items():
            np.testing.assert_array_equal(value, state[key])
    check.finish(capsys)


def test_upsampling_puts_corners_on_corners():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    expected = np.array([[0, 0.5, 1, 1.5, 2], [1.5, 2, 2.5, 3, 3.5], [3, 3.5, 4, 4.5, 5]])
    np.testing.assert_allclose(upsample(x, (3, 5))[0, ..., 0], expected)
    np.testing.assert_allclose(upsample(x, (1, 1))[0, ..., 0], [[0]])


def test_every_rule_of_a_net_has_one_leaf():
    for name in FORMS:
        form = dataclasses.replace(FORMS[name], stem=4, widths=(8, 8, 12, 16))
        template = shapes(ResidualAttention(form, "frozen_batch", classes=3))
        rules = list(attention_net_rules(form, "net.", classes=3))
        assert len(rules) == len(jax.tree.leaves(template)) == len({r.path for r in rules})
        state = to_torch(jax.tree.map(lambda s: np.ones(s.shape, np.float32), template), rules)
        _, report = convert(state, rules, template)
        report.raise_if_incomplete(name)


@pytest.mark.parametrize("name", TRUNKS)
def test_trunks_by_name_divide_by_32(name):
    frames = jax.ShapeDtypeStruct((2, 64, 100, 3), jnp.float32)
    trunk = make_trunk(name, norm="frozen_batch", width=16)
    features, params = jax.eval_shape(
        lambda rng, x: trunk.init_with_output(rng, x), jax.random.key(0), frames
    )
    wide = 128 if name == "resnet" else attention_form(name, 16).widths[-1]
    assert features.shape == (2, 2, 4, wide)
    rules = list(named_trunk_rules(name, "", (), width=16))
    assert len(rules) == len(jax.tree.leaves(params))


def test_wrong_trunks_are_named():
    with pytest.raises(ValueError, match=r"trunk 'vgg' is unknown; choose one of \('resnet'"):
        make_trunk("vgg")
    with pytest.raises(ValueError, match=r"'residual_attention_18' has its norms before"):
        make_trunk("residual_attention_18", norm="folded")
    with pytest.raises(ValueError, match=r"norm 'folded' has no tensors in PyTorch"):
        list(named_trunk_rules("resnet", "", (), norm="folded"))
