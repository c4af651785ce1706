"""Nearest neighbours and their averages: golden vectors, plain numpy, many devices.

A golden file is recognised by its visual features "in/vis" and the errors of each k.
"""

import functools
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from arp_jax.models.nearest_neighbors import distances_to, nearest
from arp_jax.models.neighbor_average import averages_by_count, softmax_weights, weighted_average
from tests.golden_files import FAST_COMPILE, TESTS, GoldenCheck, golden_paths, load_golden

FILES = [p for p in golden_paths("act") if {"in/vis", "out/select_k_errors"} <= {*load_golden(p)}]
jit = functools.partial(jax.jit, compiler_options=FAST_COMPILE)


def brute_force(queries, library, weights, count):
    """Sorted distances and rows in float64, without expansion."""
    total = sum(
        weight * np.linalg.norm(np.float64(query)[:, None] - np.float64(rows)[None], axis=-1)
        for query, rows, weight in zip(queries, library, weights, strict=True)
    )
    order = np.argsort(total, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(total, order, axis=1), order


def random_parts(rows=300, queries=7, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    sizes = (12, 5)
    library = [np.float32(rng.normal(offset, 1, (rows, size))) for size in sizes]
    return [np.float32(rng.normal(offset, 1, (queries, size))) for size in sizes], library


@pytest.mark.golden
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_vectors(path, capsys):
    golden, check = load_golden(path), GoldenCheck(path.stem)
    queries = (golden["in/q_vis"], golden["in/q_state"])
    library, targets = (golden["in/vis"], golden["in/state"]), golden["in/targets"]
    search = jit(nearest, static_argnums=(2, 3))
    alone = search(queries[:1], library[:1], (1.0,), len(targets))
    check.compare("distances", alone.distances[0], np.sort(golden["out/dist_vis"]))
    np.testing.assert_array_equal(alone.rows[0], golden["out/order_vis"])
    most = len(golden["out/select_k_errors"])
    first_rows = [part[:most] for part in library]
    average, to_rows = jit(weighted_average), jit(distances_to, static_argnums=2)
    for name, expected in golden.items():
        kind, _, rest = name.partition("_k")
        if kind in ("out/ref", "out/sorted"):
            count, state_weight = (int(n) for n in rest.split("_w"))
            weights = (1.0, float(state_weight))
            found = search(queries, library, weights, most)
            published = to_rows(queries, first_rows, weights)
            distances = published if kind == "out/ref" else found.distances
            check.compare(name, average(distances, targets[found.rows], count), expected)
    found = search([golden["in/sel_q"]], library[:1], (1.0,), most)
    published = to_rows([golden["in/sel_q"]], first_rows[:1], (1.0,))
    predicted = jit(averages_by_count)(published, targets[found.rows][:, :, 0])  # [B, K, A]
    errors = np.square(predicted - golden["in/sel_t"][:, None]).mean((0, 2))
    check.compare("errors of k", errors, golden["out/select_k_errors"])
    check.finish(capsys)


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_neighbors_are_those_of_plain_numpy(offset):
    # Far from the origin the expanded distances lose all their digits but the winners keep theirs.
    queries, library = random_parts(offset=offset)
    for weights in ((1.0, 0.0), (1.0, 10.0)):
        distances, rows = brute_force(queries, library, weights, 9)
        found = jit(nearest, static_argnums=(2, 3))(queries, library, weights, 9)
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_allclose(found.distances, distances, rtol=1e-4)


def test_equal_distances_go_by_row():
    row = np.ones((1, 3), np.float32)
    found = jit(nearest, static_argnums=(2, 3))([row], [np.repeat(row, 50, 0)], (1.0,), 4)
    np.testing.assert_array_equal(found.rows, [[0, 1, 2, 3]])
    np.testing.assert_array_equal(found.distances, np.zeros((1, 4)))
    with pytest.raises(ValueError, match="cannot find 51 nearest neighbors among 50 rows"):
        nearest([row], [np.repeat(row, 50, 0)], (1.0,), 51)


def test_weights_of_the_first_k():
    distances = np.float32([[0.5, 2.0, 1.0]])
    weigh = jit(softmax_weights)
    np.testing.assert_allclose(weigh(distances, 1), [[1, 0, 0]])
    two = np.exp([-0.5, -2.0]) / np.exp([-0.5, -2.0]).sum()
    np.testing.assert_allclose(weigh(distances, 2), [[*two, 0]], rtol=1e-6)
    values = np.float32([[[3.0], [-1.0], [100.0]]])
    averages = jit(averages_by_count)(distances, values)[0, :, 0]
    np.testing.assert_allclose(averages[:2], [3, two @ [3, -1]], rtol=1e-6)


SCRIPT = """
import jax, numpy as np
from arp_jax.models.nearest_neighbors import nearest, row_mesh, spread_rows
from tests.models.test_nearest_neighbors import brute_force, random_parts

assert len(jax.devices()) == 8
mesh = row_mesh(jax.devices())
search = jax.jit(nearest, static_argnums=(2, 3, 4))
for rows, count in ((304, 9), (301, 60), (5, 3)):  # 301, 5: some devices have fewer rows or none
    queries, library = random_parts(rows)
    library = [np.concatenate([part[: rows // 2]] * 2 + [part[:1]])[:rows] for part in library]
    alone = search(queries, library, (1.0, 5.0), count, None)
    spread = [spread_rows(part, mesh) for part in library]
    if rows % 8 == 0:
        assert {s.data.shape for s in spread[0].addressable_shards} == {(rows // 8, 12)}
    shared = search(queries, spread, (1.0, 5.0), count, mesh)
    np.testing.assert_array_equal(shared.rows, alone.rows)
    np.testing.assert_allclose(shared.distances, alone.distances, rtol=1e-6)
    distances, _ = brute_force(queries, library, (1.0, 5.0), count)
    np.testing.assert_allclose(shared.distances, distances, rtol=1e-5)
print("equal")
"""


def run_on_eight_devices(script):
    """What a Python program prints whose CPU counts as eight devices."""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(TESTS.parent),
    }
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout.strip()


def test_eight_devices_find_what_one_finds():
    assert run_on_eight_devices(SCRIPT) == "equal"
