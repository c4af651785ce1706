"""Raw episodes of a public dataset made canonical, and what that takes of its files.

In: an episode as `RldsDataset.episodes` yields it, and the dataset's card. Out: the episode in the
units, names and conventions that the card declares (see `source.py`). What is done for each dataset
stands in `open_x.py`, one function each.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from arp_jax.data.cards import Card
from arp_jax.data.open_x import CAMERAS, TRANSFORMS
from arp_jax.data.rlds import Episode
from arp_jax.data.rlds_features import Field
from arp_jax.data.rtx_action import RTX, rtx_action
from arp_jax.specs import ObservationSpec


def standardize(raw: Episode, card: Card, cameras: Iterable[str] | None = None) -> Episode:
    """The canonical form of a raw episode.

    Args:
        raw: the episode; pictures may be decoded or not.
        card: of its dataset.
        cameras: canonical names of those that must be there; None stands for all on the card.

    Raises:
        ValueError: no function for the card; or the episode lacks a field, or one has another
            type or size than the card says. The message names card and field.
    """
    if card.name not in TRANSFORMS:
        raise ValueError(f"card {card.name!r}: no function of that name in open_x.py")
    try:
        episode = TRANSFORMS[card.name](raw)
        if card.action_space == RTX:
            episode = {**episode, "action": rtx_action(card.name, raw)}
        _check(episode, card, CAMERAS[card.name] if cameras is None else cameras)
    except KeyError as error:
        raise ValueError(f"{card.name}: the episode has no field {error}") from error
    except (ValueError, IndexError) as error:
        raise ValueError(f"{card.name}: {error}; is it another release of the dataset?") from error
    return episode


def raw_fields(card: Card, cameras: Iterable[str]) -> tuple[str, ...]:
    """Raw fields that `standardize` reads when only these canonical cameras are wanted.

    Leaves out other pictures and depth maps, most of what an episode's decoding costs. Names are
    `rlds_features.Field.name`s; a folder of an older release may lack some of them.
    """
    wanted = {f"observation/{CAMERAS[card.name][camera]}" for camera in cameras}
    names = ((name.removeprefix("/"), kind) for name, kind in card.fields.items())
    return tuple(
        name
        for name, kind in names
        if name in wanted or not (kind.startswith("image") or "depth" in name)
    )


def stored_size(card: Card, features: Mapping[str, Field]) -> ObservationSpec:
    """The card's observation with the cameras as large as a folder's features.json says.

    Copies of public sets are often made smaller. Sizes that features.json leaves open stay the
    card's.
    """
    cameras = []
    for camera in card.specs.observation.cameras:
        field = features.get(f"observation/{CAMERAS[card.name][camera.name]}")
        height, width = field.shape[:2] if field is not None else (None, None)
        cameras.append(
            dataclasses.replace(camera, height=height or camera.height, width=width or camera.width)
        )
    return dataclasses.replace(card.specs.observation, cameras=tuple(cameras))


def _check(episode: Episode, card: Card, cameras: Iterable[str]) -> None:
    """Compares names and sizes with the card."""
    observation = episode["observation"]
    for camera in cameras:
        if camera not in observation:
            raise KeyError(f"observation/{CAMERAS[card.name][camera]}")
    sizes = {f.name: (observation[f.name], f.size) for f in card.specs.observation.features}
    sizes["action"] = (episode["action"], card.specs.action.size)
    for name, (values, size) in sizes.items():
        if values.shape[1] != size:
            raise ValueError(f"{name} has {values.shape[1]} numbers a step, the card says {size}")
