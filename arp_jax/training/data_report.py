"""What a person should see of the data before training begins.

Flows in: `Inputs`. Flows out: lines of text: sizes, one batch as the policy sees it, dimensions
that are constant, binary or outside their range, and the table of a mixture. Reads data, changes
nothing.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console

from arp_jax.data.mixtures import mixture_table
from arp_jax.data.stats import (
    binary_dims,
    dim_names,
    listed,
    near_constant_dims,
    outside_share,
)
from arp_jax.data.stats_cache import step_blocks
from arp_jax.training.inputs import Inputs

# "standard" has no ends: beyond five deviations is far out.
_BOUND = {"standard": 5.0}
_WIDTH = 120


def describe(inputs: Inputs, config: Mapping[str, Any]) -> str:
    """Lines for the log; `config` is all of it, plain values."""
    methods, train = config["data"]["normalization"], config["train"]
    lines = [f"data: {'' if inputs.pack else 'streamed, '}{_sizes(inputs, train['batch_size'])}"]
    if inputs.shares:
        buffer = io.StringIO()
        table = mixture_table(inputs.shares, train["steps"], train["batch_size"])
        Console(file=buffer, width=_WIDTH).print(table)
        lines += [line.rstrip() for line in buffer.getvalue().splitlines() if line.strip()]
    batch = inputs.train.sample()
    for name, x in (*batch["observation"].items(), ("action", batch["action"])):
        lines.append(
            f"  {name:12s} {x.dtype!s:8s} {list(x.shape)} in [{x.min():.3g}, {x.max():.3g}]"
        )
    return "\n".join(lines + odd_dimensions(inputs, methods))


def _sizes(inputs: Inputs, batch_size: int) -> str:
    """What there is to train on, and what is held out."""
    held_out, examples = len(inputs.validation_episodes), inputs.train_examples
    counted = "examples not all counted" if examples is None else f"{examples} examples"
    if inputs.shares:
        return (
            f"{len(inputs.shares)} datasets, {counted} "
            f"({held_out} episodes of {inputs.shares[0].name} held out), "
            f"statistics of {', '.join(inputs.stats_of) or 'all'}"
        )
    epoch = f", {examples / batch_size:.1f} batches an epoch" if examples is not None else ""
    return f"{len(inputs.train_episodes)} episodes, {counted} ({held_out} episodes held out){epoch}"


def resumption(inputs: Inputs, position: int) -> str:
    """One line on what a run sees that goes on behind batch `position`; "" where it is exact."""
    if inputs.pack is not None or not position:
        return ""
    return (
        f"data: the stream goes on near batch {position}, approximately: some examples of this "
        "pass come a second time, some not at all (docs/data.md)"
    )


def odd_dimensions(inputs: Inputs, methods: Mapping[str, str]) -> list[str]:
    """Lines on near-constant and binary dimensions, and on values beyond the normalised range."""
    used = {name: inputs.stats[name] for name in inputs.normalizer if name in inputs.stats}
    specs = (inputs.spec.observation, inputs.spec.action)
    lines = []
    if constant := near_constant_dims(used, *specs):
        lines.append(f"  near-constant, unit scale: {listed(constant)}")
    if binary := binary_dims(used, *specs):
        lines.append(f"  two values only: {listed(binary)}")
    return lines + outside_lines(inputs, methods)


def outside_lines(inputs: Inputs, methods: Mapping[str, str]) -> list[str]:
    """Lines on dimensions of `inputs.pack` with values beyond the normalised range.

    Every step counts. Vectors that are not held in memory, and streamed ones, are left out: reading
    them all would delay the start by minutes.
    """
    if inputs.pack is None:
        return []
    names = [name for name in inputs.normalizer if name in inputs.pack.in_memory]
    counts = {name: np.zeros(inputs.pack.shapes[name]) for name in names}
    bounds = {name: _BOUND.get(methods.get(name, ""), 1.0) for name in names}
    for arrays in step_blocks(inputs.pack, names):
        for name, rows in arrays.items():
            share = outside_share(rows, inputs.normalizer[name], bounds[name])
            counts[name] += share * len(rows)
    dims = dim_names(inputs.spec.observation, inputs.spec.action)
    lines = []
    for name, count in counts.items():
        shares = count / inputs.pack.num_steps
        found = [f"{dims[name][i]} {shares[i]:.2%}" for i in np.flatnonzero(shares)]
        if found:
            lines.append(f"  {name} beyond +-{bounds[name]:g} once normalised: {listed(found)}")
    return lines
