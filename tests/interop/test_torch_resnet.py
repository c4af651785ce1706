"""ResNet-18/34/50 from torchvision's state dicts, against the same topology built in PyTorch."""

import jax
import numpy as np
import pytest

from arp_jax.interop.torch_resnet import convert_trunk, trunk_rules
from arp_jax.interop.torch_state import to_torch
from arp_jax.models.resnet import ResNet, fold_norms
from tests.golden_files import FAST_COMPILE
from tests.interop.torch_nets import Trunk, randomize, torch

# Of torchvision's models, without their classifier of 1000 classes.
PARAMETERS = {18: 11_176_512, 34: 21_284_672, 50: 23_508_032}
DEPTHS = [18, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (34, 50))]


@pytest.fixture(scope="module", params=DEPTHS)
def trained(request):
    """(depth, PyTorch's trunk with statistics of its own, a batch of images, its features)."""
    torch.manual_seed(request.param)
    theirs = randomize(Trunk(request.param))
    images = torch.rand(2, 3, 40, 64)
    with torch.no_grad():
        features = theirs(images).numpy().transpose(0, 2, 3, 1)
    return request.param, theirs, images.numpy().transpose(0, 2, 3, 1), features


def test_state_dict_gives_the_same_features(trained):
    depth, theirs, images, expected = trained
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    params, report = convert_trunk(state, depth)
    report.raise_if_incomplete(f"resnet{depth}.pth")
    assert {name for name in report.ignored if "num_batches" not in name} == {
        "fc.weight",
        "fc.bias",
    }
    learned = [leaf for leaf in theirs.parameters() if leaf.shape[0] != 10]
    assert sum(leaf.numel() for leaf in learned) == PARAMETERS[depth]
    trunk = ResNet(depth, "frozen_batch")
    apply = jax.jit(trunk.apply, compiler_options=FAST_COMPILE)
    found = apply({"params": params}, images)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)
    # The convolutions with the norms inside them are the same function.
    folded = fold_norms(params)
    assert len(jax.tree.leaves(folded)) == 2 * len(jax.tree.leaves(params)) / 5
    apply = jax.jit(ResNet(depth, "folded").apply, compiler_options=FAST_COMPILE)
    np.testing.assert_allclose(apply({"params": folded}, images) / scale, found / scale, atol=1e-5)
    back = to_torch(params, trunk_rules("", (), depth))
    for name, value in back.items():
        np.testing.assert_array_equal(value, state[name])


def test_group_norms_cannot_be_folded():
    frame = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    params = jax.eval_shape(ResNet(18, width=16).init, jax.random.key(0), frame)["params"]
    with pytest.raises(ValueError, match=r"conv1 has no frozen batch norm behind it"):
        fold_norms(params)
