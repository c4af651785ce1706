"""Flags that the conversion commands (`datasets/convert_*.py`) share, and what they mean.

In: a parser, then its flags. Out: names, units, sentences and picture coding in the terms of
`array_episodes.py` and `measured_specs.py`. Nothing is read here except a file of sentences;
`conversion_run.py` does the rest of what such a command does.
"""

import argparse
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arp_jax.data.formats.array_episodes import Naming, PictureCoding
from arp_jax.data.formats.measured_specs import Meaning
from arp_jax.data.images import IMAGE_FORMATS, JPEG_QUALITY

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


def command_parser(description: str | None, default_name: str) -> argparse.ArgumentParser:
    """A parser with the flags about the result; `--help` prints the script's docstring."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="data folder; the result is OUT/NAME/1.0.0")
    add("--name", default=default_name, help="of the dataset; default %(default)s")
    add("--language", default="", help="the instruction of all episodes")
    add(
        "--language_file",
        type=Path,
        help='JSON {"EPISODE": "instruction"}; --language is for those that it lacks',
    )
    add("--workers", type=int, default=0, help="processes; default: one a core")
    add("--per_shard", type=int, default=0, help="episodes in a file; default: by their number")
    add("--license", default="", help="stored with the dataset")
    add("--traceback", action="store_true", help="show the traceback of wrong usage")
    return parser


def add_format_flag(parser: argparse.ArgumentParser, default: str | None) -> None:
    """--image_format and --quality, for commands that encode pictures."""
    parser.add_argument(
        "--quality", type=int, default=JPEG_QUALITY, help="of JPEG; default %(default)s"
    )
    parser.add_argument(
        "--image_format",
        choices=IMAGE_FORMATS,
        default=default,
        help="of stored pictures: png is exact, jpeg small; default "
        + (default or "as the source stores them"),
    )


def add_naming_flags(parser: argparse.ArgumentParser, action: str | None) -> None:
    """Flags that say what becomes of the source's arrays; `action` is the default for --action."""
    add = parser.add_argument
    add(
        "--camera",
        action="append",
        default=[],
        metavar="SOURCE[=NAME]",
        help="pictures to store, under a new name; several times; default: all that are found",
    )
    add(
        "--vector",
        action="append",
        default=[],
        metavar="SOURCE[,SOURCE...][=NAME]",
        help="numbers to store, side by side where several; several times; default: all found",
    )
    add("--state", metavar="SOURCE[,SOURCE...]", help="short for --vector SOURCE,...=state")
    if action is not None:
        add("--action", default=action, help="array(s) of actions; default %(default)s")
    add_meaning_flags(parser)


def add_meaning_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say what numbers are, and --specs, which says all of it at once."""
    add = parser.add_argument
    for flag, example in (("unit", "m"), ("frame", "base"), ("dims", "x,y,z")):
        add(
            f"--{flag}",
            action="append",
            default=[],
            metavar=f"NAME={flag.upper()}",
            help=f"of a vector or of the action, e.g. action={example}; without NAME=: of all",
        )
    add("--gripper", choices=("open=1", "open=0"), help="what the action's gripper value means")
    add("--relative", action="store_true", help="actions are changes, not targets")
    add(
        "--specs",
        type=Path,
        help="specs.json (or dataset folder) that says all this, e.g. of a set to join",
    )


@dataclasses.dataclass(frozen=True)
class Sentences:
    """Instructions by the episode's name, and the one of all other episodes ("" = none)."""

    default: str = ""
    by_episode: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def of(self, episode: str) -> str:
        """The instruction of an episode."""
        return self.by_episode.get(episode, self.default)

    @property
    def given(self) -> bool:
        """Whether there are any."""
        return bool(self.default or self.by_episode)

    def check(self, episodes: Sequence[str]) -> None:
        """Raises ValueError for a sentence of an episode that does not exist."""
        for name in self.by_episode:
            if name not in set(episodes):
                raise ValueError(
                    f"--language_file: no episode {name!r}; there are {', '.join(episodes[:5])}"
                    + (", ..." if len(episodes) > 5 else "")
                )


def sentences_of(flags: argparse.Namespace) -> Sentences:
    """What --language and --language_file say; raises ValueError for an unusable file."""
    if flags.language_file is None:
        return Sentences(flags.language)
    try:
        content = json.loads(flags.language_file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"--language_file {flags.language_file}: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise ValueError(f'--language_file {flags.language_file}: expected {{"EPISODE": "text"}}')
    return Sentences(flags.language, content)


def coding_of(flags: argparse.Namespace, default: str = "png") -> PictureCoding:
    """What --image_format and --quality say."""
    if not 1 <= flags.quality <= 100:
        raise ValueError(f"--quality must be in 1..100, found {flags.quality}")
    return PictureCoding(flags.image_format or default, flags.quality)


def naming_of(
    flags: argparse.Namespace,
    vectors: Mapping[str, str],
    cameras: Mapping[str, str],
    reward: str | None = None,
) -> Naming:
    """What --camera, --vector, --state and --action say.

    Args:
        flags: parsed; `action` is set, by a flag or by the command.
        vectors, cameras: source array -> the name it gets where no flag gives one; where no flag
            names any array, all of them are taken.
        reward: source array, or None.

    Raises:
        ValueError: a malformed name, or one given twice.
    """
    named = [_pair("--vector", text, vectors) for text in flags.vector]
    if flags.state:
        named.insert(0, (flags.state, "state"))
    pictures = [_pair("--camera", text, cameras) for text in flags.camera]
    named, pictures = named or list(vectors.items()), pictures or list(cameras.items())
    seen: set[str] = set()
    for _, name in (*named, *pictures):
        if not _NAME.match(name):
            raise ValueError(f"name {name!r}: use small letters, digits and _; write SOURCE=NAME")
        if name in seen:
            raise ValueError(f"name {name!r} is given to two observations")
        seen.add(name)
    return Naming(
        vectors={name: tuple(source.split(",")) for source, name in named},
        cameras={name: source for source, name in pictures},
        action=tuple(flags.action.split(",")),
        reward=reward,
    )


def meanings_of(flags: argparse.Namespace, defaults: Mapping[str, Meaning]) -> dict[str, Meaning]:
    """What --unit, --frame and --dims say about the features (and "action") of `defaults`.

    Raises:
        ValueError: a name that does not exist.
    """
    result = dict(defaults)
    for field in ("unit", "frame", "dims"):
        for text in getattr(flags, field):
            name, separator, value = text.partition("=")
            if not separator:
                name, value = "", text
            if name and name not in result:
                raise ValueError(f"--{field} {text}: no {name!r}; there are {sorted(result)}")
            chosen: Any = tuple(value.split(",")) if field == "dims" else value
            for key in [name] if name else list(result):
                result[key] = dataclasses.replace(result[key], **{field: chosen})
    return result


def _pair(flag: str, text: str, defaults: Mapping[str, str]) -> tuple[str, str]:
    """SOURCE[=NAME]; without a name, the default's or the source's own."""
    source, separator, name = text.partition("=")
    if not source or (separator and not name) or (not separator and "," in source):
        raise ValueError(f"{flag} {text}: write SOURCE=NAME")
    return source, name or defaults.get(source, source)
