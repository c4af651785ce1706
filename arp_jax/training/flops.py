"""Multiply-accumulates of a traced function, by module; checked against XLA's own count.

Flows in: a function and abstract arguments (shapes suffice, nothing is computed). Flows out: a
`MatrixOp` for every matrix product and convolution of its jaxpr, with the flax module that issued
it. Loops count with their trips, padding counts like any pixel (as papers count). Time is not
measured here: a MAC is not a second.

XLA counts differently, and `xla_view` says by how much: it looks at a loop's body once, leaves out
products with a convolution's padding, and adds elementwise arithmetic.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

# Primitives that XLA counts as one operation an element of their result...
_ELEMENTWISE = frozenset(
    (
        *("add", "sub", "mul", "div", "max", "min", "neg", "abs", "sign", "floor", "ceil", "round"),
        *("and", "or", "xor", "not", "shift_left", "shift_right_logical", "select_n", "clamp"),
        *("eq", "ne", "lt", "le", "gt", "ge", "rem", "square", "add_any", "is_finite"),
    )
)
# ...and as one an element of their argument.
_REDUCTIONS = frozenset(("reduce_sum", "reduce_max", "reduce_min", "argmax", "argmin", "cumsum"))


@dataclasses.dataclass(frozen=True)
class Operation:
    """One primitive of a jaxpr, or all its repetitions in loops.

    Attributes:
        path: flax scope, outermost first, e.g. ("ChunkTransformer", "stacks_0", "layers", "mlp").
        kind: "product", "convolution" or "elementwise".
        count: multiply-accumulates (operations for elementwise) with all trips of all loops.
        once: the same as XLA's cost analysis sees it: loop bodies once, no padding.
    """

    path: tuple[str, ...]
    kind: str
    count: int
    once: float


@dataclasses.dataclass(frozen=True)
class XlaCheck:
    """Our count of a function beside XLA's cost analysis of its compiled program.

    Attributes:
        macs: multiply-accumulates, loops with all trips.
        visible_macs: those that the cost analysis can see (loop bodies once, no padding).
        elementwise: operations of the jaxpr outside products, loop bodies once; XLA fuses and
            simplifies, so this is an estimate.
        flops: what XLA reports: about 2 x visible_macs + elementwise.
    """

    macs: int
    visible_macs: float
    elementwise: float
    flops: float

    @property
    def ratio(self) -> float:
        """XLA's flops over twice the visible MACs: above 1 by the share of elementwise work."""
        return self.flops / (2 * self.visible_macs)

    @property
    def explained(self) -> float:
        """XLA's flops over 2 x visible MACs + elementwise operations: near 1."""
        return self.flops / (2 * self.visible_macs + self.elementwise)


def operations(function: Callable[..., Any], *arguments: Any) -> list[Operation]:
    """Everything that `function` computes.

    Args:
        function: traceable by jax.
        arguments: arrays or jax.ShapeDtypeStruct.
    """
    return list(_walk(jax.make_jaxpr(function)(*arguments).jaxpr, (), 1, 1.0))


def total_macs(found: Iterable[Operation]) -> int:
    """Multiply-accumulates of products and convolutions."""
    return sum(op.count for op in found if op.kind != "elementwise")


def xla_check(function: Callable[..., Any], *arguments: Any) -> XlaCheck:
    """Compiles `function` for this machine and compares the counts."""
    return compare(operations(function, *arguments), jax.jit(function).lower(*arguments).compile())


def compare(found: Sequence[Operation], compiled: Any) -> XlaCheck:
    """The counts of a jaxpr beside those of the program it was compiled to."""
    visible = sum(op.once for op in found if op.kind != "elementwise")
    rest = sum(op.once for op in found if op.kind == "elementwise")
    return XlaCheck(total_macs(found), visible, rest, float(compiled.cost_analysis()["flops"]))


