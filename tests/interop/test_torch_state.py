"""State-dict conversion: layouts, stacking, and a report that names every tensor."""

import dataclasses

import numpy as np
import pytest

from arp_jax.interop.arp import convert_arp, initial_statistics, parameter_rules
from arp_jax.interop.torch_state import Rule, conv_kernel, convert, linear_kernel
from arp_jax.models.transformer_block import UNROLL_UP_TO
from tests.models.small_arp import CONFIG

TEMPLATE = {
    "fc": {"kernel": np.zeros((2, 3, 4)), "bias": np.zeros((2, 4))},
    "conv": {"kernel": np.zeros((5, 5, 1, 6))},
}
RULES = [
    Rule("layers.0.weight", ("fc", "kernel"), linear_kernel, 0),
    Rule("layers.1.weight", ("fc", "kernel"), linear_kernel, 1),
    Rule("layers.0.bias", ("fc", "bias"), index=0),
    Rule("conv.weight", ("conv", "kernel"), conv_kernel),
]


def test_layouts_and_stacking() -> None:
    rng = np.random.default_rng(0)
    state = {
        "layers.0.weight": rng.normal(size=(4, 3)),
        "layers.1.weight": rng.normal(size=(4, 3)),
        "layers.0.bias": rng.normal(size=4),
        "conv.weight": rng.normal(size=(6, 1, 5, 5)),
    }
    tree, report = convert(state, RULES, TEMPLATE)
    report.raise_if_incomplete("test")
    x = rng.normal(size=3)
    expected = state["layers.1.weight"] @ x
    np.testing.assert_allclose(x @ tree["fc"]["kernel"][1], expected, rtol=1e-5)
    np.testing.assert_allclose(tree["conv"]["kernel"][2, 3, 0, 4], state["conv.weight"][4, 0, 2, 3])
    assert tree["fc"]["kernel"].dtype == np.float32


def test_report_names_every_problem() -> None:
    state = {
        "layers.0.weight": np.zeros((4, 3)),
        "layers.1.weight": np.zeros((3, 3)),
        "conv.weight": np.zeros(6),
        "extra": np.zeros(1),
        "counter": np.zeros(()),
    }
    _, report = convert(state, RULES, TEMPLATE, ignore=lambda name: name == "counter")
    assert report.used == ["layers.0.weight"]
    assert report.missing == ["layers.0.bias"]
    assert report.unused == ["extra"]
    assert report.ignored == ["counter"]
    assert report.misshaped == [
        ("layers.1.weight", (3, 3), (4, 3)),
        ("conv.weight", (6,), (6, 1, 5, 5)),
    ]
    with pytest.raises(ValueError, match="unused: extra"):
        report.raise_if_incomplete("file.pt")


def test_every_parameter_of_a_model_has_a_rule() -> None:
    params, statistics, report = convert_arp({}, CONFIG)
    assert len(report.missing) == len(parameter_rules(CONFIG))
    assert statistics == initial_statistics(CONFIG) == {}
    covered: dict[tuple[str, ...], int] = {}
    for rule in parameter_rules(CONFIG):
        covered[rule.path] = covered.get(rule.path, 0) + 1

    def walk(tree: dict, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        return [
            p
            for k, v in tree.items()
            for p in (walk(v, (*path, k)) if isinstance(v, dict) else [(*path, k)])
        ]

    assert sorted(walk(params)) == sorted(covered)
    # The two conditioned layers keep leaves of their own; a deep stack shares them, row by row.
    assert covered[("stacks_0", "layers_1", "mlp", "fc1", "kernel")] == 1
    deep = dataclasses.replace(CONFIG, layers=CONFIG.layers[:1] * (UNROLL_UP_TO + 1))
    blocks = [r for r in parameter_rules(deep) if r.torch_name.startswith("blocks.")]
    rows = [r.index for r in blocks if r.torch_name.endswith("mlp.fc1.weight")]
    assert rows == list(range(UNROLL_UP_TO + 1))
