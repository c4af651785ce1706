"""Token types: binning and its inverse, and refusals of impossible types."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.models.tokens import TokenType, decode_values, encode_values

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
