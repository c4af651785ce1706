"""What a person should see of the data before training begins.

Flows in: `Inputs`. Flows out: lines of text: sizes, one batch as the policy sees it, dimensions
that are constant, binary or outside their range, and the table of a mixture. Reads the packs,
changes nothing.
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
    held_out = len(inputs.validation_episodes)
    lines = [
        f"data: {len(inputs.train_episodes)} episodes, {inputs.train.num_windows} examples "
        f"({held_out} episodes held out), {inputs.train.batches_per_epoch:.1f} batches an epoch"
    ]
    if inputs.shares:
        lines[0] = (
            f"data: {len(inputs.shares)} datasets, {inputs.train.num_windows} examples "
            f"({held_out} episodes of {inputs.shares[0].name} held out), "
            f"statistics of {', '.join(inputs.stats_of) or 'all'}"
        )
        buffer = io.StringIO()
        table = mixture_table(inputs.shares, train["steps"], train["batch_size"])
        Console(file=buffer, width=_WIDTH).print(table)
        lines += [line.rstrip() for line in buffer.getvalue().splitlines() if line.strip()]
    batch = inputs.train.batch_at(0)
    for name, x in (*batch["observation"].items(), ("action", batch["action"])):
        lines.append(
            f"  {name:12s} {x.dtype!s:8s} {list(x.shape)} in [{x.min():.3g}, {x.max():.3g}]"
        )
    return "\n".join(lines + odd_dimensions(inputs, methods))


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

    Every step counts. Vectors that are not held in memory are left out: reading them all would
    delay the start by minutes.
    """
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
