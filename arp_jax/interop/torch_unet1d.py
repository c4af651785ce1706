"""Diffusion Policy's U-Net: which tensor of a PyTorch state dict goes to which leaf of ours.

The names are those of the published code and of Mobile ALOHA's, which wraps the same net.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.torch_state import Layout, Report, Rule, as_is, convert, linear_kernel
from arp_jax.models.unet1d import Unet1d

# Conv1d weight (out, in, k) -> kernel (k, in, out).
conv1d_kernel = Layout(lambda x: x.transpose(2, 1, 0), lambda x: x.transpose(2, 1, 0))
# ConvTranspose1d weight (in, out, k) is the gradient of a convolution, hence turned round in time.
_upsample_kernel = Layout(
    lambda x: x.transpose(2, 0, 1)[::-1], lambda x: x[::-1].transpose(1, 2, 0)
)


def unet_rules(net: Unet1d, prefix: str = "", path: tuple[str, ...] = ()) -> Iterator[Rule]:
    """One rule per tensor: `prefix`down_modules.0... and so on, at `path` of our tree."""

    def pair(torch_name: str, ours: tuple[str, ...], kernel: Layout) -> Iterator[Rule]:
        yield Rule(f"{prefix}{torch_name}.weight", (*path, *ours, "kernel"), kernel)
        yield Rule(f"{prefix}{torch_name}.bias", (*path, *ours, "bias"))

    def conv_block(torch_name: str, ours: tuple[str, ...]) -> Iterator[Rule]:
        yield from pair(f"{torch_name}.block.0", (*ours, "conv"), conv1d_kernel)
        for theirs, leaf in (("weight", "scale"), ("bias", "bias")):
            name = f"{prefix}{torch_name}.block.1.{theirs}"
            yield Rule(name, (*path, *ours, "norm", leaf), as_is)

    def residual(torch_name: str, ours: str, shortcut: bool) -> Iterator[Rule]:
        yield from conv_block(f"{torch_name}.blocks.0", (ours, "first"))
        yield from conv_block(f"{torch_name}.blocks.1", (ours, "second"))
        yield from pair(f"{torch_name}.cond_encoder.1", (ours, "film"), linear_kernel)
        if shortcut:
            yield from pair(f"{torch_name}.residual_conv", (ours, "shortcut"), conv1d_kernel)

    widths, inputs = net.widths, (net.action_dim, *net.widths[:-1])
    yield from pair("diffusion_step_encoder.1", ("step_in",), linear_kernel)
    yield from pair("diffusion_step_encoder.3", ("step_out",), linear_kernel)
    for i, (before, after) in enumerate(zip(inputs, widths, strict=True)):
        yield from residual(f"down_modules.{i}.0", f"down_first_{i}", before != after)
        yield from residual(f"down_modules.{i}.1", f"down_second_{i}", False)
        if i < len(widths) - 1:
            yield from pair(f"down_modules.{i}.2.conv", (f"downsample_{i}",), conv1d_kernel)
    for i in range(2):
        yield from residual(f"mid_modules.{i}", f"middle_{i}", False)
    for i in range(len(widths) - 1):
        # The skip connection doubles the channels, so there is always a shortcut convolution.
        yield from residual(f"up_modules.{i}.0", f"up_first_{i}", True)
        yield from residual(f"up_modules.{i}.1", f"up_second_{i}", False)
        yield from pair(f"up_modules.{i}.2.conv", (f"upsample_{i}",), _upsample_kernel)
    yield from conv_block("final_conv.0", ("final_block",))
    yield from pair("final_conv.1", ("final",), conv1d_kernel)


def convert_unet(
    state: Mapping[str, np.ndarray], net: Unet1d, condition: int, prefix: str = ""
) -> tuple[dict[str, Any], Report]:
    """State dict -> (parameters of `net`, report).

    Args:
        state: holds the net's tensors under `prefix`; others are reported as unused.
        net: of the same sizes.
        condition: width of the conditioning vector.
        prefix: e.g. "model.".
    """
    noisy = jax.ShapeDtypeStruct((1, net.time_multiple, net.action_dim), jnp.float32)
    steps, vector = (
        jax.ShapeDtypeStruct((1,), jnp.int32),
        jax.ShapeDtypeStruct((1, condition), jnp.float32),
    )
    template = jax.eval_shape(net.init, jax.random.key(0), noisy, steps, vector)["params"]
    return convert(state, unet_rules(net, prefix), template)
