"""Exact nearest neighbours among many rows of features, on one device or shared by several.

In: queries and rows, both as parts (visual features, state) whose Euclidean distances are added
with one weight a part. Out: for every query the k smallest distances and the rows that have them.
Candidates come from one matrix product a part, winners from distances computed without its
cancellation. No index structure, no approximation; what is done with the neighbours is
`neighbor_average.py`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Candidates beyond k: rows whose rounded distance lets them slip past the k-th place.
MARGIN = 16


class Neighbors(NamedTuple):
    """What a search finds.

    Attributes:
        distances: float32 [B, k], ascending.
        rows: int32 [B, k]; among equal distances the smaller row comes first.
    """

    distances: Array
    rows: Array


def distances_to(
    queries: Sequence[Array], rows: Sequence[Array], weights: Sequence[float]
) -> Array:
    """Distances [B, C] of queries [B, D] each to rows [C, D] or [B, C, D] each, term by term."""
    total = jnp.zeros(())
    for query, row, weight in zip(queries, rows, weights, strict=True):
        total = total + weight * jnp.linalg.norm(query[:, None] - row, axis=-1)
    return total


def nearest(
    queries: Sequence[Array],
    library: Sequence[Array],
    weights: Sequence[float],
    count: int,
    mesh: Mesh | None = None,
) -> Neighbors:
    """The `count` nearest rows of every query.

    Args:
        queries: one array [B, D] a part.
        library: one array [N, D] a part.
        weights: of the parts' Euclidean distances.
        count: k, 1 .. N.
        mesh: one axis of devices that share the rows (`spread_rows`): each searches its own, and
            only the winners travel. None searches on one device.

    Raises:
        ValueError: `count` is out of range.
    """
    total = len(library[0])
    if not 1 <= count <= total:
        raise ValueError(f"cannot find {count} nearest neighbors among {total} rows")
    if mesh is None:
        return _nearest_here(queries, library, weights, count, 0, total)
    (axis,) = mesh.axis_names
    shard = -(-total // mesh.size)  # rows of each device
    missing = shard * mesh.size - total
    padded = [jnp.pad(part, ((0, missing), (0, 0))) if missing else part for part in library]

    def search(queries: list[Array], rows: list[Array]) -> Neighbors:
        first = jax.lax.axis_index(axis) * shard
        return _nearest_here(queries, rows, weights, min(count, shard), first, total)

    rows, whole = PartitionSpec(axis), PartitionSpec()
    # Rows lie in the order of their devices, so that ties are broken as on one device.
    found = jax.shard_map(
        search, mesh=mesh, in_specs=(whole, rows), out_specs=PartitionSpec(None, axis)
    )(list(queries), padded)
    best, places = jax.lax.top_k(-found.distances, count)  # winners of the winners
    return Neighbors(-best, jnp.take_along_axis(found.rows, places, axis=1))


def row_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """A mesh with one axis, "rows", for `nearest`."""
    return Mesh(np.asarray(devices), ("rows",))


def spread_rows(part: Array, mesh: Mesh) -> Array:
    """Rows [N, D] cut over the devices; N must be a multiple of their number to stay so."""
    divisible = len(part) % mesh.size == 0
    spec = PartitionSpec(mesh.axis_names[0]) if divisible else PartitionSpec()
    return jax.device_put(part, NamedSharding(mesh, spec))


def _nearest_here(
    queries: Sequence[Array],
    library: Sequence[Array],
    weights: Sequence[float],
    count: int,
    first: int | Array,
    total: int,
) -> Neighbors:
    """Neighbours among rows that are number `first`, `first` + 1, ... of `total`.

    Rows at and behind `total` are padding: infinitely far.
    """
    size = len(library[0])
    outside = first + jnp.arange(size) >= total  # [N]
    rough = jnp.zeros(())
    for query, rows, weight in zip(queries, library, weights, strict=True):
        rough = rough + weight * _expanded_distances(query, rows)
    rough = jnp.where(outside, jnp.inf, rough)  # [B, N]
    _, candidates = jax.lax.top_k(-rough, min(size, count + MARGIN))
    candidates = jnp.sort(candidates, axis=1)  # ties: the smaller row first
    exact = distances_to(queries, [rows[candidates] for rows in library], weights)
    exact = jnp.where(outside[candidates], jnp.inf, exact)  # [B, C]
    best, places = jax.lax.top_k(-exact, count)
    rows_found = first + jnp.take_along_axis(candidates, places, axis=1)
    return Neighbors(-best, rows_found.astype(jnp.int32))


def _expanded_distances(queries: Array, rows: Array) -> Array:
    """Distances [B, N] by |q|^2 - 2 q.r + |r|^2: one product, wrong by rounding when small."""
    product = jnp.matmul(queries, rows.T, precision="highest")
    square = functools.partial(jnp.sum, axis=-1)
    squared = square(queries**2)[:, None] - 2 * product + square(rows**2)
    return jnp.sqrt(jnp.maximum(squared, 0.0))
