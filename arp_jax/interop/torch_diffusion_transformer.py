"""Diffusion Policy's transformer: which tensor of a PyTorch state dict goes to which leaf of ours.

Only the published form: conditions through an MLP, causal attention. Masks are recomputed.
"""

from collections.abc import Iterator

from arp_jax.interop.torch_detr import decoder_layer_rules
from arp_jax.interop.torch_encoder import linear_rules, norm_rules
from arp_jax.interop.torch_state import Layout, Rule
from arp_jax.models.diffusion_transformer import DiffusionTransformer

# Learned positions (1, T, D) -> (T, D).
_positions = Layout(lambda x: x.squeeze(0), lambda x: x[None])
_LINEAR = {
    "input_emb": "action_in",
    "cond_obs_emb": "condition_in",
    "encoder.0": "memory_in",
    "encoder.2": "memory_out",
    "head": "head",
}


def diffusion_transformer_rules(
    net: DiffusionTransformer, prefix: str = "", path: tuple[str, ...] = ()
) -> Iterator[Rule]:
    """One rule per tensor: `prefix`decoder.layers.0... and so on, at `path` of our tree."""
    for theirs, leaf in _LINEAR.items():
        yield from linear_rules(f"{prefix}{theirs}", (*path, leaf))
    yield Rule(f"{prefix}pos_emb", (*path, "action_position"), _positions)
    yield Rule(f"{prefix}cond_pos_emb", (*path, "condition_position"), _positions)
    for i in range(net.layers):
        yield from decoder_layer_rules(f"{prefix}decoder.layers.{i}", (*path, f"blocks_{i}"))
    yield from norm_rules(f"{prefix}ln_f", (*path, "norm"))
