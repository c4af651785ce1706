"""Packed steps -> training batches, in an order that is a function of (seed, epoch, position).

Flows in: a `Pack`, the policy's spec, the normaliser. Flows out: an endless stream of `Batch`
(numpy) = {"observation": {name: [B, W, ...]}, "action": [B, H, A], "action_is_pad": [B, H]} with
vectors and actions normalised and images as uint8. The number of batches delivered is the whole
state: a loader made with `position=n` continues exactly behind batch n-1. Augmentation and resizing
happen on the device (`augment.py`), not here; reading ahead is `prefetch.py`.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from arp_jax.data.store import Pack
from arp_jax.data.windows import window_table
from arp_jax.normalize import Affine, normalize, normalize_observation
from arp_jax.specs import PolicySpec, SpecMismatch, check_match

Batch = dict[str, Any]


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The permutation of 0 .. size-1 of one epoch, int64 [size].

    Sorts raw Philox-4x64 output keyed by (seed, epoch). Raw bits, unlike `Generator.permutation`,
    are the same in every version of numpy, so a run resumes in its old order after an upgrade.
    """
    bits = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(size)
    return np.argsort(bits, kind="stable")


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


class Loader(Iterator[Batch]):
    """Endless iterator of batches.

    Example k of the stream (batch k // batch_size) is entry k mod N of the permutation of epoch
    k // N, where N is the number of windows: every window is seen once an epoch, a batch may
    straddle two epochs, and no window is dropped.

    Attributes:
        position: batches delivered so far: the whole state.
        num_windows: N, training examples in an epoch.
    """

    def __init__(
        self,
        pack: Pack,
        policy_spec: PolicySpec,
        normalizer: Mapping[str, Affine],
        batch_size: int,
        seed: int,
        position: int = 0,
        host: tuple[int, int] = (0, 1),
        episodes: Iterable[int] | None = None,
        pad_after: int | None = None,
    ) -> None:
        """Checks that pack, spec and normaliser belong together.

        Args:
            pack: the step store.
            policy_spec: which observations, W, H and action offset.
            normalizer: maps of the vector observations and of "action".
            batch_size: size of the global batch, over all hosts.
            seed: of the order, 0 .. 2^63-1.
            position: batches that were already delivered.
            host: (index, count): this process delivers the index-th of `count` equal slices of
                each global batch.
            episodes: ids of the episodes to use; None uses all.
            pad_after: see `window_table`.

        Raises:
            ValueError: an argument is out of range or the normaliser does not fit.
            SpecMismatch: the pack lacks an observation or means something else by it.
        """
        check_pack(pack, policy_spec)
        check_normalizer(pack, policy_spec, normalizer)
        index, count = host
        if not 0 <= index < count:
            raise ValueError(f"host must be (index, count) with 0 <= index < count, found {host}")
        if batch_size < 1 or batch_size % count:
            raise ValueError(f"batch_size {batch_size} must be a multiple of the {count} hosts")
        if not 0 <= seed < 2**63 or position < 0:
            raise ValueError(f"seed and position must not be negative: {seed}, {position}")
        self.position = position
        self._pack, self._spec, self._normalizer = pack, policy_spec, dict(normalizer)
        self._seed, self._batch_size = seed, batch_size
        share = batch_size // count
        self._slice = np.arange(index * share, (index + 1) * share)
        self._table = window_table(
            pack.episode_lengths,
            policy_spec.window,
            policy_spec.horizon,
            policy_spec.action_offset,
            pad_after,
            episodes,
        )
        self._orders: dict[int, np.ndarray] = {}

    @property
    def num_windows(self) -> int:
        """Training examples in an epoch, N."""
        return len(self._table)

    @property
    def batches_per_epoch(self) -> float:
        """Global batches in an epoch, N / batch_size; not rounded."""
        return self.num_windows / self._batch_size

    @property
    def epoch(self) -> float:
        """Epochs delivered so far."""
        return self.position / self.batches_per_epoch

    def __next__(self) -> Batch:
        batch = self.batch_at(self.position)
        self.position += 1
        return batch

    def batch_at(self, position: int) -> Batch:
        """This host's slice of global batch `position`; a pure function."""
        ids = self.example_ids(position)
        observation = self._pack.read_steps(
            self._table.observation_steps(ids), self._spec.observation.names
        )
        action = self._pack.read_steps(self._table.action_steps(ids), ["action"])["action"]
        return {
            "observation": normalize_observation(observation, self._normalizer),
            "action": normalize(action, self._normalizer["action"]),
            "action_is_pad": self._table.action_is_pad(ids),
        }

    def example_ids(self, position: int) -> np.ndarray:
        """Window ids [B / hosts] of this host's slice of global batch `position`."""
        stream = position * self._batch_size + self._slice
        epochs, slots = np.divmod(stream, self.num_windows)
        ids = np.empty_like(stream)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            ids[here] = self._order(int(epoch))[slots[here]]
        return ids

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # Two epochs are enough for a batch that straddles them; a tiny set has more, rarely.
            for old in [e for e in self._orders if e < epoch - 1]:
                del self._orders[old]
            self._orders[epoch] = epoch_order(self._seed, epoch, self.num_windows)
        return self._orders[epoch]


def check_pack(pack: Pack, spec: PolicySpec) -> None:
    """Raises SpecMismatch naming an observation or action that pack and policy disagree on."""
    where = f"pack {pack.directory} and policy"
    shapes: dict[str, tuple[int, ...]] = {f.name: (f.size,) for f in spec.observation.features}
    shapes |= {c.name: (c.height, c.width, 3) for c in spec.observation.cameras}
    shapes["action"] = (spec.action.size,)
    for name, shape in shapes.items():
        if name not in pack.shapes:
            raise SpecMismatch(
                f"{where}: no {name!r} in the pack, which has {list(pack.shapes)}; "
                "pack the dataset again with --features"
            )
        if pack.shapes[name] != shape:
            raise SpecMismatch(f"{where}: {name!r} is {pack.shapes[name]}, policy expects {shape}")
    if pack.observation_spec is not None:
        found = pack.observation_spec.select(spec.observation.names)
        order = found.names
        expected = dataclasses.replace(
            spec.observation,
            features=tuple(sorted(spec.observation.features, key=lambda f: order.index(f.name))),
            cameras=tuple(sorted(spec.observation.cameras, key=lambda c: order.index(c.name))),
        )
        check_match(expected, found, where)
    if pack.action_spec is not None:
        check_match(spec.action, pack.action_spec, where)


def check_normalizer(pack: Pack, spec: PolicySpec, normalizer: Mapping[str, Affine]) -> None:
    """Raises ValueError when a vector or the action has no map, or a map has the wrong size."""
    cameras = {camera.name for camera in spec.observation.cameras}
    for name in ("action", *spec.observation.names):
        if name in cameras:
            if name in normalizer:
                raise ValueError(f"normalizer: {name!r} is an image and must stay uint8")
            continue
        if name not in normalizer:
            raise ValueError(f"normalizer: no map for {name!r}; it has {sorted(normalizer)}")
        if normalizer[name].offset.shape != pack.shapes[name]:
            raise ValueError(
                f"normalizer: map of {name!r} is {normalizer[name].offset.shape}, "
                f"the data {pack.shapes[name]}"
            )
