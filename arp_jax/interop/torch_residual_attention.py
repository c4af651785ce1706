"""Residual attention nets in PyTorch: which tensor goes to which leaf of ours.

The names are those of the public code for ImageNet and CIFAR-10, whose attention stages call the
same layers differently at 32 pixels. Published files hold batch norms, which we keep frozen.
"""

from collections.abc import Iterator

from arp_jax.interop.torch_encoder import linear_rules
from arp_jax.interop.torch_resnet import norm_layer_rules
from arp_jax.interop.torch_state import Rule, conv_kernel
from arp_jax.models.residual_attention import LAST_BLOCKS, Form

Path = tuple[str, ...]


def attention_net_rules(
    form: Form, prefix: str = "", path: Path = (), norm: str = "frozen_batch", classes: int = 0
) -> Iterator[Rule]:
    """One rule per tensor of a whole net: `prefix`conv1.0.weight and so on, at `path` of ours.

    Args:
        form: sizes.
        prefix: in front of every name.
        path: where the `ResidualAttention` lies in our tree.
        norm: "frozen_batch", or "group" (scale and bias only).
        classes: as the net's; 0 has no classifier.
    """
    yield _conv(f"{prefix}conv1.0", (*path, "stem_conv"))
    yield from norm_layer_rules(f"{prefix}conv1.1", (*path, "stem_norm"), norm)
    for i in range(len(form.pools) + LAST_BLOCKS):
        yield from block_rules(f"{prefix}residual_block{i + 1}", (*path, f"blocks_{i}"), norm)
    for i, pools in enumerate(form.pools):
        name, ours = f"{prefix}attention_module{i + 1}", (*path, f"attention_{i}")
        # Stages for 32 pixels are those of a net whose last one has no pool.
        yield from stage_rules(name, ours, pools, min(form.pools) == 0, norm)
    yield from norm_layer_rules(f"{prefix}mpool2.0", (*path, "out_norm"), norm)
    if classes:
        yield from linear_rules(f"{prefix}fc", (*path, "classifier"))


def stage_rules(
    name: str, ours: Path, pools: int, thumbnails: bool, norm: str = "frozen_batch"
) -> Iterator[Rule]:
    """Rules of one attention stage; `thumbnails` chooses the names of the form for 32 pixels."""
    levels = range(max(pools - 1, 0))
    if thumbnails:
        down = [f"down_residual_blocks{i + 1}" for i in levels]
        up = [f"up_residual_blocks{i + 1}" for i in levels]
        bottom, gate = "middle_2r_blocks", "conv1_1_blocks"
    else:
        # Numbered in the order of use: down, bottom, up from the coarsest, gate.
        down = [f"softmax{i + 1}_blocks" for i in levels]
        up = [f"softmax{2 * pools - 1 - i}_blocks" for i in levels]
        bottom, gate = f"softmax{pools}_blocks", f"softmax{2 * pools}_blocks"
    parts = {"first": "first_residual_blocks", "last": "last_blocks"}
    for i in range(2):
        parts |= {f"trunk_{i}": f"trunk_branches.{i}", f"bottom_{i}": f"{bottom}.{i}"}
    for i in levels:
        parts |= {f"down_{i}": down[i], f"up_{i}": up[i]}
        parts[f"skip_{i}"] = f"skip{i + 1}_connection_residual_block"
    for leaf, theirs in parts.items():
        yield from block_rules(f"{name}.{theirs}", (*ours, leaf), norm)
    for number, place in ((1, 0), (2, 3)):  # of norm, ReLU and convolution in a list
        yield from norm_layer_rules(f"{name}.{gate}.{place}", (*ours, f"gate_norm{number}"), norm)
        yield _conv(f"{name}.{gate}.{place + 2}", (*ours, f"gate_conv{number}"))


def block_rules(name: str, ours: Path, norm: str = "frozen_batch") -> Iterator[Rule]:
    """Rules of one pre-activation block."""
    for i in (1, 2, 3):
        yield from norm_layer_rules(f"{name}.bn{i}", (*ours, f"norm{i}"), norm)
        yield _conv(f"{name}.conv{i}", (*ours, f"conv{i}"))
    yield _conv(f"{name}.conv4", (*ours, "shortcut"))


def _conv(name: str, ours: Path) -> Rule:
    return Rule(f"{name}.weight", (*ours, "kernel"), conv_kernel)
