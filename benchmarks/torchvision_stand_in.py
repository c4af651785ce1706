"""What ACT's published code takes from torchvision, for machines where that is not installed.

Out: modules under torchvision's names with a residual network of basic blocks (ResNet-18 and 34;
the same tensors, names and arithmetic), the wrapper that returns its feature maps, and the
normalisation of images. Weights are random: the benchmark loads its own.
"""

import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
Norm = Callable[[int], nn.Module]


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)
        self.downsample = None
        if stride != 1 or inputs != width:
            shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, norm(width))

    def forward(self, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


def resnet(name: str) -> Callable[..., nn.Module]:
    """The function that torchvision has under this name."""

    def build(
        replace_stride_with_dilation: Sequence[bool], pretrained: bool, norm_layer: Norm
    ) -> nn.Module:
        if any(replace_stride_with_dilation):
            raise ValueError("the stand-in for torchvision has no dilation")
        net = nn.Sequential(OrderedDict(_stem(norm_layer)))
        inputs = 64
        for i, count in enumerate(BLOCKS[name]):
            width, blocks = 64 * 2**i, []
            for k in range(count):
                stride = 2 if i > 0 and k == 0 else 1
                blocks.append(BasicBlock(inputs, width, stride, norm_layer))
                inputs = width
            net.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        return net

    return build


def _stem(norm: Norm) -> list[tuple[str, nn.Module]]:
    return [
        ("conv1", nn.Conv2d(3, 64, 7, 2, 3, bias=False)),
        ("bn1", norm(64)),
        ("relu", nn.ReLU(inplace=True)),
        ("maxpool", nn.MaxPool2d(3, 2, 1)),
    ]


class IntermediateLayerGetter(nn.ModuleDict):
    """Runs children in order, returns the outputs of those that are named."""

    def __init__(self, model: nn.Module, return_layers: dict[str, str]) -> None:
        super().__init__(OrderedDict(model.named_children()))
        self.return_layers = dict(return_layers)

    def forward(self, x: Any) -> Any:
        found = OrderedDict()
        for name, child in self.items():
            x = child(x)
            if name in self.return_layers:
                found[self.return_layers[name]] = x
        return found


class Normalize:
    """(image - mean) / std by channel, [..., C, h, w]."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = torch.tensor(mean)[:, None, None]
        self.std = torch.tensor(std)[:, None, None]

    def __call__(self, image: Any) -> Any:
        return (image - self.mean) / self.std


def install() -> None:
    """Puts the stand-in where `import torchvision` finds it."""
    names = ("torchvision", "torchvision.models", "torchvision.models._utils")
    found: dict[str, Any] = {n: types.ModuleType(n) for n in (*names, "torchvision.transforms")}
    top = found["torchvision"]
    top.__version__, top.models = "1.0", found["torchvision.models"]
    top.transforms = found["torchvision.transforms"]
    for name in BLOCKS:
        setattr(top.models, name, resnet(name))
    found["torchvision.models._utils"].IntermediateLayerGetter = IntermediateLayerGetter
    top.transforms.Normalize = Normalize
    sys.modules.update(found)
