"""The benchmark of the policies: what it compares, what it refuses, what it stands in for."""

import importlib
import sys

import numpy as np
import pytest

from arp_jax.interop.torch_resnet import trunk_rules


@pytest.fixture
def benchmark(repository, monkeypatch):
    """Module name -> module of benchmarks/, which is no package."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name.startswith(("policies", "arp_", "sides", "hardware", "torchvision")):
            sys.modules.pop(name)


def test_our_query_of_vinn_is_the_published_formula(benchmark):
    ours = benchmark("policies_ours")
    data = ours.library(ours.SMALL)
    features, joints = data.query
    distance = np.linalg.norm(data.features - features, axis=1)
    distance += ours.STATE_WEIGHT * np.linalg.norm(data.joints - joints, axis=1)
    nearest = np.argsort(distance)[: ours.NEIGHBORS]
    # As published: the weights are those of the library's first rows.
    weights = np.exp(-(distance[: ours.NEIGHBORS] - distance[: ours.NEIGHBORS].min()))
    expected = np.tensordot(weights / weights.sum(), data.chunks[nearest], 1)
    assert nearest[0] == len(data.features) // 2
    np.testing.assert_allclose(ours.our_query(ours.SMALL)()[0], expected, atol=1e-5)


@pytest.mark.slow
def test_cases_are_the_same_in_every_process_and_of_the_published_size(benchmark):
    ours = benchmark("policies_ours")
    first, again = (ours.diffusion_case(ours.SMALL, 4) for _ in range(2))
    np.testing.assert_array_equal(first.batch["action"], again.batch["action"])
    np.testing.assert_array_equal(ours.probe_noise(first), ours.probe_noise(again))
    found = ours.probe("diffusion", first, training=True)
    np.testing.assert_array_equal(found, ours.probe("diffusion", again, training=True))
    assert ours.UNET["widths"] == (256, 512, 1024)


def test_tasks_cover_every_policy_with_equal_batches_on_both_sides(benchmark):
    policies = benchmark("policies")
    for policy in policies.POLICIES:
        found = policies.tasks(policy, "small")
        assert {task.what for task in found} == (
            {"query"} if policy == "vinn" else {"training step", "query"}
        )
        for task in found:
            # Behind the policy's name the arguments, the batch among them, are the same.
            assert task.our_arguments[-len(task.reference_arguments) :] == task.reference_arguments


@pytest.mark.parametrize("name", ["act", "diffusion", "vinn"])
def test_a_folder_that_is_no_clone_is_refused(benchmark, tmp_path, name):
    reference = benchmark("policies_reference")
    with pytest.raises(SystemExit, match=f"--{name} .*give a clone of github.com/"):
        reference.check_clone(name, tmp_path)


def test_the_stand_in_has_torchvisions_tensors(benchmark):
    torch = pytest.importorskip("torch")
    stand_in = benchmark("torchvision_stand_in")
    net = stand_in.resnet("resnet18")([False] * 3, False, torch.nn.BatchNorm2d)
    body = stand_in.IntermediateLayerGetter(net, {"layer4": "0"})
    found = {name for name in body.state_dict() if not name.endswith("num_batches_tracked")}
    assert found == {rule.torch_name for rule in trunk_rules("", ())}
    maps = body(stand_in.Normalize([0.5] * 3, [0.5] * 3)(torch.zeros(1, 3, 64, 96)))
    assert maps["0"].shape == (1, 512, 2, 3)


def test_the_table_names_what_was_replaced(benchmark):
    policies = benchmark("policies")
    row = policies.Row(
        "act", "query", "small", 1, 2.0, 10.0, 25.0, 2.5, 1e-6, ("torchvision", "IPython")
    )
    line = policies.describe(row)
    assert "2.50x" in line
    assert line.endswith("(target 2x)  stand-ins: torchvision, IPython")
