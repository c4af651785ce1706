"""The loss on held-out episodes: batches read once, and their mean metrics.

Flows in: the batches of held-out episodes, a loss function, parameters. Flows out: one mean per
metric. When to validate and where the means are written is the training script's business.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from arp_jax.policies.base import Batch, Metrics, Params
from arp_jax.training.inputs import Inputs


def held_out_batches(inputs: Inputs, batch_size: int, most: int) -> list[Batch]:
    """Held-out batches, read at once: a pack is read by one thread at a time.

    There are at most `most`, fewer when the held-out episodes have fewer; the same ones each time.
    Of packs every example once before any comes again, of a stream a random draw.
    """
    if inputs.validation is None:
        return []
    batches = inputs.validation.starting_at(0)
    return [
        next(batches) for _ in range(min(most, math.ceil(inputs.validation_examples / batch_size)))
    ]


def mean_metrics(
    loss_fn: Callable[[Params, Batch, jax.Array], Metrics],
    params: Params,
    batches: Sequence[Batch],
    place: Callable[[Batch], Batch],
) -> dict[str, float]:
    """Mean of every metric over the batches; the arrays are fetched once, at the end."""

    def results() -> Iterator[Any]:
        for index, batch in enumerate(batches):
            yield loss_fn(params, place(batch), jax.random.PRNGKey(index))

    rows = jax.device_get(list(results()))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
