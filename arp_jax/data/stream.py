"""Batches from datasets too large to pack: episodes are streamed, windows shuffled in a buffer.

Flows in: sources (local or remote), their shares, the policy's spec, the normaliser. Flows out: an
endless stream of `Batch`es of the form of `examples.py`. Memory is bounded: encoded episodes wait
in buffers whose size is set in bytes, pictures are decoded when a batch is made. Where a pack fits
on the disk prefer it: it is exactly resumable and shuffles everything; here

* without interruption the stream is a function of (members, spec, seed, host, config): started
  again from position 0, it is the same, batch for batch. In each pass over a member every window of
  every episode comes once; windows are shuffled within the buffer, shards across the member.
* a stream made with `position=n` is resumed approximately. Repeated exactly: the seed, the shares,
  which member gives each example of which batch. Estimated: how many whole episodes each member
  had read, from the first episodes' mean number of windows; that many are skipped (whole shards
  unread). So around the place of interruption some windows of that pass come a second time and
  some not at all: as many as the buffer held, one cycle of shards, and the error of the estimate.
  Resuming twice at the same position gives the same stream twice.

What a batch says about the task is as in `task.py`, but for the index of the instruction: the list
of all instructions of a streamed dataset is not known, so the instruction comes as its vector
(`language_embedding`, all zeros for none) and needs a dataset that stores one.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from arp_jax.data.examples import Batch
from arp_jax.data.images import decode_image, resize_image
from arp_jax.data.mixes import Mix
from arp_jax.data.mixtures import check_agreement
from arp_jax.data.order import BlockOrder, block_counts
from arp_jax.data.stream_member import MemberStream, StreamConfig, StreamMember, windows_of
from arp_jax.data.task import EMBEDDING
from arp_jax.data.window_buffer import Shown, Window
from arp_jax.normalize import Affine, normalize, normalize_observation
from arp_jax.specs import CameraSpec, ObservationSpec, PolicySpec, SpecMismatch

# Threads that decode pictures.
_THREADS = 8


class Streamer(Iterator[Batch]):
    """Endless iterator of batches, for `prefetch.py` as a `Loader` is.

    Attributes:
        position: batches delivered so far: the whole state.
    """

    def __init__(
        self,
        members: Sequence[StreamMember],
        policy_spec: PolicySpec,
        normalizer: Mapping[str, Affine],
        batch_size: int,
        seed: int,
        position: int = 0,
        host: tuple[int, int] = (0, 1),
        config: StreamConfig | None = None,
    ) -> None:
        """Checks that everything belongs together; reads nothing unless `position` > 0.

        Args:
            members: datasets and shares.
            policy_spec: which observations and sizes of pictures, W, H and action offset.
            normalizer: maps of the vector observations and of "action".
            batch_size: size of the global batch, over all hosts.
            seed: of every order, 0 .. 2^63-1.
            position: batches that were already delivered; see the top of this file.
            host: (index, count): this process reads its own part of the shards (or of the records)
                and delivers the index-th of `count` equal slices of each global batch.
            config: memory, reading, windows.

        Raises:
            ValueError: an argument is out of range, or a member is too rare.
            SpecMismatch: a member means something else than the policy by an observation.
        """
        config = config or StreamConfig()
        check_arguments(members, batch_size, seed, position, host)
        windows_of(2 * policy_spec.horizon, policy_spec, config)  # pad_after and stride in range?
        check_members(members, policy_spec, config)
        check_maps(policy_spec, normalizer)
        self._spec, self._normalizer = policy_spec, dict(normalizer)
        self._task = config.task
        shares = np.asarray([member.share for member in members], np.float64)
        counts = block_counts((shares / shares.sum()).tolist())
        fractions = counts / counts.sum()
        self._order = BlockOrder(seed, counts)
        share = batch_size // host[1]
        self._rows = np.arange(host[0] * share, (host[0] + 1) * share)
        self._batch_size = batch_size
        self._members = [
            MemberStream(
                member,
                policy_spec,
                config,
                config.buffer_mb * 2**20 * fraction,
                (seed + number) % 2**63,
                host,
            )
            for number, (member, fraction) in enumerate(zip(members, fractions, strict=True))
        ]
        for stream, fraction in zip(self._members, fractions, strict=True):
            stream.skip(position * len(self._rows) * fraction)
        self.position = position
        self._decoders = ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS), "stream-decode")

    @property
    def nbytes(self) -> int:
        """Bytes that wait in all buffers."""
        return sum(stream.nbytes for stream in self._members)

    def __next__(self) -> Batch:
        members, _ = self._order.at(self.position * self._batch_size + self._rows)
        batch = self._assemble([self._members[member].draw() for member in members])
        self.position += 1
        return batch

    def close(self) -> None:
        """Ends the threads that decode."""
        self._decoders.shutdown(cancel_futures=True)

    def _assemble(self, windows: list[Window]) -> Batch:
        batch: Batch = {
            "observation": self._stacked([window.observation for window in windows]),
            "action": normalize(
                np.stack([window.action for window in windows]), self._normalizer["action"]
            ),
            "action_is_pad": np.stack([window.action_is_pad for window in windows]),
        }
        task: dict[str, Any] = {}
        if self._task.goal:
            shown = self._stacked([w.goal for w in windows if w.goal])
            task["goal"] = {name: value[:, 0] for name, value in shown.items()}
            batch["action_is_past_goal"] = np.stack([w.action_is_past_goal for w in windows])
        if self._task.language:
            task[EMBEDDING] = np.stack([window.embedding for window in windows])
        return batch | ({"task": task} if task else {})

    def _stacked(self, shown: list[Shown]) -> dict[str, Any]:
        """Normalised vectors [B, n, D] and decoded pictures [B, n, height, width, 3]."""
        observation: dict[str, Any] = {}
        for feature in self._spec.observation.features:
            observation[feature.name] = np.stack([s.vectors[feature.name] for s in shown])
        jobs: list[Future[None]] = []
        for camera in self._spec.observation.cameras:
            steps = len(shown[0].pictures[camera.name])
            shape = (len(shown), steps, camera.height, camera.width, 3)
            pixels = observation[camera.name] = np.empty(shape, np.uint8)
            for row, one in enumerate(shown):
                jobs.append(self._decoders.submit(_decode_into, one, pixels[row], camera))
        for job in jobs:
            job.result()
        return dict(normalize_observation(observation, self._normalizer))


def check_arguments(
    members: Sequence[StreamMember],
    batch_size: int,
    seed: int,
    position: int,
    host: tuple[int, int],
) -> None:
    """Raises ValueError for an argument out of range."""
    index, count = host
    if not 0 <= index < count or batch_size < 1 or batch_size % count:
        raise ValueError(
            f"batch_size {batch_size} must be a multiple of the hosts, host {host} is "
            "(index, count)"
        )
    if not members or position < 0 or not 0 <= seed < 2**63:
        raise ValueError(
            f"a stream needs members, position >= 0 and a seed in 0 .. 2^63-1; found "
            f"{len(members)} members, position {position}, seed {seed}"
        )


def check_members(members: Sequence[StreamMember], spec: PolicySpec, config: StreamConfig) -> None:
    """Raises SpecMismatch naming a member and the field in which it differs from the policy."""
    named = [(str(member.source.path), member.share) for member in members]
    specs = [(spec.observation, spec.action)]
    for member in members:
        try:
            found = member.source.specs.observation.select(spec.observation.names)
        except ValueError as error:
            raise SpecMismatch(f"{member.source.path} and policy: {error}") from error
        specs.append((_with_sizes_of(spec, found), member.source.specs.action))
        if config.task.language and EMBEDDING not in member.source.specs.observation.names:
            raise SpecMismatch(
                f"{member.source.path} stores no {EMBEDDING!r}: set language to False, or pack the "
                "dataset, which gives indices of instructions"
            )
    check_agreement(Mix((("policy", 1.0), *named), differences=config.differences), specs)


def check_maps(spec: PolicySpec, normalizer: Mapping[str, Affine]) -> None:
    """Raises ValueError naming a vector or the action whose map is missing or of another size."""
    sizes = {feature.name: feature.size for feature in spec.observation.features}
    for name, size in {**sizes, "action": spec.action.size}.items():
        found = normalizer[name].offset.shape if name in normalizer else "none"
        if found != (size,):
            raise ValueError(f"normalizer: map of {name!r} is {found}, the policy needs ({size},)")


def _with_sizes_of(spec: PolicySpec, found: ObservationSpec) -> ObservationSpec:
    """`found` with the policy's camera sizes: pictures are resized when they are decoded."""
    sizes = {camera.name: camera for camera in spec.observation.cameras}
    cameras: list[CameraSpec] = [
        dataclasses.replace(c, height=sizes[c.name].height, width=sizes[c.name].width)
        for c in found.cameras
    ]
    return dataclasses.replace(found, cameras=tuple(cameras))


def _decode_into(shown: Shown, out: np.ndarray, camera: CameraSpec) -> None:
    """Decodes the pictures of one camera into out, uint8 [n, height, width, 3]."""
    decoded: dict[int, np.ndarray] = {}  # at an episode's start all W are the same picture
    for place, step in enumerate(shown.steps.tolist()):
        if step not in decoded:
            frame = shown.pictures[camera.name][place]
            try:
                pixels = decode_image(frame) if isinstance(frame, bytes) else frame
            except ValueError as error:
                raise ValueError(f"{shown.where}, step {step}: {camera.name}: {error}") from error
            decoded[step] = resize_image(pixels, camera.height, camera.width)
        out[place] = decoded[step]
