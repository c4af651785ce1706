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
        encoding: of a tensor: "none", "bytes" or "zlib"; of an image: "png", "jpeg" or "".
        per_step: True when the field has one value (or one list of values) per step.
        lists: number of lists within lists that hold the values (tfds `Sequence`, `Video` or
            `Dataset`) below the step, or below the episode; 0 for a plain value.
        class_name: the TFDS feature class, for messages.
        optional: True when a record may lack the field.
    """

    path: tuple[str, ...]
    kind: str
    shape: tuple[int | None, ...]
    dtype: str
    encoding: str
    per_step: bool
    lists: int
    class_name: str
    optional: bool = False

    @property
    def name(self) -> str:
        """Path joined by "/"."""
        return "/".join(self.path)

    @property
    def record_key(self) -> str:
        """Key of the field in the serialised record."""
        return f"{STEPS}/{self.name}" if self.per_step else self.name

    @property
    def rank(self) -> int:
        """Number of leading dimensions of varying size: the steps and the lists."""
        return int(self.per_step) + self.lists

    @property
    def stored_shape(self) -> bool:
        """Whether the record holds each value's shape beside it (two or more unknown dims)."""
        return self.kind == "tensor" and self.shape.count(None) >= 2

    @property
    def value_key(self) -> str:
        """Key of the stored values; of lists within lists, of all their values end to end."""
        return self._flat(f"{self.record_key}/value" if self.stored_shape else self.record_key)

    @property
    def shape_key(self) -> str:
        """Key of the stored shapes of values with a `stored_shape`."""
        return self._flat(f"{self.record_key}/shape")

    def row_lengths_key(self, level: int) -> str:
        """Key of the sizes of the lists at depth `level` + 1, 0 .. rank-2."""
        return self.value_key.replace("/ragged_flat_values", f"/ragged_row_lengths_{level}")

    def _flat(self, key: str) -> str:
        return f"{key}/ragged_flat_values" if self.rank >= 2 else key


def fields_from_json(features: Mapping[str, Any]) -> dict[str, Field]:
    """Reads the tree of features.json into a table.

    Args:
        features: content of features.json.

    Raises:
        ValueError: the content has no features dict at its root.
    """
    if "featuresDict" not in features:
        raise ValueError(
            "features.json has no 'featuresDict' at its root; is it a TFDS dataset? (TFDS before "
            "4.5 wrote another form: open it once with a newer TFDS and call features.save_config)"
        )
    fields: dict[str, Field] = {}
    _collect(features, (), False, 0, fields)
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
    lists: int,
    fields: dict[str, Field],
) -> None:
    if "featuresDict" in node:
        for key, child in node["featuresDict"].get("features", {}).items():
            _collect(child, (*path, key), per_step, lists, fields)
    elif "translation" in node:
        for language in node["translation"].get("languages", []):
            _collect({"text": {}}, (*path, language), per_step, lists, fields)
    elif "sequence" in node and path == (STEPS,) and not per_step:
        _collect(node["sequence"]["feature"], (), True, 0, fields)
    elif "sequence" in node:
        _collect(node["sequence"]["feature"], path, per_step, lists + 1, fields)
    elif "video" in node:  # a list of encoded frames
        frame = dict(node["video"], shape={"dimensions": _shape(node["video"])[1:]})
        _collect({"image": frame}, path, per_step, lists + 1, fields)
    else:
        field = _leaf(node, path, per_step, lists)
        # An episode's field that is called like one of its steps' is hidden by it.
        if per_step or field.name not in fields:
            fields[field.name] = field


def _leaf(node: Mapping[str, Any], path: tuple[str, ...], per_step: bool, lists: int) -> Field:
    kind, dtype, encoding = "unsupported", "string", "none"
    shape: tuple[int | None, ...] = ()
    content: Mapping[str, Any] = {}
    if "image" in node:
        content = node["image"]
        kind, shape, dtype = "image", _shape(content), content.get("dtype", "uint8")
        encoding = content.get("encodingFormat", "")
    elif "tensor" in node:
        content = node["tensor"]
        kind, shape, dtype = "tensor", _shape(content), content["dtype"]
        encoding = content.get("encoding") or "none"
    elif "text" in node:
        kind = "text"
    elif "classLabel" in node:
        kind, dtype = "tensor", "int64"
    elif "boundingBox" in node:
        kind, shape, dtype = "tensor", (4,), "float32"
    if dtype in ("object", "str", "bytes"):
        dtype = "string"
    # Numbers of one unknown dimension are stored end to end: within a list nobody can tell where
    # one value ends.
    if kind == "tensor" and encoding == "none":
        unknown = shape.count(None)
        if unknown > 1 or (unknown == 1 and per_step + lists > 0):
            kind = "unsupported"
    class_name = str(node.get("pythonClassName", "?")).rsplit(".", 1)[-1]
    optional = bool(content.get("optional", False))
    return Field(path, kind, shape, dtype, encoding, per_step, lists, class_name, optional)


def _shape(content: Mapping[str, Any]) -> tuple[int | None, ...]:
    dimensions = (content.get("shape") or {}).get("dimensions", [])
    return tuple(None if d is None or int(d) < 0 else int(d) for d in dimensions)