def _walk(jaxpr: Any, outer: tuple[str, ...], trips: int, seen: float) -> Iterator[Operation]:
    """Operations of a jaxpr that runs `trips` times, of which XLA sees `seen`."""
    for eqn in jaxpr.eqns:
        path = outer + scope_names(str(eqn.source_info.name_stack))
        name, params = eqn.primitive.name, eqn.params
        if name == "dot_general":
            macs = _product_macs(eqn)
            yield Operation(_joined(path), "product", macs * trips, macs * seen)
        elif name == "conv_general_dilated":
            macs, inside = _convolution_macs(eqn)
            yield Operation(_joined(path), "convolution", macs * trips, inside * seen)
        elif name == "scan":
            length, unroll = params["length"], params["unroll"]
            # A loop of one trip is no loop; the rest of an uneven division is a copy of its own.
            visible = length if unroll >= length else unroll + length % unroll
            body = params["jaxpr"].jaxpr
            yield from _walk(body, path, trips * length, seen * visible)
        elif name == "cond":
            branches = [list(_walk(b.jaxpr, path, trips, seen)) for b in params["branches"]]
            yield from max(branches, key=total_macs)
        elif name in _ELEMENTWISE or name in _REDUCTIONS:
            sized = eqn.invars[0] if name in _REDUCTIONS else eqn.outvars[0]
            size = math.prod(sized.aval.shape)
            yield Operation(_joined(path), "elementwise", size * trips, size * seen)
        else:
            # while: its trips are not written in the program, so its body counts once.
            for inner in _inner_jaxprs(params):
                yield from _walk(inner, path, trips, seen)


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs that an equation calls: jit, custom derivatives, remat, while, vmapped bodies."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                yield inner


def _product_macs(eqn: Any) -> int:
    """Result elements times contracted elements."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    return math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[d] for d in contracted)


def _convolution_macs(eqn: Any) -> tuple[int, int]:
    """MACs with and without the products in which the pixel is padding or a dilation hole."""
    params, (lhs, rhs) = eqn.params, (v.aval.shape for v in eqn.invars[:2])
    numbers = params["dimension_numbers"]
    out = eqn.outvars[0].aval.shape
    depth = rhs[numbers.rhs_spec[1]]  # input channels that one output channel reads
    outside = math.prod(out[d] for d in numbers.out_spec[:2]) * depth  # batch x channels x depth
    # The gradient of a grouped kernel contracts one group of the batch at a time.
    outside //= params["batch_group_count"]
    dense = inside = outside
    for k in range(len(params["window_strides"])):
        size, kernel = lhs[numbers.lhs_spec[2 + k]], rhs[numbers.rhs_spec[2 + k]]
        places = out[numbers.out_spec[2 + k]]
        dense *= places * kernel
        inside *= _hits(
            (size, kernel, places),
            params["window_strides"][k],
            params["padding"][k][0],
            params["lhs_dilation"][k],
            params["rhs_dilation"][k],
        )
    return dense, inside


def _hits(
    sizes: tuple[int, int, int], stride: int, before: int, dilation: int, kernel_dilation: int
) -> int:
    """(place, tap) pairs of one axis whose pixel exists."""
    size, kernel, places = sizes
    at = np.arange(places)[:, None] * stride + np.arange(kernel) * kernel_dilation - before
    return int(((at >= 0) & (at <= (size - 1) * dilation) & (at % dilation == 0)).sum())


def scope_names(stack: str) -> tuple[str, ...]:
    """Flax scopes of a name stack without what jax and method calls add.

    "ChunkTransformer.losses/ChunkTransformer.predict/heads_a/fc1/fc1" ->
    ("ChunkTransformer", "heads_a", "fc1").
    """
    names: list[str] = []
    for part in stack.split("/") if stack else []:
        # Transformations wrap scopes: vmap(context_kv), transpose(jvp(mlp)).
        while match := re.fullmatch(r"\w+\((.*)\)", part):
            part = match.group(1)
        part = part.split(".")[0]
        if part and "->" not in part and (not names or names[-1] != part):
            names.append(part)
    return tuple(names)


def _joined(path: tuple[str, ...]) -> tuple[str, ...]:
    """Scopes of nested programs in a row, repeated names (methods of one module) once."""
    names: list[str] = []
    for part in path:
        if not names or (names[-1] != part and names[0] != part):
            names.append(part)
    return tuple(names)
