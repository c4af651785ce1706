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

Goals and indices of instructions need a pack; a vector of the instruction that is among the
observations is streamed like the others.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from arp_jax.data.examples import Batch
from arp_jax.data.images import decode_image, resize_image
from arp_jax.data.mixes import Mix
from arp_jax.data.mixtures import check_agreement
from arp_jax.data.order import BlockOrder, block_counts
from arp_jax.data.rlds import Episode
from arp_jax.data.source import Source
from arp_jax.data.stats import check_finite
from arp_jax.data.stream_records import EpisodeRecords, Record
from arp_jax.data.window_buffer import Window, WindowBuffer
from arp_jax.data.windows import WindowTable, window_table
from arp_jax.normalize import Affine, normalize, normalize_observation
from arp_jax.specs import CameraSpec, ObservationSpec, PolicySpec, SpecMismatch

# Episodes whose windows are counted to estimate how many were read before an interruption.
_PROBED_EPISODES = 32
_THREADS = 8


@dataclasses.dataclass(frozen=True)
class StreamMember:
    """One dataset of the stream.

    Attributes:
        source: opened, local or remote (`open_source(open_remote(URL))`).
        share: of the examples, relative to the other members' shares.
        split: name, or a part of it ("train[:95%]").
    """

    source: Source
    share: float = 1.0
    split: str = "train"


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """How a stream is read.

    Attributes:
        buffer_mb: memory for waiting episodes of all members together, in MiB, divided by shares;
            exceeded by at most one episode a member.
        cycle: shards of a member read alternately.
        reader: see `stream_records.READERS`.
        pad_after, stride: see `windows.window_table`.
        differences: what members may differ in from the policy's spec, of `mixes.DIFFERENCES`.
            Pictures of other sizes are resized.
    """

    buffer_mb: float = 1024
    cycle: int = 8
    reader: str = "tensorflow"
    pad_after: int | None = None
    stride: int = 1
    differences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.buffer_mb <= 0 or self.cycle < 1:
            raise ValueError(
                f"buffer_mb must be positive and cycle >= 1, found {self.buffer_mb}, {self.cycle}"
            )


