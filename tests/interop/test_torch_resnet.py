"""ResNet-18/34/50 from torchvision's state dicts, against the same topology built in PyTorch."""

from typing import Any

import jax
import numpy as np
import pytest

from arp_jax.interop.torch_resnet import convert_trunk, trunk_rules
from arp_jax.interop.torch_state import to_torch
from arp_jax.models.resnet import BOTTLENECK_DEPTHS, STAGE_BLOCKS, ResNet, fold_norms
from tests.golden_files import FAST_COMPILE

torch: Any = pytest.importorskip("torch", reason="builds the reference topology in PyTorch")
nn: Any = torch.nn
# Of torchvision's models, without their classifier of 1000 classes.
PARAMETERS = {18: 11_176_512, 34: 21_284_672, 50: 23_508_032}
DEPTHS = [18, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (34, 50))]


class Block(nn.Module):
    """Basic or bottleneck block under torchvision's names."""

    def __init__(self, before, features, stride, wide):
        super().__init__()
        after = 4 * features if wide else features
        # (in, out, kernel, stride) of the convolutions.
        shapes = [(before, features, 3, stride), (features, features, 3, 1)]
        if wide:
            shapes = [(before, features, 1, 1), (features, features, 3, stride)]
            shapes += [(features, after, 1, 1)]
        for number, (a, b, kernel, step) in enumerate(shapes, start=1):
            conv = nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False)
            setattr(self, f"conv{number}", conv)
            setattr(self, f"bn{number}", nn.BatchNorm2d(b))
        self.count = len(shapes)
        if stride != 1 or before != after:
            projection = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(after))

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = torch.relu(y) if number < self.count else y
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Trunk(nn.Module):
    def __init__(self, depth):
        super().__init__()
        wide = depth in BOTTLENECK_DEPTHS
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for stage, blocks in enumerate(STAGE_BLOCKS[depth]):
            features, layer = 64 * 2**stage, []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layer.append(Block(before, features, stride, wide))
                before = 4 * features if wide else features
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
        self.fc = nn.Linear(before, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


@pytest.fixture(scope="module", params=DEPTHS)
def trained(request):
    """(depth, PyTorch's trunk with statistics of its own, a batch of images, its features)."""
    torch.manual_seed(request.param)
    theirs = Trunk(request.param).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.0),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                tensor.data.uniform_(low, high)
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
