"""PyTorch state dicts <-> our parameter trees: names, layouts, and a report of every tensor.

In: a flat {torch name: numpy array} and a list of ``Rule``s (one per tensor we want). Out: a nested
dict of float32 arrays and a ``Report``; ``to_torch`` goes back by the same rules, bit for bit. It
reads no file and needs no torch.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Transposition = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Layout:
    """How a tensor's axes lie: ``layout(x)`` maps theirs to ours, ``layout.back(x)`` ours to
    theirs. Both only move numbers, so there and back is exact.
    """

    forward: Transposition
    back: Transposition

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """PyTorch's layout -> ours."""
        return self.forward(x)


# Same layout in both worlds (biases, norms, tables).
as_is = Layout(lambda x: x, lambda x: x)
# Linear weight (out, in) -> kernel (in, out).
linear_kernel = Layout(lambda x: x.T, lambda x: x.T)
# Conv weight (out, in, h, w) -> kernel (h, w, in, out); also right for depthwise layers.
conv_kernel = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
# 1 x 1 convolution weight (out, in, 1, 1) -> kernel (in, out) of a linear layer.
pointwise_kernel = Layout(lambda x: x.squeeze((2, 3)).T, lambda x: x.T[:, :, None, None])
# Learned map (1, C, h, w) -> (h, w, C).
feature_map = Layout(
    lambda x: x.squeeze(0).transpose(1, 2, 0), lambda x: x.transpose(2, 0, 1)[None]
)


@dataclass(frozen=True)
class Rule:
    """Tensor ``torch_name`` goes to leaf ``path``, row ``index`` of its leading axis if given
    (layers stacked for a scan).
    """

    torch_name: str
    path: tuple[str, ...]
    layout: Layout = as_is
    index: int | None = None


@dataclass
class Report:
    """What happened to every tensor: name lists, and (name, found, expected) for wrong shapes, both
    in PyTorch's layout.
    """

    used: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    misshaped: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"used {len(self.used)}, ignored {len(self.ignored)}, unused {len(self.unused)}, "
            f"missing {len(self.missing)}, wrong shape {len(self.misshaped)}"
        ]
        lines += [f"  unused: {name}" for name in self.unused]
        lines += [f"  missing: {name}" for name in self.missing]
        lines += [f"  wrong shape: {n}: found {a}, expected {b}" for n, a, b in self.misshaped]
        return "\n".join(lines)

    def raise_if_incomplete(self, where: str) -> None:
        """ValueError unless every wanted tensor was there, in shape, and nothing was left over."""
        if self.unused or self.missing or self.misshaped:
            raise ValueError(f"{where}: state dict does not match the configuration: {self}")


def leaf(tree: Mapping[str, Any], rule: Rule) -> Any:
    """The array in ``tree`` (ours: parameters or gradients) that ``rule`` is about."""
    node: Any = tree
    for key in rule.path:
        node = node[key]
    return node if rule.index is None else node[rule.index]


def convert(
    state: Mapping[str, np.ndarray],
    rules: Iterable[Rule],
    template: Mapping[str, Any],
    ignore: Callable[[str], bool] = lambda name: False,
) -> tuple[dict[str, Any], Report]:
    """Fill a tree shaped like ``template`` (arrays or ShapeDtypeStructs) from ``state``.

    ``ignore(name)`` marks tensors that carry nothing (recomputed buffers, counters). Leaves whose
    tensor is missing or mis-shaped stay zero; call ``Report.raise_if_incomplete`` to refuse that.
    """
    report = Report(ignored=[name for name in state if ignore(name)])
    tree = _zeros_like(template)
    taken = set(report.ignored)
    for rule in rules:
        taken.add(rule.torch_name)
        if rule.torch_name not in state:
            report.missing.append(rule.torch_name)
            continue
        expected = np.shape(leaf(tree, rule))
        raw = np.asarray(state[rule.torch_name])
        try:
            value = rule.layout(raw)
        except (ValueError, IndexError):
            value = raw  # wrong rank: reported below
        if value.shape != expected:
            wanted = rule.layout.back(np.zeros(expected, np.float32)).shape
            report.misshaped.append((rule.torch_name, raw.shape, wanted))
            continue
        target = leaf(tree, Rule(rule.torch_name, rule.path))
        target[... if rule.index is None else rule.index] = value
        report.used.append(rule.torch_name)
    report.unused = [name for name in state if name not in taken]
    return tree, report


def to_torch(tree: Mapping[str, Any], rules: Iterable[Rule]) -> dict[str, np.ndarray]:
    """The state dict that ``convert`` would turn into ``tree``: one array per rule.

    Args:
        tree: nested dict of arrays; every leaf that a rule names must be there.
        rules: as given to ``convert``.

    Returns:
        {torch name: C-contiguous array in PyTorch's layout}, in the order of the rules; values and
        dtypes are those of the tree.
    """
    return {
        rule.torch_name: np.array(rule.layout.back(np.asarray(leaf(tree, rule))), order="C")
        for rule in rules
    }


def _zeros_like(template: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _zeros_like(value) if isinstance(value, Mapping) else np.zeros(value.shape, np.float32)
        for key, value in template.items()
    }
