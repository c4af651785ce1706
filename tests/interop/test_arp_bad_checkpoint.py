"""A checkpoint that does not fit is refused by one error: file, tensor, both shapes."""

import re

import numpy as np
import pytest

from arp_jax.interop.arp import config_from_reference, convert_arp, to_torch_state
from tests.models.small_arp import CONFIG, random_params


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return to_torch_state(random_params(), {}, CONFIG)


def test_the_state_itself_is_complete(state) -> None:
    report = convert_arp(state, CONFIG)[2]
    report.raise_if_incomplete("good.pth")
    assert not report.unused


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("pos_emb.weight", (15, 8)),
        ("blocks.1.attn.c_attn.weight", (24, 7)),
        ("token_predictors.2.upsample.net_mask.2.weight", (36, 16)),
        ("token_predictors.2.attn_with", (8, 3, 3)),
    ],
)
def test_a_tensor_of_another_shape_is_named(state, name: str, shape: tuple[int, ...]) -> None:
    expected = state[name].shape
    report = convert_arp(state | {name: np.zeros(shape, np.float32)}, CONFIG)[2]
    assert report.misshaped == [(name, shape, expected)]
    message = re.escape(f"wrong shape: {name}: found {shape}, expected {expected}")
    with pytest.raises(ValueError, match=re.compile(f"bad.pth: .*{message}", re.DOTALL)):
        report.raise_if_incomplete("bad.pth")


def test_missing_and_foreign_tensors_are_named(state) -> None:
    wrong = {k: v for k, v in state.items() if k != "final_ln.bias"} | {"extra": np.zeros(1)}
    report = convert_arp(wrong, CONFIG)[2]
    assert (report.missing, report.unused) == (["final_ln.bias"], ["extra"])
    with pytest.raises(ValueError, match=re.compile("missing: final_ln.bias", re.DOTALL)):
        report.raise_if_incomplete("bad.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": "sine"}, "token type 'x': embedding 'sine' is not one of"),
        ({"predictor": "dice"}, "token type 'x': predictor 'dice' is not one of"),
        ({"dim": 2}, "token type 'x': dict_sizes has 1 entries, dim is 2"),
    ],
)
def test_a_configuration_we_cannot_represent_is_refused(change: dict, message: str) -> None:
    token = {"name": "x", "dict_sizes": [3], "predictor": "class", "embedding": "discrete"} | change
    sizes = {"n_embd": 8, "max_seq_len": 4, "max_chunk_size": 1}
    with pytest.raises(ValueError, match=message):
        config_from_reference(sizes | {"tokens": [token], "layers": [{"n_head": 2}]})


def test_an_unknown_token_name_is_named() -> None:
    with pytest.raises(ValueError, match=r"no token type 'plann'; known: .*'pixel'"):
        CONFIG.token_id("plann")
