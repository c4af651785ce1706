"""Torchvision's ResNet trunk: which tensor goes to which leaf of ours.

For checkpoints that carry such a trunk under some prefix, and for torchvision's own files
(ImageNet weights) as a start of training. The classifier has no counterpart here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.torch_state import Report, Rule, conv_kernel, convert
from arp_jax.models.resnet import BOTTLENECK_DEPTHS, STAGE_BLOCKS, ResNet, is_projected

NORM_LEAVES = {
    "group": {"weight": "scale", "bias": "bias"},
    "frozen_batch": {
        "weight": "scale",
        "bias": "bias",
        "running_mean": "running_mean",
        "running_var": "running_var",
    },
}


def trunk_rules(
    prefix: str,
    path: tuple[str, ...],
    depth: int = 18,
    norm: str = "frozen_batch",
    numbered: bool = False,
) -> Iterator[Rule]:
    """One rule per tensor of a trunk: `prefix`conv1.weight and so on, at `path` of our tree.

    Args:
        prefix: in front of every name.
        path: where the `ResNet` lies in our tree.
        depth, norm: of the trunk.
        numbered: the trunk is a list (robomimic's policies): "0" for "conv1", "1" for "bn1", and
            the stages from "4" on, behind a ReLU and a max-pool.

    Raises:
        ValueError: the norms are folded into the convolutions; no PyTorch file is like that.
    """

    def conv(torch_name: str, *ours: str) -> Rule:
        return Rule(f"{prefix}{torch_name}.weight", (*path, *ours, "kernel"), conv_kernel)

    def norms(torch_name: str, *ours: str) -> Iterator[Rule]:
        return norm_layer_rules(f"{prefix}{torch_name}", (*path, *ours), norm)

    yield conv("0" if numbered else "conv1", "stem_conv")
    yield from norms("1" if numbered else "bn1", "stem_norm")
    convolutions = (1, 2, 3) if depth in BOTTLENECK_DEPTHS else (1, 2)
    for stage, blocks in enumerate(STAGE_BLOCKS[depth]):
        for block in range(blocks):
            name = f"{stage + 4 if numbered else f'layer{stage + 1}'}.{block}"
            ours = f"stages_{stage}_{block}"
            for number in convolutions:
                yield conv(f"{name}.conv{number}", ours, f"conv{number}")
                yield from norms(f"{name}.bn{number}", ours, f"norm{number}")
            if is_projected(depth, stage, block):
                yield conv(f"{name}.downsample.0", ours, "skip_conv")
                yield from norms(f"{name}.downsample.1", ours, "skip_norm")


def norm_layer_rules(torch_name: str, path: tuple[str, ...], norm: str) -> Iterator[Rule]:
    """Rules of one norm of a trunk, "group" or "frozen_batch"."""
    if norm not in NORM_LEAVES:
        raise ValueError(
            f"norm {norm!r} has no tensors in PyTorch; import with one of {tuple(NORM_LEAVES)}"
        )
    for theirs, leaf in NORM_LEAVES[norm].items():
        yield Rule(f"{torch_name}.{theirs}", (*path, leaf))


def convert_trunk(
    state: Mapping[str, np.ndarray], depth: int = 18, norm: str = "frozen_batch"
) -> tuple[dict[str, Any], Report]:
    """Torchvision's state dict -> (parameters of `ResNet(depth, norm)`, report)."""
    frame = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    template = jax.eval_shape(ResNet(depth, norm).init, jax.random.key(0), frame)["params"]

    def ignored(name: str) -> bool:
        return name.startswith("fc.") or name.endswith("num_batches_tracked")

    return convert(state, list(trunk_rules("", (), depth, norm)), template, ignored)
