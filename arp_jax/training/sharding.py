"""Where arrays live: a mesh with the axes (data, fsdp), and the rule that shards a train state.

Flows in: device counts, trees of arrays or shapes. Flows out: meshes, shardings, global batches.
Parameters, optimiser state and moving average are cut along their largest dimension that the fsdp
axis divides and copied over the data axis; a batch is cut over both axes. With one device all of
this is the identity, so the same training script runs everywhere.
"""

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Below this many elements a leaf is copied to every device: gathering it would cost more than it
# saves.
MIN_SHARDED_ELEMENTS = 2**14


def initialize_distributed() -> None:
    """Joins the processes of one launch; does nothing when no launch variables are set.

    Reads JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    """
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if not address:
        return
    try:
        count = int(os.environ["JAX_NUM_PROCESSES"])
        index = int(os.environ["JAX_PROCESS_ID"])
    except (KeyError, ValueError) as error:
        raise ValueError(
            "JAX_COORDINATOR_ADDRESS is set: set JAX_NUM_PROCESSES and JAX_PROCESS_ID "
            f"to integers too ({error})"
        ) from error
    jax.distributed.initialize(address, count, index)


def make_mesh(data: int = -1, fsdp: int = 1) -> Mesh:
    """A mesh over all devices.

    Args:
        data: size of the data axis; -1 takes what fsdp leaves.
        fsdp: size of the axis over which parameters are sharded.

    Raises:
        ValueError: when data * fsdp is not the number of devices.
    """
    devices = np.asarray(jax.devices())
    if data == -1 and fsdp > 0:
        data = devices.size // fsdp
    if data < 1 or fsdp < 1 or data * fsdp != devices.size:
        raise ValueError(
            f"config.mesh: data {data} x fsdp {fsdp} must be the number of devices, {devices.size}"
        )
    return Mesh(devices.reshape(data, fsdp), ("data", "fsdp"))


def leaf_spec(shape: tuple[int, ...], fsdp: int, min_elements: int) -> PartitionSpec:
    """Cuts the largest dimension that `fsdp` divides (the last one among equals), or none."""
    if fsdp == 1 or int(np.prod(shape)) < min_elements:
        return PartitionSpec()
    candidates = [(size, axis) for axis, size in enumerate(shape) if size % fsdp == 0]
    if not candidates:
        return PartitionSpec()
    _, axis = max(candidates)
    return PartitionSpec(*(None,) * axis, "fsdp")


def state_sharding(tree: Any, mesh: Mesh, min_elements: int = MIN_SHARDED_ELEMENTS) -> Any:
    """Tree of NamedShardings for a tree of arrays or shapes."""
    fsdp = mesh.shape["fsdp"]
    return jax.tree.map(
        lambda leaf: NamedSharding(mesh, leaf_spec(leaf.shape, fsdp, min_elements)), tree
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first dimension cut over both axes."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError when the devices do not divide the global batch."""
    if batch_size < 1 or batch_size % mesh.size:
        raise ValueError(
            f"config.train.batch_size = {batch_size} must be a multiple of the {mesh.size} devices"
        )


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """This process's rows (numpy) -> global arrays, cut over all devices of all processes."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def with_sharding(shapes: Any, shardings: Any) -> Any:
    """Joins a tree of shapes and a tree of shardings into abstract arrays, for restoring."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def describe(mesh: Mesh) -> str:
    """One line for the log: devices, mesh, processes."""
    kind = mesh.devices.flat[0].device_kind
    axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    return f"{mesh.size} x {kind} ({axes}), {jax.process_count()} process(es)"
