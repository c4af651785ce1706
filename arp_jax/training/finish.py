"""What some policies do when training is done, before their last checkpoint: `Policy.finish`.

Flows in: the policy, the averaged parameters, the run's data. Flows out: the parameters that act,
and RUN/finish.json. Policies without `finish` act with what was trained. Not here: when it is done
(the training script) and what is done (each policy; VINN fills its library).
"""

import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from arp_jax.data.loader import Loader
from arp_jax.policies.base import Batch, Params, Policy
from arp_jax.training import run_dir
from arp_jax.training.inputs import Inputs

FILE = "finish.json"


def check_finish(policy: Policy, inputs: Inputs) -> None:
    """Raises ValueError for a policy that will want every window once more, of streamed data."""
    if hasattr(policy, "finish") and inputs.target is None:
        raise ValueError(
            "config.data.stream: this policy reads every window once more when training is done, "
            "which takes a pack; set stream to False"
        )


def finish_policy(
    policy: Policy, average: Params, inputs: Inputs, batch_size: int, folder: Path
) -> tuple[Params, str] | None:
    """Finishes the policy and writes RUN/finish.json; None for a policy that needs no finishing.

    Args:
        policy: may have `finish` (see `policies.base.Policy`).
        average: averaged parameters, on whatever devices.
        inputs: its pack must not be read by another thread meanwhile.
        batch_size: windows a batch; the last one of each iterable is smaller.
        folder: the run directory.

    Returns:
        The parameters that act, as numpy arrays on every process, and one line for the log.
    """
    finish = getattr(policy, "finish", None)
    if finish is None:
        return None
    if jax.process_count() > 1:
        average = multihost_utils.process_allgather(average, tiled=True)
    average = jax.device_get(average)
    target, held_out = inputs.target, inputs.validation
    assert target is not None  # see check_finish
    # Every process finishes alike: none of them has only a part of the library.
    params, report = finish(
        average,
        each_window_once(target, batch_size),
        each_window_once(held_out, batch_size) if isinstance(held_out, Loader) else iter(()),
    )
    if jax.process_index() == 0:
        run_dir.write_text(folder / FILE, json.dumps(report, indent=1) + "\n")
    return jax.tree.map(np.asarray, params), report["summary"]


def each_window_once(loader: Loader, batch_size: int) -> Iterator[Batch]:
    """The windows of an epoch in batches, on every process all of them."""
    for start in range(0, loader.num_windows, batch_size):
        yield loader.read(np.arange(start, min(start + batch_size, loader.num_windows)))
