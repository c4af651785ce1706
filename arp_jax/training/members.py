"""The packs that a run trains on: one, or the members of a mixture.

Flows in: the `data` section and the policy's shape. Flows out: opened packs whose meanings agree,
the statistics that normalise them, loaders over them. With one pack that is a `Loader`, with a
mixture a `MixtureLoader`; both are pure functions of the config and of the packs' content. The
first member is the target. What mixes there are is `arp_jax.data.mixes`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arp_jax.data.draws import MEMBER, draw_bits
from arp_jax.data.examples import Examples
from arp_jax.data.loader import Loader
from arp_jax.data.mixes import Mix
from arp_jax.data.mixture_loader import MixtureLoader
from arp_jax.data.mixtures import MemberShare, check_agreement, member_shares
from arp_jax.data.stats_cache import merged_pack_stats
from arp_jax.data.store import Pack
from arp_jax.data.task import EMBEDDING
from arp_jax.normalize import Normalizer, Stats
from arp_jax.specs import PolicySpec
from arp_jax.training.data_config import BUILT_IN, DataConfig
from arp_jax.training.packs import pack_spec, prepare_pack


@dataclasses.dataclass(frozen=True)
class Members:
    """Opened packs.

    Attributes:
        packs: the target first.
        specs: the signature that each gives; they agree in all but what the mix permits.
        stats: what normalises all of them.
        mix: None where there is one pack and no mixture.
        notes: in what each member differs from the target.
    """

    packs: tuple[Pack, ...]
    specs: tuple[PolicySpec, ...]
    stats: Stats
    mix: Mix | None = None
    notes: tuple[tuple[str, ...], ...] = ()

    @property
    def instructions(self) -> tuple[str, ...]:
        """All distinct instructions; what the indices in a batch point into."""
        return tuple(dict.fromkeys(text for pack in self.packs for text in pack.instructions))


def built_in_source(run_dir: Path, name: str) -> Path:
    """Where the writers of `BUILT_IN` datasets put theirs: RUN/name/1.0.0."""
    return run_dir / name / "1.0.0"


def source_places(data: DataConfig, run_dir: Path) -> list[str]:
    """Paths or URLs of the dataset, or of the members of a mixture."""
    if data.mix is not None:
        names = [name for name, _ in data.mix.members]
        if "://" in data.source:
            return [f"{data.source.rstrip('/')}/{name}" for name in names]
        return [str(Path(data.source) / name) for name in names]
    built_in = data.source in BUILT_IN
    return [str(built_in_source(run_dir, data.source)) if built_in else data.source]


def open_members(
    data: DataConfig, observations: Sequence[str], shape: tuple[int, int, int], run_dir: Path
) -> Members:
    """Opens or packs what the `data` section names.

    Args:
        data: the section.
        observations: names that the policy sees.
        shape: (window, horizon, action_offset) of the policy.
        run_dir: where built-in data and packs are.

    Raises:
        ValueError: nothing usable at a path.
        SpecMismatch: two members mean different things; names member and field.
    """
    target = Path(data.pack_dir) if data.pack_dir else run_dir / "pack"
    budget, mix = data.memory_budget_mb << 20, data.mix
    sources = source_places(data, run_dir)
    if mix is None:
        pack = prepare_pack(sources[0], target, data, observations, budget)
        return Members((pack,), (pack_spec(pack, observations, shape),), pack.stats)
    packs = []
    for source, (name, _) in zip(sources, mix.members, strict=True):
        place = target / name.strip("/").replace("/", "_")
        share = budget // len(mix.members)
        packs.append(prepare_pack(source, place, data, observations, share, mix.action_space))
    specs = [pack_spec(pack, observations, shape) for pack in packs]
    notes = check_agreement(mix, [(spec.observation, spec.action) for spec in specs])
    vectors = [*(feature.name for feature in specs[0].observation.features), "action"]
    stats = mixture_stats(mix, packs, vectors, target)
    return Members(tuple(packs), tuple(specs), stats, mix, tuple(tuple(n) for n in notes))


def mixture_stats(mix: Mix, packs: Sequence[Pack], names: Sequence[str], cache_dir: Path) -> Stats:
    """Statistics of the members that the mix names, of all where it names none."""
    members = [name for name, _ in mix.members]
    chosen = [packs[members.index(name)] for name in mix.stats] or packs
    return chosen[0].stats if len(chosen) == 1 else merged_pack_stats(chosen, names, cache_dir)


class Loaders:
    """Makes the loaders of a run."""

    def __init__(
        self,
        members: Members,
        data: DataConfig,
        normalizer: Normalizer,
        batch_size: int,
        seed: int,
    ) -> None:
        self._members, self._normalizer = members, normalizer
        self._batch_size, self._seed = batch_size, seed
        horizon = members.specs[0].horizon
        self._options: dict[str, Any] = {
            "pad_after": data.padding(horizon),
            "stride": data.stride,
            "task": data.task,
            "instructions": members.instructions,
            # A batch has the vectors of all of its examples or of none.
            "embedding": len({pack.shapes.get(EMBEDDING) for pack in members.packs}) == 1,
        }
        self._host = (jax.process_index(), jax.process_count())

    def target(self, episodes: np.ndarray) -> Loader:
        """Batches of these episodes of the target alone."""
        return Loader(
            self._members.packs[0],
            self._members.specs[0],
            self._normalizer,
            self._batch_size,
            self._seed,
            host=self._host,
            episodes=episodes,
            **self._options,
        )

    def mixture(self, episodes: np.ndarray) -> tuple[MixtureLoader, list[MemberShare]]:
        """Batches of these episodes of the target and of all episodes of the other members."""
        members, mix = self._members, self._members.mix
        assert mix is not None
        # Each member has an order of its own, drawn from the run's seed.
        indices = np.arange(len(members.packs))
        seeds = draw_bits(self._seed, MEMBER, np.zeros(len(indices), np.int64), indices)
        examples = [
            Examples(
                pack,
                members.specs[index],
                self._normalizer,
                int(seeds[index]) >> 1,
                episodes=None if index else episodes,
                **self._options,
            )
            for index, pack in enumerate(members.packs)
        ]
        trained = [len(episodes), *(pack.num_episodes for pack in members.packs[1:])]
        shares = member_shares(mix, trained, [len(e) for e in examples], members.notes)
        counts = [share.count for share in shares]
        loader = MixtureLoader(examples, counts, self._batch_size, self._seed, host=self._host)
        return loader, shares


def content_hash(members: Members, shares: Sequence[MemberShare]) -> str:
    """Identifies the data: of one pack its own hash, of a mixture that of all and their shares."""
    if members.mix is None:
        return members.packs[0].content_hash
    identity = [[pack.content_hash for pack in members.packs], [share.count for share in shares]]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()
