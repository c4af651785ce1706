"""The training examples of one pack: their order and their content.

Flows in: a `Pack`, the policy's spec, the normaliser. Flows out, for any positions of the endless
stream of examples, a `Batch` (numpy) = {"observation": {name: [B, W, ...]}, "action": [B, H, A],
"action_is_pad": [B, H]} and, where asked for, the entries of `task.py`; vectors and actions are
normalised, images uint8. Which positions make a batch is `loader.py` and `mixture_loader.py`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from arp_jax.data.order import EpochOrder
from arp_jax.data.store import Pack
from arp_jax.data.task import TaskConfig, TaskReader
from arp_jax.data.windows import window_table
from arp_jax.normalize import Affine, normalize, normalize_observation
from arp_jax.specs import PolicySpec, SpecMismatch, check_match

Batch = dict[str, Any]


class Examples:
    """Every window of the chosen episodes, once an epoch, in an order of its own each epoch."""

    def __init__(
        self,
        pack: Pack,
        policy_spec: PolicySpec,
        normalizer: Mapping[str, Affine],
        seed: int,
        *,
        episodes: Iterable[int] | None = None,
        pad_after: int | None = None,
        stride: int = 1,
        task: TaskConfig | None = None,
        instructions: Sequence[str] | None = None,
        embedding: bool = True,
    ) -> None:
        """Checks that pack, spec and normaliser belong together.

        Args:
            pack: the step store.
            policy_spec: which observations, W, H and action offset.
            normalizer: maps of the vector observations and of "action".
            seed: of the order and of the task's draws, 0 .. 2^63-1.
            episodes: ids of the episodes to use; None uses all.
            pad_after, stride: see `window_table`.
            task: what batches say about the task; None is nothing.
            instructions, embedding: see `TaskReader`.

        Raises:
            ValueError: an argument is out of range or the normaliser does not fit.
            SpecMismatch: the pack lacks an observation or means something else by it.
        """
        check_pack(pack, policy_spec)
        check_normalizer(pack, policy_spec, normalizer)
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed must be in 0 .. 2^63-1, found {seed}")
        self._pack, self._normalizer = pack, dict(normalizer)
        self._names = policy_spec.observation.names
        self._table = window_table(
            pack.episode_lengths,
            policy_spec.window,
            policy_spec.horizon,
            policy_spec.action_offset,
            pad_after,
            episodes,
            stride,
        )
        self._order = EpochOrder(seed, len(self._table))
        asked = (task or TaskConfig(), self._names, self._normalizer, seed)
        self._task = TaskReader(pack, *asked, instructions, embedding)

    def __len__(self) -> int:
        """Examples in an epoch, N."""
        return len(self._table)

    def at(self, stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(epochs, window ids), int64 [n] each, at positions `stream` [n] of the endless stream."""
        return self._order.at(stream)

    def read(self, stream: np.ndarray) -> Batch:
        """The examples at positions `stream` [B] of the endless stream; a pure function."""
        epochs, ids = self.at(stream)
        table = self._table
        observation = self._pack.read_steps(table.observation_steps(ids), self._names)
        action = self._pack.read_steps(table.action_steps(ids), ["action"])["action"]
        return {
            "observation": normalize_observation(observation, self._normalizer),
            "action": normalize(action, self._normalizer["action"]),
            "action_is_pad": table.action_is_pad(ids),
            **self._task.read(table, epochs, ids),
        }


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
