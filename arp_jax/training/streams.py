"""The datasets that a run streams: opened, surveyed, divided into training and held-out episodes.

Flows in: the `data` section and the policy's shape. Flows out: `Streams`: members, the `PolicySpec`
that the target gives, exact statistics, and what there is to train on. Packs are `members.py`; how
a stream is read is `arp_jax.data.stream`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from arp_jax.data.loader import train_validation_split
from arp_jax.data.mixes import Mix
from arp_jax.data.mixtures import MemberShare, check_agreement, member_shares, raw_shares
from arp_jax.data.pack import parse_resize
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.source import Source, open_source
from arp_jax.data.store import META_FILE
from arp_jax.data.stream_member import StreamMember
from arp_jax.data.stream_survey import identity, survey
from arp_jax.data.streamed import StreamedBatches
from arp_jax.data.windows import window_table
from arp_jax.normalize import Normalizer, Stats
from arp_jax.specs import ObservationSpec, PolicySpec
from arp_jax.training.data_config import DataConfig
from arp_jax.training.members import source_places
from arp_jax.training.packs import action_card, find_folder, policy_spec

# Where a run keeps what it found out about streamed data, within the run directory.
FOLDER = "stream"


@dataclasses.dataclass(frozen=True)
class Streams:
    """Opened datasets, the target first.

    Attributes:
        training: datasets, shares and parts of splits that are trained on.
        held_out: the target's last episodes; None where none are held out.
        spec: the policy's signature.
        stats: what normalises all of them; of whole splits, held-out episodes too, as a pack's.
        train_episodes, validation_episodes: numbers of the target's episodes within its split.
        train_examples: of all members; None where one of them was not counted.
        validation_examples: of the target.
        shares: the members of a mixture; empty without one.
        content_hash: identifies the data, see `stream_survey.identity`.
    """

    training: tuple[StreamMember, ...]
    held_out: StreamMember | None
    spec: PolicySpec
    stats: Stats
    train_episodes: np.ndarray
    validation_episodes: np.ndarray
    train_examples: int | None
    validation_examples: int
    shares: tuple[MemberShare, ...]
    content_hash: str

    def batches(
        self, data: DataConfig, normalizer: Normalizer, batch_size: int, seed: int
    ) -> tuple[StreamedBatches, StreamedBatches | None]:
        """Batches of training and of held-out episodes; raises as `Streamer` does."""
        host = (jax.process_index(), jax.process_count())
        config = data.streaming(self.spec.horizon)

        def of(members: tuple[StreamMember, ...]) -> StreamedBatches:
            return StreamedBatches(members, self.spec, normalizer, batch_size, seed, host, config)

        return of(self.training), None if self.held_out is None else of((self.held_out,))


def open_streams(
    data: DataConfig, observations: Sequence[str], shape: tuple[int, int, int], run_dir: Path
) -> Streams:
    """Opens the datasets that the `data` section names and reads, once, what must be counted.

    The target is counted, and whatever gives statistics or, with weights by step, a share. Other
    members are not read before training.

    Args:
        data: the section.
        observations: names that the policy sees.
        shape: (window, horizon, action_offset) of the policy.
        run_dir: where built-in data are, and the statistics.

    Raises:
        ImportError: TensorFlow is missing and would be used.
        ValueError: nothing usable at a path, or an episode that cannot be read.
        SpecMismatch: two members mean different things; names member and field.
    """
    members, spec, notes = open_members(data, observations, shape, run_dir)
    identities = [identity(member.source, member.split) for member in members]
    found = survey(
        members,
        identities,
        [feature.name for feature in spec.observation.features],
        *_surveyed(data.mix),
        Path(data.pack_dir) if data.pack_dir else run_dir / FOLDER,
        data.stream_reader,
        jax.process_index() == 0,
    )
    training, held_out, (first, last) = divide(members[0], data)
    lengths = list(found.lengths)
    target = lengths[0]
    assert target is not None  # the target is always counted
    lengths[0] = target[first]
    examples = [None if n is None else count_windows(n, spec, data) for n in lengths]
    counted = [n for n in examples if n is not None]
    shares, weights = [], [1.0]
    if data.mix is not None:
        others = [member.source.num_episodes(member.split) for member in members[1:]]
        sizes = ([len(first), *others], examples)
        shares = member_shares(data.mix, *sizes, notes)
        weights = raw_shares(data.mix, *sizes).tolist()
    return Streams(
        training=tuple(
            dataclasses.replace(member, share=weight)
            for member, weight in zip([training, *members[1:]], weights, strict=True)
        ),
        held_out=held_out,
        spec=spec,
        stats=found.stats,
        train_episodes=first,
        validation_episodes=last,
        train_examples=sum(counted) if len(counted) == len(members) else None,
        validation_examples=count_windows(target[last], spec, data) if held_out else 0,
        shares=tuple(shares),
        content_hash=content_hash(identities, shares),
    )


def open_members(
    data: DataConfig, observations: Sequence[str], shape: tuple[int, int, int], run_dir: Path
) -> tuple[list[StreamMember], PolicySpec, list[list[str]]]:
    """Members with their whole splits, the target's signature, notes on differences from it."""
    space = data.mix.action_space if data.mix is not None else ""
    sources = [open_member(place, data, space) for place in source_places(data, run_dir)]
    specs = [
        policy_spec(source.path, _resized(source, observations, data.resize), observations, shape)
        for source in sources
    ]
    notes: list[list[str]] = []
    if data.mix is not None:
        notes = check_agreement(data.mix, [(spec.observation, spec.action) for spec in specs])
    return [StreamMember(source, split=data.split) for source in sources], specs[0], notes


