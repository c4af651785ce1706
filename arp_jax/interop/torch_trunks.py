"""Rules for whichever trunk `models/trunks.py` makes: one call for policies with a choice of them.

Only tensor names are decided here; see `torch_resnet.py` and `torch_residual_attention.py`.
"""

from collections.abc import Iterator

from arp_jax.interop.torch_residual_attention import attention_net_rules
from arp_jax.interop.torch_resnet import trunk_rules
from arp_jax.interop.torch_state import Rule
from arp_jax.models.resnet import STEM_WIDTH
from arp_jax.models.trunks import attention_form


def named_trunk_rules(
    name: str,
    prefix: str,
    path: tuple[str, ...],
    depth: int = 18,
    norm: str = "frozen_batch",
    width: int = STEM_WIDTH,
) -> Iterator[Rule]:
    """One rule per tensor of `make_trunk(name, depth, norm, width)`, at `path` of our tree.

    Raises:
        ValueError: an unknown trunk, or a norm that no PyTorch file has.
    """
    if name == "resnet":
        return trunk_rules(prefix, path, depth, norm)
    return attention_net_rules(attention_form(name, width), prefix, path, norm)