class MemberStream:
    """Windows of one member in shuffled order, endlessly; memory is bounded by `budget` bytes."""

    def __init__(
        self,
        member: StreamMember,
        spec: PolicySpec,
        config: StreamConfig,
        budget: float,
        seed: int,
        host: tuple[int, int],
    ) -> None:
        self._member, self._spec, self._config = member, spec, config
        self._budget, self._seed = budget, seed
        self._records = EpisodeRecords(
            member.source.dataset, member.split, seed, host, config.cycle, config.reader
        )
        self._parse = member.source.record_parser(spec.observation.names)
        self.skip(0)

    @property
    def nbytes(self) -> int:
        """Bytes that wait in the buffer."""
        return self._buffer.nbytes

    def skip(self, examples: float) -> None:
        """Starts anew about `examples` windows behind the beginning of the stream."""
        records = round(examples / self._mean_windows()) if examples else 0
        self._buffer = WindowBuffer((self._seed, records))
        self._coming = self._records.endless(records)

    def draw(self) -> Window:
        """The next window.

        Raises:
            ValueError: an episode cannot be read (names file and record), or a whole pass has no
                episode long enough.
        """
        without = 0
        while self._buffer.nbytes < self._budget and self._buffer.episodes < self._records.per_pass:
            episode, table = self._read(next(self._coming))
            if table is not None:
                self._buffer.add(episode, table)
                without = 0
                continue
            without += 1
            if without > self._records.per_pass and not len(self._buffer):
                raise ValueError(
                    f"{self._member.source.path}: no episode of {self._member.split!r} has room "
                    f"for horizon {self._spec.horizon} with pad_after {self._config.pad_after}"
                )
        return self._buffer.draw()

    def _mean_windows(self) -> float:
        count = min(_PROBED_EPISODES, self._records.per_pass)
        first = itertools.islice(self._records.endless(), count)
        tables = [self._read(record)[1] for record in first]
        return max(sum(len(table) for table in tables if table is not None) / count, 1 / count)

    def _read(self, record: Record) -> tuple[Episode, WindowTable | None]:
        """The canonical episode and its windows; None where it is too short for any."""
        try:
            episode = self._parse(record.content)
            for name in ("action", *(f.name for f in self._spec.observation.features)):
                rows = episode["action"] if name == "action" else episode["observation"][name]
                check_finite(rows, name, record.number)
        except ValueError as error:
            raise ValueError(f"{record.file}: episode {record.number}: {error}") from error
        table = windows_of(len(episode["action"]), self._spec, self._config)
        return episode, table


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
        windows_of(2 * policy_spec.horizon, policy_spec, config)  # pad_after and stride in range?
        check_members(members, policy_spec, config.differences)
        check_maps(policy_spec, normalizer)
        self._spec, self._normalizer = policy_spec, dict(normalizer)
        shares = np.asarray([member.share for member in members], np.float64)
        counts = block_counts((shares / shares.sum()).tolist())
        fractions = counts / counts.sum()
        self._order = BlockOrder(seed, counts)
        share = batch_size // count
        self._rows = np.arange(index * share, (index + 1) * share)
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
        observation: dict[str, Any] = {}
        for feature in self._spec.observation.features:
            observation[feature.name] = np.stack([w.vectors[feature.name] for w in windows])
        jobs = []
        for camera in self._spec.observation.cameras:
            shape = (len(windows), self._spec.window, camera.height, camera.width, 3)
            pixels = observation[camera.name] = np.empty(shape, np.uint8)
            for row, window in enumerate(windows):
                frames = window.pictures[camera.name]
                jobs.append(self._decoders.submit(_decode_into, frames, pixels[row], camera))
        for job in jobs:
            job.result()
        action = np.stack([window.action for window in windows])
        return {
            "observation": normalize_observation(observation, self._normalizer),
            "action": normalize(action, self._normalizer["action"]),
            "action_is_pad": np.stack([window.action_is_pad for window in windows]),
        }


def windows_of(length: int, spec: PolicySpec, config: StreamConfig) -> WindowTable | None:
    """The windows of one episode of `length` steps, or None when it is too short for any."""
    horizon, offset = spec.horizon, spec.action_offset
    pad_after = horizon - 1 if config.pad_after is None else config.pad_after
    if 0 <= pad_after < horizon and length + pad_after - horizon - offset + 1 <= 0:
        return None
    return window_table([length], spec.window, horizon, offset, pad_after, stride=config.stride)


def check_members(
    members: Sequence[StreamMember], spec: PolicySpec, differences: tuple[str, ...]
) -> None:
    """Raises SpecMismatch naming a member and the field in which it differs from the policy."""
    named = [(str(member.source.path), member.share) for member in members]
    specs = [(spec.observation, spec.action)]
    for member in members:
        try:
            found = member.source.specs.observation.select(spec.observation.names)
        except ValueError as error:
            raise SpecMismatch(f"{member.source.path} and policy: {error}") from error
        specs.append((_with_sizes_of(spec, found), member.source.specs.action))
    check_agreement(Mix((("policy", 1.0), *named), differences=differences), specs)


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


def _decode_into(frames: list[Any], out: np.ndarray, camera: CameraSpec) -> None:
    """Decodes W pictures into out, uint8 [W, H, W', 3]."""
    decoded: dict[int, np.ndarray] = {}  # at an episode's start all W are the same picture
    for place, frame in enumerate(frames):
        if id(frame) not in decoded:
            pixels = decode_image(frame) if isinstance(frame, bytes) else frame
            decoded[id(frame)] = resize_image(pixels, camera.height, camera.width)
        out[place] = decoded[id(frame)]
