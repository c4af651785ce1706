"""PyTorch's `nn.TransformerEncoder` (post-norm): which tensor goes to which leaf of ours.

Its attention keeps queries, keys and values in one `in_proj` tensor, as `DetrEncoder` does, so
every tensor has exactly one leaf. DETR-like encoders use the same names.
"""

from collections.abc import Iterator

from arp_jax.interop.torch_state import Layout, Rule, as_is, linear_kernel

LINEAR_LAYERS = {"self_attn.out_proj": "out", "linear1": "fc1", "linear2": "fc2"}
NORMS = {"norm1": "norm_attention", "norm2": "norm_mlp"}


def linear_rules(
    torch_name: str, path: tuple[str, ...], layout: Layout = linear_kernel
) -> Iterator[Rule]:
    """Rules of a linear layer; `layout` is its weight's."""
    yield Rule(f"{torch_name}.weight", (*path, "kernel"), layout)
    yield Rule(f"{torch_name}.bias", (*path, "bias"))


def norm_rules(torch_name: str, path: tuple[str, ...]) -> Iterator[Rule]:
    """Rules of a LayerNorm."""
    yield Rule(f"{torch_name}.weight", (*path, "scale"))
    yield Rule(f"{torch_name}.bias", (*path, "bias"))


def detr_encoder_layer_rules(name: str, ours: tuple[str, ...]) -> Iterator[Rule]:
    """Rules of one encoder layer called `name`, at `ours` in our tree."""
    yield Rule(f"{name}.self_attn.in_proj_weight", (*ours, "qkv", "kernel"), linear_kernel)
    yield Rule(f"{name}.self_attn.in_proj_bias", (*ours, "qkv", "bias"), as_is)
    for theirs, leaf in LINEAR_LAYERS.items():
        yield from linear_rules(f"{name}.{theirs}", (*ours, leaf))
    for theirs, leaf in NORMS.items():
        yield from norm_rules(f"{name}.{theirs}", (*ours, leaf))


def detr_encoder_rules(
    prefix: str, path: tuple[str, ...], layers: int, final_norm: bool = True
) -> Iterator[Rule]:
    """One rule per tensor of an encoder named `prefix`layers.0.linear1.weight and so on.

    `path` is where the `DetrEncoder` lies in our tree.
    """
    for i in range(layers):
        yield from detr_encoder_layer_rules(f"{prefix}layers.{i}", (*path, f"blocks_{i}"))
    if final_norm:
        yield from norm_rules(f"{prefix}norm", (*path, "norm_out"))
