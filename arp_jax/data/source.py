"""A dataset on disk as canonical episodes, whoever made it.

In: a TFDS folder and, for foreign ones, a card. Out: episodes

    {"observation": {feature: float32 [T, D], camera: uint8 [T, H, W, 3] or encoded [T]},
     "action": float32 [T, A], "language": the episode's instructions, "metadata": {...},
     "reward": float32 [T], "is_first" | "is_last" | "is_terminal": bool [T]   (where stored)}

in the units and under the names that `Source.specs` declares. Packing, streaming, checking and
viewing start here. Conventions of single datasets are in `standardize.py`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from arp_jax.data.cards import Card, find_card, load_card
from arp_jax.data.open_x import instructions
from arp_jax.data.rlds import SPECS_FILE, DatasetSpecs, Episode, RldsDataset, open_dataset
from arp_jax.data.rlds_features import select_fields
from arp_jax.data.rlds_tfds import open_remote
from arp_jax.data.standardize import raw_fields, standardize, stored_size
from arp_jax.data.tf_example import parse_episode

METADATA = "episode_metadata"
_FLAGS = ("is_first", "is_last", "is_terminal")
# Instructions of one episode under several keys, as DROID stores them.
LANGUAGE_KEYS = ("language_instruction", "language_instruction_2", "language_instruction_3")


@dataclasses.dataclass(frozen=True)
class Source:
    """An opened dataset.

    Attributes:
        dataset: the raw folder.
        card: of a foreign dataset; None where specs.json says everything.
        specs: what the numbers of the canonical episodes mean.
    """

    dataset: RldsDataset
    card: Card | None
    specs: DatasetSpecs

    @property
    def path(self) -> Path:
        """The folder."""
        return self.dataset.path

    @property
    def splits(self) -> dict[str, int]:
        """Number of episodes of each split."""
        return self.dataset.splits

    def num_episodes(self, split: str) -> int:
        """Number of episodes of a split or of a part of it ("train[:90]")."""
        return self.dataset.num_episodes(split)

    def episodes(
        self, split: str, names: Iterable[str] | None = None, decode_images: bool = True
    ) -> Iterator[Episode]:
        """Yields canonical episodes in stored order.

        Args:
            split: name, or a part of it ("train[10:90]").
            names: observations wanted; None takes those of the specs. Others that the folder
                stores may be named too where it needs no card.
            decode_images: False leaves pictures encoded: object arrays [T] of bytes.

        Raises:
            ValueError: unknown split or observation (at the call); what `RldsDataset.episodes`
                and `standardize` raise (while iterating).
        """
        wanted = self._wanted(names)
        raw = self.dataset.episodes(split, self._select(wanted), decode_images)
        return (self._canonical(episode, wanted) for episode in raw)

    def record_parser(self, names: Iterable[str] | None = None) -> Callable[[bytes], Episode]:
        """What makes a canonical episode, its pictures encoded, of a serialised record.

        Args:
            names: as for `episodes`.

        Raises:
            ValueError: unknown observation (at the call); what `parse_episode` and `standardize`
                raise (when the parser is called).
        """
        wanted = self._wanted(names)
        fields = select_fields(self.dataset.features, self._select(wanted))
        return lambda record: self._canonical(parse_episode(record, fields, False), wanted)

    def _wanted(self, names: Iterable[str] | None) -> tuple[str, ...]:
        known = list(self.specs.observation.names)
        if not self.card:
            stored = (n.split("/", 1) for n in self.dataset.features)
            known += [n[1] for n in stored if n[0] == "observation" and n[1] not in known]
        wanted = self.specs.observation.names if names is None else tuple(dict.fromkeys(names))
        for name in wanted:
            if name not in known:
                raise ValueError(f"{self.path}: no observation {name!r}; there are {known}")
        return wanted

    def _select(self, wanted: tuple[str, ...]) -> list[str]:
        """Raw fields that canonical episodes are made of; no pictures that nobody asked for."""
        if self.card is not None:
            needed = raw_fields(self.card, self._cameras(wanted))
            return [name for name in needed if name in self.dataset.features]
        fields = [*(f"observation/{name}" for name in wanted), "action"]
        optional = (*_FLAGS, "reward", *LANGUAGE_KEYS)
        fields += [name for name in optional if name in self.dataset.features]
        metadata = [n for n in self.dataset.features if n.startswith(f"{METADATA}/")]
        return fields + metadata

    def _cameras(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(c.name for c in self.specs.observation.cameras if c.name in wanted)

    def _canonical(self, episode: Episode, wanted: tuple[str, ...]) -> Episode:
        if self.card is not None:
            episode = standardize(episode, self.card, self._cameras(wanted))
            return {**episode, "observation": {n: episode["observation"][n] for n in wanted}}
        language = instructions(episode.pop(key) for key in LANGUAGE_KEYS if key in episode)
        metadata = episode.pop(METADATA, {})
        # Where no observation is wanted the folder gives none.
        return {"observation": {}, **episode, "language": language, "metadata": metadata}


def open_source(path: str | Path | RldsDataset, card: str | Path | Card | None = None) -> Source:
    """Opens a TFDS folder as canonical episodes.

    Args:
        path: the folder with features.json, its URL ("gs://...", see `rlds_tfds.py`), or the
            opened dataset.
        card: of the dataset: a name, a file, or itself. None takes the folder's specs.json or, by
            the dataset's name, a card of the project.

    Raises:
        ValueError: what `open_dataset` and `load_card` raise; or nobody says what the numbers mean.
    """
    dataset = path if isinstance(path, RldsDataset) else _open(path)
    if card is None and dataset.specs is not None:
        return Source(dataset, None, dataset.specs)
    found = card if isinstance(card, Card) else load_card(card) if card else find_card(dataset.name)
    if found is None:
        raise ValueError(
            f"{dataset.path}: nothing says what the numbers of {dataset.name!r} mean: no "
            f"{SPECS_FILE} in the folder and no card of that name; write one (docs/data.md) and "
            "give it with --card FILE.json"
        )
    if not found.fields:  # the folder has the card's names and units already
        return Source(dataset, None, found.specs)
    observation = stored_size(found, dataset.features)
    return Source(dataset, found, DatasetSpecs(observation, found.specs.action))


def _open(path: str | Path) -> RldsDataset:
    if not (isinstance(path, str) and "://" in path):
        return open_dataset(path)
    try:
        return open_remote(path)
    except ImportError as error:  # one line for a user of a command
        raise ValueError(f"{path}: {error}") from error
