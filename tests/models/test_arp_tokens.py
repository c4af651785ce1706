"""Token types: binning and its inverse, and refusals of impossible types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.models.tokens import TokenType, check_values, decode_values, encode_values

BINNED = TokenType("x", is_continuous=True, dict_sizes=(21,), bounds=(-1.0, 1.0))
PLAIN = TokenType("y", is_continuous=True, embedding="linear", predictor="gmm")
TOKENS = (BINNED, PLAIN)


@settings(deadline=None, max_examples=30)  # the first example compiles
@given(st.floats(-3, 3, width=32))
def test_binning_rounds_to_the_nearest_centre(value: float) -> None:
    codes = encode_values(np.full((1, 2, 1), value, np.float32), (0, 1), TOKENS)
    assert float(codes[0, 1, 0]) == np.float32(value)
    code = float(codes[0, 0, 0])
    assert code == round(code)
    assert 0 <= code <= 20
    back = float(decode_values(codes, (0, 1), TOKENS)[0, 0, 0])
    assert abs(back - np.clip(value, -1, 1)) <= 0.05 + 1e-5


def test_half_way_values_round_to_even() -> None:
    token = TokenType("x", is_continuous=True, dict_sizes=(3,), bounds=(-1.0, 0.0))
    values = np.array([-0.75, -0.25, 0.25], np.float32).reshape(1, 3, 1)
    codes = encode_values(values, (0, 0, 0), (token,))
    assert np.asarray(codes).ravel().tolist() == [0.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"embedding": "sine"}, "embedding 'sine' is not one of"),
        ({"predictor": "magic"}, "predictor 'magic' is not one of"),
        ({"dim": 2}, "dict_sizes has 1 entries, dim is 2"),
        ({"is_continuous": True, "dict_sizes": (5,)}, "binning needs bounds"),
        ({"is_continuous": True, "dict_sizes": (5,), "bounds": (1, 1)}, "upper bounds"),
        ({"embedding": "position_2d"}, "position_2d needs dim 2"),
        ({"predictor": "upsample_from_2d_attn"}, "heat-map head needs dim 2"),
    ],
)
def test_impossible_token_types_are_refused(keywords: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"token type 'x': {message}"):
        TokenType("x", **keywords)


def test_options_given_as_a_mapping_are_hashable() -> None:
    token = TokenType("x", predictor_options={"b": [1, 2], "a": 3})
    assert token.predictor_options == (("a", 3), ("b", (1, 2)))
    assert token.predictor_option("b") == (1, 2)
    assert hash(token) == hash(TokenType("x", predictor_options=(("a", 3), ("b", (1, 2)))))


MAP = {"attn_with": (4, 3, 5), "upscale_ratio": 2}  # 6 rows, 10 columns
CHECKED = (
    BINNED,
    TokenType("kind", dim=2, dict_sizes=(4, 3)),
    TokenType("turn", dict_sizes=(8,), embedding="position_1d"),
    TokenType(
        "xy", dim=2, embedding="zero", predictor="upsample_from_2d_attn", predictor_options=MAP
    ),
    TokenType(
        "hw",
        dim=2,
        embedding="zero",
        predictor="upsample_from_2d_attn",
        predictor_options=MAP | {"attn_with": "map", "token_format": "hw"},
    ),
    TokenType("row", is_control=True, embedding_options={"embed_from": "table"}),
    TokenType("free", dim=2, is_continuous=True, embedding="linear", predictor="gmm"),
)
CONTEXTS = {"map": np.zeros((2, 3, 5, 4)), "table": np.zeros((2, 7, 4))}
GOOD = np.array([[1, 0], [3, 2], [7, 0], [9, 5], [5, 9], [6, 0], [-50, 99]], np.float32)


def test_good_values_pass() -> None:
    ids = tuple(range(len(CHECKED)))
    check_values(np.stack([GOOD, 0 * GOOD]), ids, CHECKED, CONTEXTS)
    check_values(GOOD, ids, CHECKED)
    # Unused numbers of narrow types are not looked at.
    check_values(np.array([[0.5, np.nan]]), (0,), CHECKED)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x", [1.5], r"dim 0 of sample 1 holds 1.5, must be finite and in \[-1, 1\]"),
        ("x", [-1.001], "holds -1.001"),
        ("x", [np.nan], "holds nan"),
        ("kind", [4, 0], r"dim 0 of sample 1 holds 4, must be a whole number in \[0, 3\]"),
        ("kind", [0, 3], r"dim 1 of sample 1 holds 3, must be a whole number in \[0, 2\]"),
        ("kind", [0.5, 0], "dim 0 of sample 1 holds 0.5"),
        ("turn", [-1], r"holds -1, must be a whole number in \[0, 7\]"),
        ("xy", [10, 0], r"dim 0 of sample 1 holds 10, must be finite and in \[0, 9\]"),
        ("xy", [0, 6], r"dim 1 of sample 1 holds 6, must be finite and in \[0, 5\]"),
        ("hw", [6, 0], r"dim 0 of sample 1 holds 6, must be finite and in \[0, 5\]"),
        ("row", [7], r"holds 7, must be a whole number in \[0, 6\]"),
        ("free", [0, np.inf], "dim 1 of sample 1 holds inf"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: list[float], message: str) -> None:
    ids = tuple(range(len(CHECKED)))
    position = [t.name for t in CHECKED].index(name)
    values = np.stack([GOOD, GOOD])
    values[1, position, : len(value)] = value
    with pytest.raises(ValueError, match=f"token type '{name}': position {position}, .*{message}"):
        check_values(values, ids, CHECKED, CONTEXTS)


def test_values_are_not_looked_at_while_traced() -> None:
    def traced(values: jax.Array) -> jax.Array:
        check_values(values, (0,), CHECKED)
        return values

    assert jax.eval_shape(traced, jnp.full((1, 1), 9.0)).shape == (1, 1)
    with pytest.raises(ValueError, match="holds 9"):
        traced(jnp.full((1, 1), 9.0))
