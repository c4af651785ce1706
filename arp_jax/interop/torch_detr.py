"""DETR's decoder and what surrounds ACT's: which PyTorch tensor goes to which leaf of ours.

The encoder's rules are in `torch_encoder.py`; names are those of DETR and of everything made of it.
"""

from collections.abc import Iterator

from arp_jax.interop.torch_encoder import linear_rules, norm_rules
from arp_jax.interop.torch_state import Rule, as_is, linear_kernel

_ATTENTIONS = {"self_attn": ("qkv", "out"), "multihead_attn": ("cross_qkv", "cross_out")}
_NORMS = {"norm1": "norm_attention", "norm2": "norm_cross", "norm3": "norm_mlp"}
_MLP = {"linear1": "fc1", "linear2": "fc2"}


def decoder_layer_rules(name: str, ours: tuple[str, ...]) -> Iterator[Rule]:
    """Rules of one decoder layer called `name`, at `ours` in our tree."""
    for theirs, (projection, out) in _ATTENTIONS.items():
        packed = f"{name}.{theirs}"
        yield Rule(f"{packed}.in_proj_weight", (*ours, projection, "kernel"), linear_kernel)
        yield Rule(f"{packed}.in_proj_bias", (*ours, projection, "bias"), as_is)
        yield from linear_rules(f"{packed}.out_proj", (*ours, out))
    for theirs, leaf in _MLP.items():
        yield from linear_rules(f"{name}.{theirs}", (*ours, leaf))
    for theirs, leaf in _NORMS.items():
        yield from norm_rules(f"{name}.{theirs}", (*ours, leaf))


def decoder_rules(prefix: str, path: tuple[str, ...], layers: int) -> Iterator[Rule]:
    """One rule per tensor of a decoder named `prefix`layers.0.norm1.weight and so on."""
    for i in range(layers):
        yield from decoder_layer_rules(f"{prefix}layers.{i}", (*path, f"blocks_{i}"))
    yield from norm_rules(f"{prefix}norm", (*path, "norm_out"))
