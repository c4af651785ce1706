"""Packed steps -> training batches, in an order that is a function of (seed, epoch, position).

Flows in: a `Pack`, the policy's spec, the normaliser. Flows out: an endless stream of `Batch` (see
`examples.py`). The number of batches delivered is the whole state: a loader made with `position=n`
continues exactly behind batch n-1. Augmentation and resizing happen on the device (`augment.py`),
not here; reading ahead is `prefetch.py`, several packs at once are `mixture_loader.py`.
"""

import abc
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from arp_jax.data.examples import Batch, Examples
from arp_jax.data.store import Pack
from arp_jax.normalize import Affine
from arp_jax.specs import PolicySpec


class BatchStream(Iterator[Batch]):
    """Endless iterator of batches: example k of the stream belongs to batch k // batch_size.

    Attributes:
        position: batches delivered so far: the whole state.
    """

    def __init__(self, batch_size: int, position: int = 0, host: tuple[int, int] = (0, 1)) -> None:
        """Chooses this host's slice.

        Args:
            batch_size: size of the global batch, over all hosts.
            position: batches that were already delivered.
            host: (index, count): this process delivers the index-th of `count` equal slices of
                each global batch.

        Raises:
            ValueError: an argument is out of range.
        """
        index, count = host
        if not 0 <= index < count:
            raise ValueError(f"host must be (index, count) with 0 <= index < count, found {host}")
        if batch_size < 1 or batch_size % count:
            raise ValueError(f"batch_size {batch_size} must be a multiple of the {count} hosts")
        if position < 0:
            raise ValueError(f"position must not be negative, found {position}")
        self.position = position
        self._batch_size = batch_size
        share = batch_size // count
        self._slice = np.arange(index * share, (index + 1) * share)

    @property
    @abc.abstractmethod
    def num_windows(self) -> int:
        """Training examples that there are, N."""

    @abc.abstractmethod
    def read(self, stream: np.ndarray) -> Batch:
        """The examples at positions `stream` [B] of the endless stream; a pure function."""

    @property
    def batches_per_epoch(self) -> float:
        """Global batches that hold N examples, N / batch_size; not rounded."""
        return self.num_windows / self._batch_size

    @property
    def epoch(self) -> float:
        """Epochs delivered so far."""
        return self.position / self.batches_per_epoch

    def __next__(self) -> Batch:
        batch = self.batch_at(self.position)
        self.position += 1
        return batch

    def starting_at(self, position: int) -> "BatchStream":
        """The same batches from `position` on, read by the same reader: one thread at a time."""
        stream = copy.copy(self)
        stream.position = position
        return stream

    def sample(self) -> Batch:
        """A batch with the form of all."""
        return self.batch_at(0)

    def batch_at(self, position: int) -> Batch:
        """This host's slice of global batch `position`; a pure function."""
        return self.read(self.stream_at(position))

    def stream_at(self, position: int) -> np.ndarray:
        """Positions [B / hosts] in the stream of this host's slice of global batch `position`."""
        return position * self._batch_size + self._slice


class Loader(BatchStream):
    """Batches of one pack.

    Example k of the stream is entry k mod N of the permutation of epoch k // N, where N is the
    number of windows: every window is seen once an epoch, a batch may straddle two epochs, and no
    window is dropped.
    """

    def __init__(
        self,
        pack: Pack,
        policy_spec: PolicySpec,
        normalizer: Mapping[str, Affine],
        batch_size: int,
        seed: int,
        *,
        position: int = 0,
        host: tuple[int, int] = (0, 1),
        **options: Any,
    ) -> None:
        """Checks that everything belongs together.

        Args:
            pack, policy_spec, normalizer, seed: see `Examples`.
            batch_size, position, host: see `BatchStream`.
            **options: episodes, pad_after, stride, task, ... of `Examples`.

        Raises:
            ValueError: an argument is out of range or the normaliser does not fit.
            SpecMismatch: the pack lacks an observation or means something else by it.
        """
        super().__init__(batch_size, position, host)
        self._examples = Examples(pack, policy_spec, normalizer, seed, **options)

    @property
    def num_windows(self) -> int:
        """Training examples in an epoch, N."""
        return len(self._examples)

    def read(self, stream: np.ndarray) -> Batch:
        """The examples at positions `stream` [B] of the endless stream; a pure function."""
        return self._examples.read(stream)

    def example_ids(self, position: int) -> np.ndarray:
        """Window ids [B / hosts] of this host's slice of global batch `position`."""
        return self._examples.at(self.stream_at(position))[1]


def train_validation_split(
    num_episodes: int, fraction: float, seed: int, max_train: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws validation episodes and, from the rest, at most `max_train` training episodes.

    Args:
        num_episodes: episodes to divide.
        fraction: share of validation episodes; any share above 0 gives at least one and leaves at
            least one for training. Published ARP on Push-T: 0.02 of 206, seed 42, max_train 90.
        seed: of numpy's `default_rng`; both draws start from it.
        max_train: None keeps all.

    Returns:
        (training, validation) episode ids, sorted, disjoint, int64.

    Raises:
        ValueError: an argument is out of range.
    """
    if num_episodes < 1 or not 0 <= fraction < 1 or (max_train is not None and max_train < 1):
        raise ValueError(
            f"cannot split {num_episodes} episodes with fraction {fraction} (0 <= fraction < 1) "
            f"and max_train {max_train} (>= 1)"
        )
    held_out = 0
    if fraction > 0:
        if num_episodes == 1:
            raise ValueError("one episode cannot be split: set fraction 0 or add episodes")
        held_out = min(max(1, round(num_episodes * fraction)), num_episodes - 1)
    draw = np.random.default_rng(seed).choice(num_episodes, size=held_out, replace=False)
    validation = np.sort(draw).astype(np.int64)
    training = np.setdiff1d(np.arange(num_episodes), validation)
    if max_train is not None and max_train < len(training):
        kept = np.random.default_rng(seed).choice(len(training), size=max_train, replace=False)
        training = training[np.sort(kept)]
    return training, validation
