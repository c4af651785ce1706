"""One small pure function per public dataset: raw episode -> canonical episode.

In: an episode as `RldsDataset.episodes` yields it, and the dataset's card. Out: the episode in the
units, names and conventions that the card declares (see `source.py`). Pictures are only renamed,
decoded or not. Nothing is normalised here.
"""

from collections.abc import Callable, Mapping

from arp_jax.data.cards import Card
from arp_jax.data.rlds import Episode

TRANSFORMS: Mapping[str, Callable[[Episode], Episode]] = {}


def standardize(raw: Episode, card: Card) -> Episode:
    """The canonical form of a raw episode.

    Raises:
        ValueError: no function for the card, or the episode lacks a field (names both).
    """
    if card.name not in TRANSFORMS:
        raise ValueError(f"card {card.name!r}: no function of that name in standardize.py")
    try:
        return TRANSFORMS[card.name](raw)
    except KeyError as error:
        raise ValueError(f"{card.name}: the episode has no field {error}") from error
