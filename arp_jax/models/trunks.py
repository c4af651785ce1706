"""One place where a config's words for an image trunk become a module: ACT and Diffusion Policy.

In: name, depth, norm and width. Out: a module that maps images [N, height, width, 3] to a feature
map [N, ceil(height / 32), ceil(width / 32), C]. The nets are `resnet.py`'s and
`residual_attention.py`'s.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from arp_jax.models.residual_attention import FORMS, Form, ResidualAttention
from arp_jax.models.resnet import STEM_WIDTH, ResNet

_ATTENTION = "residual_attention_"
# Colors of the images that published trunks were trained on, of values in [0, 1].
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
TRUNKS = ("resnet", *(_ATTENTION + name for name in FORMS))


def make_trunk(
    name: str,
    depth: int = 18,
    norm: str = "group",
    width: int = STEM_WIDTH,
    dtype: Any = jnp.float32,
) -> nn.Module:
    """The trunk called `name`.

    Args:
        name: one of `TRUNKS`.
        depth: layers of a "resnet": 18, 34 or 50. The others ignore it.
        norm: one of `resnet.NORMS`; "folded" is for "resnet" only, see `resnet.fold_norms`.
        width: 64 is the published size; all channels are in proportion to it.
        dtype: of the computation; parameters stay float32.

    Raises:
        ValueError: an unknown name, or "folded" for a trunk whose norms come before convolutions.
    """
    if name == "resnet":
        return ResNet(depth, norm, dtype, width)
    form = attention_form(name, width)
    if norm == "folded":
        raise ValueError(f"trunk {name!r} has its norms before the convolutions: not 'folded'")
    return ResidualAttention(form, norm, dtype=dtype)


def attention_form(name: str, width: int = STEM_WIDTH) -> Form:
    """Sizes of the residual attention trunk called `name`, as it sees cameras.

    The two small classifiers see thumbnails and keep a quarter of their resolution; for cameras
    they get the larger stem and one more stride, so that every trunk divides by 32. Nothing behind
    the first convolution changes its parameters by that.
    """
    if name not in TRUNKS or not name.startswith(_ATTENTION):
        raise ValueError(f"trunk {name!r} is unknown; choose one of {TRUNKS}")
    form = dataclasses.replace(FORMS[name.removeprefix(_ATTENTION)], camera=True)
    stem, *widths = (max(size * width // STEM_WIDTH, 4) for size in (form.stem, *form.widths))
    return dataclasses.replace(form, stem=stem, widths=tuple(widths))
