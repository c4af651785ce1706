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
from arp_jax.models.resnet import STAGE_BLOCKS, ResNet

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
    prefix: str, path: tuple[str, ...], depth: int = 18, norm: str = "frozen_batch"
) -> Iterator[Rule]:
    """One rule per tensor of a trunk: `prefix`conv1.weight and so on, at `path` of our tree."""

    def conv(torch_name: str, *ours: str) -> Rule:
        return Rule(f"{prefix}{torch_name}.weight", (*path, *ours, "kernel"), conv_kernel)

    def norms(torch_name: str, *ours: str) -> Iterator[Rule]:
        for theirs, leaf in NORM_LEAVES[norm].items():
            yield Rule(f"{prefix}{torch_name}.{theirs}", (*path, *ours, leaf))

    yield conv("conv1", "stem_conv")
    yield from norms("bn1", "stem_norm")
    for stage, blocks in enumerate(STAGE_BLOCKS[depth]):
        for block in range(blocks):
            name, ours = f"layer{stage + 1}.{block}", f"stages_{stage}_{block}"
            for number in (1, 2):
                yield conv(f"{name}.conv{number}", ours, f"conv{number}")
                yield from norms(f"{name}.bn{number}", ours, f"norm{number}")
            if stage > 0 and block == 0:
                yield conv(f"{name}.downsample.0", ours, "skip_conv")
                yield from norms(f"{name}.downsample.1", ours, "skip_norm")


def convert_trunk(
    state: Mapping[str, np.ndarray], depth: int = 18, norm: str = "frozen_batch"
) -> tuple[dict[str, Any], Report]:
    """Torchvision's state dict -> (parameters of `ResNet(depth, norm)`, report)."""
    frame = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    template = jax.eval_shape(ResNet(depth, norm).init, jax.random.key(0), frame)["params"]

    def ignored(name: str) -> bool:
        return name.startswith("fc.") or name.endswith("num_batches_tracked")

    return convert(state, list(trunk_rules("", (), depth, norm)), template, ignored)
