"""The way back to PyTorch: state -> ours -> state, and ours -> state -> ours, bit for bit."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.interop.arp import config_from_reference, convert_arp, to_torch_state
from arp_jax.interop.arp_push_t import IMAGE_ENCODER, convert_push_t, push_t_to_torch
from arp_jax.interop.torch_state import (
    Rule,
    as_is,
    conv_kernel,
    convert,
    feature_map,
    linear_kernel,
    to_torch,
)
from arp_jax.models.arp_config import ArpConfig
from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.tokens import TokenType
from arp_jax.policies.arp import ArpPolicy, ArpPolicyConfig
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from arp_jax.specs import PolicySpec
from tests.golden_files import golden_path, golden_paths, load_golden
from tests.interop.formula_weights import formula_state
from tests.models.small_arp import CONDITIONED, PLAIN


def has_weights(path: Path) -> bool:
    """Whether a golden file is a small model with its weights."""
    with np.load(path) as archive:
        return any(name.startswith("w/") for name in archive.files)


SMALL_CASES = [path for path in golden_paths() if has_weights(path)]


def assert_same_bits(found: dict, expected: dict) -> None:
    """Same names, shapes, dtypes and bits."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype), name
        assert found[name].tobytes() == np.asarray(value, order="C").tobytes(), name


