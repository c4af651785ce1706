"""The compiled form of an artifact's policy, read with or without flatbuffers.

An `Exported` of `jax.export` flows in; policy.stablehlo and a section of the manifest flow out, and
back. jax reads its own files with the package flatbuffers, which it does not install. Where that is
absent the program is put together from what the manifest says and the StableHLO inside the file:
the same bytes, but only for versions of jax whose `Exported` has the same fields.
"""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np


def write_program(exported: jax.export.Exported, path: Path) -> dict[str, Any]:
    """Writes the program; returns the manifest's section "program"."""
    content, module = bytes(exported.serialize()), exported.mlir_module_serialized
    offset = content.find(module)
    if offset < 0:
        raise RuntimeError("jax.export no longer keeps its module in one piece; update program.py")
    path.write_bytes(content)
    return {
        "module_offset": offset,
        "module_bytes": len(module),
        "fun_name": exported.fun_name,
        "module_kept_var_idx": list(exported.module_kept_var_idx),
        "uses_global_constants": exported.uses_global_constants,
    }


def read_program(
    path: Path, manifest: Mapping[str, Any], params: Sequence[np.ndarray]
) -> jax.export.Exported:
    """The program (params [list], observation, keys) -> actions.

    Args:
        path: what `write_program` wrote.
        manifest: with the sections "program", "signature", "platforms".
        params: the parameters, for their shapes and types.

    Raises:
        ValueError: without flatbuffers, and this jax has another form of `Exported`.
    """
    content = path.read_bytes()
    if _has_flatbuffers():
        return jax.export.deserialize(bytearray(content))
    section = manifest["program"]
    begin = section["module_offset"]
    inputs, outputs = _avals(manifest["signature"], params)
    values = {
        "fun_name": section["fun_name"],
        "in_tree": jax.tree.structure((inputs, {})),
        "in_avals": tuple(_abstract(jax.tree.leaves(inputs))),
        "out_tree": jax.tree.structure(0),
        "out_avals": tuple(_abstract([outputs])),
        "nr_devices": 1,
        "platforms": tuple(manifest["platforms"]),
        "ordered_effects": (),
        "unordered_effects": (),
        "disabled_safety_checks": (),
        "mlir_module_serialized": content[begin : begin + section["module_bytes"]],
        "calling_convention_version": manifest["calling_convention_version"],
        "module_kept_var_idx": tuple(section["module_kept_var_idx"]),
        "uses_global_constants": section["uses_global_constants"],
        "in_shardings_hlo": (None,) * len(jax.tree.leaves(inputs)),
        "out_shardings_hlo": (None,),
        "_has_named_shardings": True,
        "_in_named_shardings": (None,) * len(jax.tree.leaves(inputs)),
        "_out_named_shardings": (None,),
        "_get_vjp": None,
    }
    if set(values) != {field.name for field in dataclasses.fields(jax.export.Exported)}:
        raise ValueError(
            f"{path}: jax {jax.__version__} needs `pip install flatbuffers` to read it"
        )
    return jax.export.Exported(**values)


def _has_flatbuffers() -> bool:
    try:
        importlib.import_module("flatbuffers")
    except ImportError:
        return False
    return True


def _avals(signature: Mapping[str, Any], params: Sequence[np.ndarray]) -> tuple[Any, Any]:
    """Shapes of what goes in and comes out, the batch size a symbol."""
    (batch,) = jax.export.symbolic_shape("b")

    def shaped(entry: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *entry["shape"][1:]), entry["dtype"])

    observation = {name: shaped(entry) for name, entry in signature["observation"].items()}
    weights = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in params]
    return (weights, observation, shaped(signature["rng"])), shaped(signature["action"])


def _abstract(shapes: Sequence[jax.ShapeDtypeStruct]) -> Sequence[Any]:
    """What jax calls abstract values, by way of its public interface."""
    return jax.make_jaxpr(lambda *xs: [jnp.asarray(x) for x in xs])(*shapes).in_avals
