"""robomimic's image encoder (ResNet, spatial softmax, linear layer): names and constants of it.

Policies of several projects carry it: ARP's and Diffusion Policy's on Push-T whole, Mobile ALOHA's
diffusion policy in parts. The encoder registers its trunk and pool twice; we read the first names
and write both. Which encoder lies where is the callers' business.
"""

import math
import re
from collections.abc import Iterator, Mapping

import numpy as np

from arp_jax.interop.torch_encoder import linear_rules
from arp_jax.interop.torch_resnet import trunk_rules
from arp_jax.interop.torch_state import Rule, conv_kernel

_TRUNK_STRIDE = 32  # five halvings, each rounded up
_SECOND_NAMES = {"backbone": "nets.0", "pool": "nets.1"}
# Second names of tensors, constants (coordinates, temperature 1.0) and an empty placeholder.
_CONSTANT = re.compile(
    r".*\.nets\.0\.nets\..*|.*\.nets\.1\.(nets\.(weight|bias)|pos_x|pos_y|temperature)"
    r"|.*\.(pos_x|pos_y|temperature)|(.*\.)?_dummy_variable"
)


def image_encoder_rules(
    name: str, path: tuple[str, ...], depth: int = 18, norm: str = "group"
) -> Iterator[Rule]:
    """One rule per tensor of the encoder called `name`, at `path` of our tree."""
    yield from trunk_rules(f"{name}.backbone.nets.", (*path, "trunk"), depth, norm, numbered=True)
    yield from linear_rules(f"{name}.pool.nets", (*path, "keypoint_conv"), conv_kernel)
    yield from linear_rules(f"{name}.nets.3", (*path, "feature_dense"))


def is_constant(name: str) -> bool:
    """Whether a tensor with this name says nothing that other tensors or the sizes do not."""
    return _CONSTANT.fullmatch(name) is not None


def pool_constants(height: int, width: int) -> dict[str, np.ndarray]:
    """Coordinates (x along a row, row by row) and temperature of the spatial softmax.

    Args:
        height, width: of the images that the trunk sees, in pixels.
    """
    rows, columns = (math.ceil(size / _TRUNK_STRIDE) for size in (height, width))
    across, down = np.linspace(-1.0, 1.0, columns), np.linspace(-1.0, 1.0, rows)
    return {
        "pos_x": np.tile(across, rows).astype(np.float32)[None],  # [1, h * w]
        "pos_y": np.repeat(down, columns).astype(np.float32)[None],
        "temperature": np.ones((1,), np.float32),
    }


def whole_encoder(
    name: str, state: Mapping[str, np.ndarray], height: int, width: int
) -> dict[str, np.ndarray]:
    """What a module called `name` holds besides the tensors of its rules in `state`."""
    constants = pool_constants(height, width)
    more = {f"{name}.pool.{key}": value for key, value in constants.items()}
    for first, second in _SECOND_NAMES.items():
        start = f"{name}.{first}."
        twins = {n: x for n, x in {**state, **more}.items() if n.startswith(start)}
        more |= {f"{name}.{second}.{n.removeprefix(start)}": x for n, x in twins.items()}
    return more