def random_like(shapes: dict, seed: int = 0) -> dict:
    """A tree of noise; every bit pattern but NaN may occur."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), shapes)


def assert_same_trees(found: dict, expected: dict) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (as_is, (5,)),
        (linear_kernel, (3, 4)),
        (conv_kernel, (6, 2, 3, 5)),
        (feature_map, (1, 4, 2, 3)),
    ],
)
def test_layouts_have_inverses(layout, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(layout.back(layout(x)), x)
    ours = layout(x)
    state = to_torch({"a": {"b": np.stack([ours, 2 * ours])}}, [Rule("w", ("a", "b"), layout, 1)])
    assert_same_bits(state, {"w": 2 * x})
    assert state["w"].flags.c_contiguous
    tree, report = convert(state, [Rule("w", ("a",), layout)], {"a": ours})
    report.raise_if_incomplete("test")
    np.testing.assert_array_equal(tree["a"], 2 * ours)


@pytest.mark.golden
@pytest.mark.parametrize("path", SMALL_CASES, ids=lambda path: path.stem)
def test_golden_states_come_back(path: Path) -> None:
    data = load_golden(path)
    config = config_from_reference(json.loads(str(data["cfg_json"])))
    state = {k.removeprefix("w/"): v for k, v in data.items() if k.startswith("w/")}
    params, statistics, report = convert_arp(state, config)
    report.raise_if_incomplete(path.stem)
    assert_same_bits(to_torch_state(params, statistics, config), state)


TOKENS = st.sampled_from(
    [
        TokenType("state", is_control=True, dim=3, is_continuous=True, embedding="linear"),
        TokenType("grid", dim=2, dict_sizes=(3, 5)),
        TokenType("given", embedding_options={"embed_from": "table"}, predictor="class"),
        TokenType("angle", dict_sizes=(9,), embedding="position_1d"),
        TokenType(
            "pixel",
            dim=2,
            is_continuous=True,
            embedding="position_2d",
            predictor="upsample_from_2d_attn",
            predictor_options={"attn_with": (8, 2, 3), "upscale_ratio": 2, "label_name": "map"},
        ),
        TokenType(
            "place",
            dim=2,
            embedding="zero",
            predictor="upsample_from_2d_attn",
            predictor_options={"attn_with": "features", "upscale_ratio": 3, "corr_dim": 4},
        ),
        TokenType(
            "force",
            dim=2,
            is_continuous=True,
            embedding="linear",
            predictor="gmm",
            predictor_options={"num_latents": 3},
        ),
    ]
)
LAYERS = st.sampled_from(
    [
        CONDITIONED,
        PLAIN,
        dataclasses.replace(CONDITIONED, adaln=False),
        dataclasses.replace(CONDITIONED, norm_before_adaln=True),
    ]
)
CONFIGS = st.builds(
    ArpConfig,
    embed_dim=st.just(8),
    max_seq_len=st.integers(4, 9),
    max_chunk_size=st.integers(1, 4),
    tokens=st.lists(TOKENS, min_size=1, max_size=4, unique_by=lambda t: t.name).map(tuple),
    layers=st.lists(LAYERS, min_size=1, max_size=3).map(tuple),
    layer_norm_every_block=st.booleans(),
)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(config=CONFIGS)
def test_any_model_comes_back(config: ArpConfig) -> None:
    params = random_like(jax.eval_shape(ChunkTransformer(config).init_params, jax.random.key(0)))
    empty, statistics, _ = convert_arp({}, config)
    assert jax.tree.structure(empty) == jax.tree.structure(params)
    statistics = random_like(statistics, seed=1)
    state = to_torch_state(params, statistics, config)
    found, found_statistics, report = convert_arp(state, config)
    report.raise_if_incomplete("test")
    assert_same_trees(found, params)
    assert_same_trees(found_statistics, statistics)
    assert_same_bits(to_torch_state(found, found_statistics, config), state)


def push_t_policy(**options: object) -> ArpPolicy:
    """The published policy, or a smaller one of its family."""
    spec = PolicySpec(OBSERVATION_SPEC.select(("agent_pos", "image")), ACTION_SPEC, 2, 16, -1)
    return ArpPolicy(ArpPolicyConfig(**options), spec)


@pytest.mark.golden
def test_push_t_comes_back() -> None:
    """Names, shapes, second names and constants are those of the published policy."""
    golden = load_golden(golden_path("pusht_real"))
    shapes = json.loads(str(golden["state_dict_json"]))
    given, policy = formula_state(shapes), push_t_policy()
    params, report = convert_push_t(given, policy)
    report.raise_if_incomplete("pusht_real.npz")
    state = push_t_to_torch(params, policy)
    assert {name: list(value.shape) for name, value in state.items()} == shapes

    pool, trunk = f"{IMAGE_ENCODER}.pool.", f"{IMAGE_ENCODER}.backbone."
    constants = {
        f"{pool}pos_x": np.array([[-1, 0, 1] * 3], np.float32),
        f"{pool}pos_y": np.array([[-1] * 3 + [0] * 3 + [1] * 3], np.float32),
        f"{pool}temperature": np.ones((1,), np.float32),
        "_dummy_variable": np.zeros((0,), np.float32),
        "policy.token_embedders.1.div_term": 10000.0 ** -(np.arange(16, dtype=np.float32) / 16),
    }
    for axis in "xy":
        if f"spatial_softmax_pos_{axis}" in golden:  # recorded by later golden files
            recorded = golden[f"spatial_softmax_pos_{axis}"]
            np.testing.assert_array_equal(recorded, constants[f"{pool}pos_{axis}"])
    for name, value in state.items():
        first = name.replace(f"{IMAGE_ENCODER}.nets.0.", trunk)
        first = first.replace(f"{IMAGE_ENCODER}.nets.1.", pool)
        if first in constants:
            # Frequencies may differ in the last bit from one machine to another.
            np.testing.assert_allclose(value.ravel(), constants[first].ravel(), rtol=3e-7)
        else:
            assert value.tobytes() == given[first].tobytes(), name

    again, report = convert_push_t(state, policy)
    report.raise_if_incomplete("push_t_to_torch")
    assert_same_trees(again, params)


def test_other_encoders_are_refused() -> None:
    policy = push_t_policy(encoder="state", layers=1)
    for convert_ in (lambda: convert_push_t({}, policy), lambda: push_t_to_torch({}, policy)):
        with pytest.raises(ValueError, match=r"policy\.encoder 'image'"):
            convert_()
