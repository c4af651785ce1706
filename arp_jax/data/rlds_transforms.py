"""The transformations of the `rlds` package, for episodes of this project as tf.data datasets.

In: an episode as `RldsDataset.episodes` or `Source.episodes` yields it. Out: a `tf.data.Dataset` of
its steps, and what `rlds.transformations` makes of such datasets: batches of consecutive steps,
joined episodes, shifted keys, cut episodes, statistics. For exploring and for comparing with code
that is written on RLDS; training never needs this file (windows are index arithmetic here, see
`windows.py`), and it is the only one that imports `rlds`.

rlds 0.1.8 imports `reverb` as soon as it is imported, uses it for `pattern_map` alone, and no
reverb was ever built for a current TensorFlow (google-research/rlds, issue 6). So while rlds is
imported, and no longer, an empty module stands in for reverb where no working one is; patterns are
therefore not offered. Needs the extra `tf`.
"""

import contextlib
import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from arp_jax.data.rlds import Episode
from arp_jax.data.tensorflow_files import import_tensorflow

# Names that rlds looks up in reverb when it is imported, for annotations only.
_WRITER_NAMES = ("Config", "ReferenceStep", "Pattern", "Condition")
# What an absorbing step does not keep of the last one.
_TO_ZERO = ("action", "reward")


@functools.cache
def import_rlds() -> Any:
    """The rlds package.

    Raises:
        ImportError: rlds or TensorFlow is not installed; the message says how to install them.
    """
    import_tensorflow()
    with _reverb_stand_in():
        try:
            return importlib.import_module("rlds")
        except ImportError as error:
            raise ImportError(
                "transformations of RLDS need the rlds package: pip install 'arp_jax[tf]' "
                "(or pip install rlds)"
            ) from error


def steps_dataset(episode: Episode) -> Any:
    """A `tf.data.Dataset` of the steps of one episode.

    Args:
        episode: nested dict. Arrays [T, ...] with T the length of "action" are fields of the
            steps; everything else (metadata, instructions of the whole episode) is left out.

    Returns:
        Dataset of T nested dicts; text and encoded pictures are string tensors.
    """
    tf = import_tensorflow()
    steps = _step_fields(episode, len(_first_array(episode["action"])))
    return tf.data.Dataset.from_tensor_slices(steps)


def numpy_steps(steps: Any) -> Iterator[dict[str, Any]]:
    """The steps (or batches of steps) of a dataset as nested dicts of numpy arrays."""
    yield from steps.as_numpy_iterator()


def sub_trajectories(
    steps: Any, length: int, shift: int = 1, stride: int = 1, drop_remainder: bool = True
) -> Any:
    """Batches of `length` steps each, as `rlds.transformations.batch` makes them.

    Args:
        steps: dataset of steps of one episode.
        length: steps in a batch.
        shift: steps between the beginnings of two batches.
        stride: steps between two steps of a batch.
        drop_remainder: leave out batches that would reach over the episode's end.

    Returns:
        Dataset whose elements have a leading dimension `length`.
    """
    return import_rlds().transformations.batch(steps, length, shift, stride, drop_remainder)


def concatenated(first: Any, second: Any) -> Any:
    """Steps of `first`, then of `second`; fields that one of them lacks are zeros there."""
    return import_rlds().transformations.concatenate(first, second)


def zero_step(steps: Any) -> dict[str, Any]:
    """A step of zeros (numpy) with the structure of the dataset's steps: RLDS's padding."""
    tf = import_tensorflow()
    zeros = import_rlds().transformations.zeros_from_spec(steps.element_spec)
    return tf.nest.map_structure(lambda tensor: tensor.numpy(), zeros)


def with_absorbing_step(steps: Any) -> Any:
    """Steps and, if the last one is terminal, one more: its copy with zero action and reward.

    Args:
        steps: dataset of steps with "is_terminal", "action" and "reward".
    """
    tf, rlds = import_tensorflow(), import_rlds()

    def absorbing(last: Mapping[str, Any]) -> Any:
        zero = {key: tf.nest.map_structure(tf.zeros_like, last[key]) for key in _TO_ZERO}
        return tf.data.Dataset.from_tensors({**last, **zero})

    return rlds.transformations.concat_if_terminal(steps, absorbing)


def shifted(steps: Any, keys: Sequence[str], shift: int) -> Any:
    """Step i with the values of `keys` that belong to step i + shift; |shift| steps fewer.

    Published sets differ in alignment: with shift -1 for "action", each step holds the action that
    led to its observation instead of the one chosen there.

    Raises:
        ValueError: the steps have no such key.
    """
    for key in keys:
        if key not in steps.element_spec:
            raise ValueError(f"no key {key!r} to shift; the steps have {list(steps.element_spec)}")
    return import_rlds().transformations.shift_keys(steps, list(keys), shift)


def cut_after(steps: Any, condition: Callable[[Mapping[str, Any]], Any]) -> Any:
    """Steps up to and including the first one for which the condition (a tf bool) holds."""
    return import_rlds().transformations.truncate_after_condition(steps, condition)


def mean_and_std(episodes: Sequence[Episode], keys: Sequence[str]) -> tuple[Any, Any]:
    """Mean and standard deviation of vector fields over all steps, as RLDS computes them.

    Args:
        episodes: with the top-level fields `keys`, numbers [T, D].

    Returns:
        ({key: float64 [D]}, {key: float64 [D]}), the deviation divided by the
        number of steps less one (this project's statistics divide by the number).
    """
    tf, rlds = import_tensorflow(), import_rlds()
    wanted = ("action", *keys)
    parts = [steps_dataset({key: episode[key] for key in wanted}) for episode in episodes]
    nested = functools.reduce(
        lambda left, right: left.concatenate(right),
        (tf.data.Dataset.from_tensors({rlds.STEPS: part}) for part in parts),
    )
    mean, std = rlds.transformations.mean_and_std(
        nested, lambda step: ({key: step[key] for key in keys}, dict.fromkeys(keys, True))
    )
    return {k: np.asarray(mean[k]) for k in keys}, {k: np.asarray(std[k]) for k in keys}


def _first_array(value: Any) -> np.ndarray:
    while isinstance(value, Mapping):
        value = next(iter(value.values()))
    return value


def _step_fields(node: Mapping[str, Any], length: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            inner = _step_fields(value, length)
            if inner:
                fields[key] = inner
        elif isinstance(value, np.ndarray) and value.ndim and len(value) == length:
            is_text = value.dtype.kind == "U"
            fields[key] = np.char.encode(value, "utf-8") if is_text else value
    return fields


@contextlib.contextmanager
def _reverb_stand_in() -> Iterator[None]:
    """An empty module called reverb, inside the block only and only where no real one works."""
    try:
        importlib.import_module("reverb")
    except Exception:  # absent, or built for another TensorFlow: then it fails in many ways
        stand_in, writer = types.ModuleType("reverb"), types.ModuleType("structured_writer")
        for name in _WRITER_NAMES:
            setattr(writer, name, object)
        vars(stand_in)["structured_writer"] = writer
        sys.modules["reverb"] = stand_in
        try:
            yield
        finally:
            del sys.modules["reverb"]
    else:
        yield
