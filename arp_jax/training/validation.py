"""The loss on held-out episodes: batches read once, and their mean metrics.

Flows in: the loader of held-out episodes, a loss function, parameters. Flows out: one mean per
metric. When to validate and where the means are written is the training script's business.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from arp_jax.data.loader import Loader
from arp_jax.policies.base import Batch, Metrics, Params
from arp_jax.training.inputs import validation_positions


def held_out_batches(loader: Loader | None, most: int) -> list[Batch]:
    """At most `most` held-out batches, read at once: the pack is read by one thread at a time."""
    if loader is None:
        return []
    return [loader.batch_at(position) for position in validation_positions(loader, most)]


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
