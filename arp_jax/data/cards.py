"""Dataset cards: what a published dataset holds and what its standardised episodes mean.

In: `datasets/cards/NAME.json`, or any such file. Out: `Card`. A card says where a dataset comes
from, lists the fields of its records as published, and declares observation and action of the
episodes that `standardize.py` makes of them. Datasets of this project declare the same in their
specs.json; their cards are for reading.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arp_jax.data.rlds import DatasetSpecs
from arp_jax.data.rtx_action import RTX, rtx_spec
from arp_jax.specs import ActionSpec, ObservationSpec

CARDS = Path(__file__).resolve().parents[2] / "datasets" / "cards"
_TEXTS = ("name", "description", "homepage", "license", "citation")
_KEYS = {*_TEXTS, "aliases", "notes", "fields", "observation", "action"}
# "e[512]" in a list of dimensions stands for e0 .. e511.
_REPEATED = re.compile(r"^(?P<stem>.+)\[(?P<count>\d+)\]$")


@dataclasses.dataclass(frozen=True)
class Card:
    """A dataset's card.

    Attributes:
        name: of the dataset, and of its function in `standardize.TRANSFORMS`.
        aliases: other names under which TFDS folders of it go.
        description, homepage, license, citation: for people.
        notes: traps, one sentence each.
        fields: raw fields, name -> type ("float32[7]", "image[480,640,3]:jpeg", "text", ...); a
            field of the whole episode begins with "/". Empty for datasets of this project.
        specs: observation and action of the standardised episodes.
        action_space: "" where actions are the dataset's own, "rtx" for those of RT-1-X
            (`rtx_action.py`); `load_card("bridge:rtx")` gives the latter.
    """

    name: str
    aliases: tuple[str, ...]
    description: str
    homepage: str
    license: str
    citation: str
    notes: tuple[str, ...]
    fields: Mapping[str, str]
    specs: DatasetSpecs
    action_space: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with numbered dimensions written short."""
        return {
            **{key: getattr(self, key) for key in _TEXTS},
            "aliases": list(self.aliases),
            "notes": list(self.notes),
            "fields": dict(self.fields),
            "observation": _shorten(self.specs.observation.to_json()),
            "action": self.specs.action.to_json(),
        }


def card_names() -> tuple[str, ...]:
    """Names of the cards that come with the project, sorted."""
    return tuple(sorted(path.stem for path in CARDS.glob("*.json")))


def load_card(card: str | Path) -> Card:
    """Reads a card by its name or from a file.

    A name followed by ":rtx" is that card with the actions of RT-1-X instead of its own.

    Raises:
        ValueError: there is no such card, or a key is missing, unknown or malformed.
    """
    base, _, space = str(card).partition(":")
    if space:
        return _with_actions(load_card(base), space)
    path = Path(card)
    if path.suffix != ".json":
        path = CARDS / f"{card}.json"
    if not path.is_file():
        raise ValueError(
            f"card {str(card)!r}: no file {path}; there are {', '.join(card_names())}, "
            "or give the path of a card of your own (docs/data.md)"
        )
    try:
        return _from_json(json.loads(path.read_text()))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error


def find_card(dataset_name: str) -> Card | None:
    """The card with this name or alias, or None."""
    if (CARDS / f"{dataset_name}.json").is_file():
        return load_card(dataset_name)
    for name in card_names():
        # Most cards are not it: look at the text before reading the specs.
        if f'"{dataset_name}"' in (CARDS / f"{name}.json").read_text():
            card = load_card(name)
            if dataset_name in card.aliases:
                return card
    return None


def _with_actions(card: Card, space: str) -> Card:
    """The card with another meaning of its actions."""
    if space != RTX:
        raise ValueError(f"card {card.name}:{space}: no action space {space!r}; there is {RTX!r}")
    action = rtx_spec(card.name, card.specs.action.rate_hz)
    specs = DatasetSpecs(card.specs.observation, action)
    return dataclasses.replace(card, specs=specs, action_space=space)


def _from_json(content: Mapping[str, Any]) -> Card:
    absent, unknown = sorted(_KEYS - set(content)), sorted(set(content) - _KEYS)
    if absent or unknown:
        raise ValueError(f"lacks key {absent[0]!r}" if absent else f"unknown key {unknown[0]!r}")
    observation = ObservationSpec.from_json(_lengthen(content["observation"]))
    specs = DatasetSpecs(observation, ActionSpec.from_json(content["action"]))
    texts = {key: str(content[key]) for key in _TEXTS}
    return Card(
        **texts,
        aliases=tuple(content["aliases"]),
        notes=tuple(content["notes"]),
        fields=dict(content["fields"]),
        specs=specs,
    )


def _lengthen(observation: Mapping[str, Any]) -> dict[str, Any]:
    """Writes out dimensions like "e[512]"."""
    features = []
    for feature in observation.get("features", ()):
        dims: list[str] = []
        for dim in feature["dims"]:
            match = _REPEATED.match(dim)
            if match is None:
                dims.append(dim)
            else:
                dims.extend(f"{match['stem']}{i}" for i in range(int(match["count"])))
        features.append({**feature, "dims": dims})
    return {**observation, "features": features}


def _shorten(observation: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_lengthen`, for features whose dimensions are one numbered stem."""
    features = []
    for feature in observation["features"]:
        dims = list(feature["dims"])
        stem = dims[0].rstrip("0123456789")
        if len(dims) > 16 and dims == [f"{stem}{i}" for i in range(len(dims))]:
            dims = [f"{stem}[{len(dims)}]"]
        features.append({**feature, "dims": dims})
    return {**observation, "features": features}
