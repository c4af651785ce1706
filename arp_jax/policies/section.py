"""A policy's config section becomes its frozen dataclass, and the checks that such classes share.

Flows in: plain values and the dataclass. Flows out: an instance, or one ValueError that names the
key. Called by the `*Config` classes of the policies. Not `training.sections`: that reads the other
sections, and policies may not import training.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def from_section(cls: type[T], section: Mapping[str, Any], policy: str, where: str = "policy") -> T:
    """Builds the options `cls` of a policy from a config section (lists become tuples).

    Args:
        cls: a dataclass; its field names are the known keys.
        section: plain values.
        policy: name of the policy, for messages.
        where: name of the section, for messages.

    Raises:
        ValueError: an unknown key, with the known ones, or a value that `cls` refuses.
    """
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(section) - known)
    if unknown:
        raise ValueError(f"{where}.{unknown[0]} is no option of {policy}; known: {sorted(known)}")
    return cls(**{key: _frozen(value) for key, value in section.items()})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def check_choices(config: Any, choices: Mapping[str, Collection[Any]]) -> None:
    """Raises ValueError for the first key whose value is none of its choices."""
    for key, known in choices.items():
        if getattr(config, key) not in known:
            raise ValueError(f"policy.{key} {getattr(config, key)!r}: choose one of {known}")


def check_at_least_one(config: Any, keys: Iterable[str]) -> None:
    """Raises ValueError for the first of the numbers `keys` that is below 1."""
    for key in keys:
        if getattr(config, key) < 1:
            raise ValueError(f"policy.{key} must be at least 1, found {getattr(config, key)}")


def check_positive(config: Any, keys: Iterable[str]) -> None:
    """Raises ValueError for the first of the numbers `keys` that is not above 0."""
    for key in keys:
        if not getattr(config, key) > 0:
            raise ValueError(f"policy.{key} must be positive, found {getattr(config, key)}")


def check_width(embed_dim: int, heads: int) -> None:
    """Raises ValueError when a model that places points in the plane cannot have this width."""
    if embed_dim % heads or embed_dim % 4:
        raise ValueError(
            f"policy.embed_dim {embed_dim} must be a multiple of 4 and of policy.heads {heads}"
        )
