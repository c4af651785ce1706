"""What fields an RLDS record holds: TFDS's `features.json` as a flat table.

In: the parsed JSON. Out: `{name: Field}`; names are paths joined by "/", fields of a step come
without the leading "steps/" ("observation/image", "action"), fields of the whole episode as they
are ("episode_metadata/seed"). No values are read here (that is `tf_example.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

STEPS = "steps"


@dataclass(frozen=True)
class Field:
    """One leaf of features.json.

    Attributes:
        path: nested keys of the field in a step (or in the episode).
        kind: "tensor", "image", "text" or "unsupported".
        shape: shape of one value; None stands for an unknown dimension.
        dtype: numpy dtype name, or "string".
        encoding: of a tensor: "none", "bytes" or "zlib".
        per_step: True when the field has one value per step.
        sequence: True for a list of values per episode (tfds `Sequence` outside the steps).
        class_name: the TFDS feature class, for messages.
    """

    path: tuple[str, ...]
    kind: str
    shape: tuple[int | None, ...]
    dtype: str
    encoding: str
    per_step: bool
    sequence: bool
    class_name: str

    @property
    def name(self) -> str:
        """Path joined by "/"."""
        return "/".join(self.path)

    @property
    def record_key(self) -> str:
        """Key of the field in the serialised record."""
        return f"{STEPS}/{self.name}" if self.per_step else self.name

    @property
    def stored_shape(self) -> bool:
        """Whether the record holds each value's shape beside it (two or more unknown dims)."""
        return self.kind == "tensor" and self.shape.count(None) >= 2


def fields_from_json(features: Mapping[str, Any]) -> dict[str, Field]:
    """Reads the tree of features.json into a table.

    Args:
        features: content of features.json.

    Raises:
        ValueError: the content has no features dict at its root.
    """
    if "featuresDict" not in features:
        raise ValueError("features.json has no 'featuresDict' at its root; is it a TFDS dataset?")
    fields: dict[str, Field] = {}
    _collect(features, (), False, False, fields)
    return fields


def select_fields(fields: Mapping[str, Field], names: Iterable[str] | None) -> list[Field]:
    """The fields called `names`; None selects all that can be read.

    A name is a field ("observation/image"), a group ("observation") or the bare name of an
    observation ("image").

    Raises:
        ValueError: a name matches nothing.
    """
    if names is None:
        return [f for f in fields.values() if f.kind != "unsupported"]
    chosen: dict[str, Field] = {}
    for name in names:
        matches = [f for key, f in fields.items() if key == name or key.startswith(f"{name}/")]
        if not matches and f"observation/{name}" in fields:
            matches = [fields[f"observation/{name}"]]
        if not matches:
            raise ValueError(f"no field {name!r}; there are {sorted(fields)}")
        chosen.update((f.name, f) for f in matches)
    return list(chosen.values())


def _collect(
    node: Mapping[str, Any],
    path: tuple[str, ...],
    per_step: bool,
    sequence: bool,
    fields: dict[str, Field],
) -> None:
    if "featuresDict" in node:
        for key, child in node["featuresDict"].get("features", {}).items():
            _collect(child, (*path, key), per_step, sequence, fields)
    elif "sequence" in node and path == (STEPS,):
        _collect(node["sequence"]["feature"], (), True, False, fields)
    elif "sequence" in node and not (per_step or sequence):
        _collect(node["sequence"]["feature"], path, False, True, fields)
    else:
        field = _leaf(node, path, per_step, sequence)
        fields[field.name] = field


def _leaf(node: Mapping[str, Any], path: tuple[str, ...], per_step: bool, sequence: bool) -> Field:
    kind, dtype, encoding = "unsupported", "string", "none"
    shape: tuple[int | None, ...] = ()
    if "image" in node:
        content = node["image"]
        kind, shape, dtype = "image", _shape(content), content.get("dtype", "uint8")
    elif "tensor" in node:
        content = node["tensor"]
        kind, shape, dtype = "tensor", _shape(content), content["dtype"]
        encoding = content.get("encoding") or "none"
    elif "text" in node:
        kind = "text"
    elif "classLabel" in node:
        kind, dtype = "tensor", "int64"
    if dtype in ("object", "str", "bytes"):
        dtype = "string"
    # One unknown dimension without a stored shape is serialised as ragged rows.
    if kind == "tensor" and None in shape and encoding == "none":
        kind = "unsupported"
    class_name = str(node.get("pythonClassName", "?")).rsplit(".", 1)[-1]
    return Field(path, kind, shape, dtype, encoding, per_step, sequence, class_name)


def _shape(content: Mapping[str, Any]) -> tuple[int | None, ...]:
    dimensions = [int(d) for d in content.get("shape", {}).get("dimensions", [])]
    return tuple(None if d < 0 else d for d in dimensions)
