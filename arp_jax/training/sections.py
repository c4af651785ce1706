"""A config section becomes a frozen dataclass.

Flows in: a section of the config (mapping of plain values). Flows out: an instance of the
component's dataclass. An unknown key fails at start-up with its full name, so a misspelt option can
never be silently ignored. Not a config system: files and flags are ml_collections' business.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def check_keys(found: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raises ValueError naming the first key of `found` that is not in `known`."""
    known = sorted(known)
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
            raise ValueError(f"{where}.{key} is not a config key; {hint}")


def read_section(cls: type[T], section: Mapping[str, Any], where: str) -> T:
    """Builds the dataclass `cls` from a config section.

    Args:
        cls: a dataclass; its field names are the known keys.
        section: plain values; lists become tuples so that the result stays hashable.
        where: name of the section in messages, e.g. "config.train".

    Raises:
        ValueError: for an unknown or an absent key, or a value that `cls` refuses.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    check_keys(section, [f.name for f in fields], where)
    for field in fields:
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and field.name not in section:
            raise ValueError(f"{where}.{field.name} is missing; add it to the config file")
    try:
        return cls(**{key: _frozen(value) for key, value in section.items()})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