def _surveyed(mix: Mix | None) -> tuple[list[int], list[int]]:
    """Indices of the members that give statistics, and of those whose steps are counted."""
    if mix is None:
        return [0], [0]
    names = [name for name, _ in mix.members]
    every = list(range(len(names)))
    of_stats = [names.index(name) for name in mix.stats] or every
    return of_stats, every if mix.weighting == "step" else [0]


def open_member(place: str, data: DataConfig, action_space: str) -> Source:
    """The RLDS dataset at a path or URL, with the actions of the mixture's space."""
    folder = find_folder(place, data)
    if (folder / META_FILE).is_file():
        raise ValueError(
            f"config.data.stream: {folder} is a pack and read as one; set stream to False, or name "
            "the RLDS dataset that it was made of"
        )
    source = open_source(str(folder))
    card = action_card(source, action_space)
    return source if card is None else open_source(source.dataset, card)


def divide(
    target: StreamMember, data: DataConfig
) -> tuple[StreamMember, StreamMember | None, tuple[np.ndarray, np.ndarray]]:
    """Cuts the last episodes off the split.

    A stream is read shard by shard: held-out episodes strewn over all of them would be read with
    the others. Public sets are stored in random order; in others the last episodes may be alike.

    Returns:
        Training and held-out part (None where nothing is held out), and the numbers of the
        episodes of each within the split.
    """
    name, start, stop = target.source.dataset.resolve(target.split)
    chosen, held = train_validation_split(
        stop - start, data.held_out_fraction, data.split_seed, data.max_train_episodes or None
    )
    numbers = np.arange(stop - start)
    first, last = numbers[: len(chosen)], numbers[stop - start - len(held) :]
    training = dataclasses.replace(target, split=f"{name}[{start}:{start + len(first)}]")
    if not len(held):
        return training, None, (first, last)
    held_out = dataclasses.replace(target, split=f"{name}[{stop - len(held)}:{stop}]")
    return training, held_out, (first, last)


def count_windows(lengths: np.ndarray, spec: PolicySpec, data: DataConfig) -> int:
    """Examples of episodes of these lengths; raises ValueError where there are none."""
    shape = (spec.window, spec.horizon, spec.action_offset)
    return len(window_table(lengths, *shape, data.padding(spec.horizon), None, data.stride))


def content_hash(identities: Sequence[str], shares: Sequence[MemberShare]) -> str:
    """Identifies the data: what each member holds, and the shares of a mixture."""
    content = json.dumps(["stream", list(identities), [share.count for share in shares]])
    return hashlib.sha256(content.encode()).hexdigest()


def _resized(source: Source, observations: Sequence[str], resize: str) -> DatasetSpecs:
    """The source's specs, cameras in the sizes that are asked for."""
    sizes = parse_resize(resize)
    for name in sizes:
        if name not in observations:
            raise ValueError(f"resize: no camera {name!r} among {list(observations)}")
    cameras = tuple(
        dataclasses.replace(camera, height=sizes[camera.name][0], width=sizes[camera.name][1])
        if camera.name in sizes
        else camera
        for camera in source.specs.observation.cameras
    )
    observation: ObservationSpec = dataclasses.replace(source.specs.observation, cameras=cameras)
    return DatasetSpecs(observation, source.specs.action)
