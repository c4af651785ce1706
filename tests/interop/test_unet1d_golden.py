"""Diffusion Policy's U-Net through the importer against `golden/act/unet1d.npz` and its like.

A file belongs here when its `meta` has "down_dims"; each net in it has weights `w/<net>.<tensor>`
and outputs `out/<net>`, `out/<net>_scalar_t`. Kernel and kind of FiLM are read off the weights.
"""

import json

import jax
import numpy as np
import pytest

from arp_jax.interop.torch_state import to_torch
from arp_jax.interop.torch_unet1d import convert_unet, unet_rules
from arp_jax.models.unet1d import Unet1d
from tests.golden_files import FAST_COMPILE, GoldenCheck, golden_paths, load_golden

STEPS = np.arange(100)


def unet_files():
    files = []
    for path in golden_paths("act"):
        golden = load_golden(path)
        if "meta" in golden and "down_dims" in json.loads(str(golden["meta"])):
            files.append(path)
    return files


def nets_of(golden):
    """{name: (net, state dict)} of a file."""
    meta = json.loads(str(golden["meta"]))
    nets = {}
    for name in sorted({key.split("/")[1].split(".")[0] for key in golden if key.startswith("w/")}):
        prefix = f"w/{name}."
        state = {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}
        first = state["down_modules.0.0.blocks.0.block.0.weight"]
        film = state["down_modules.0.0.cond_encoder.1.weight"].shape[0]
        net = Unet1d(
            action_dim=meta["input_dim"],
            widths=tuple(meta["down_dims"]),
            step_size=meta["diffusion_step_embed_dim"],
            kernel=first.shape[2],
            groups=meta["n_groups"],
            film_scale=film == 2 * first.shape[0],
        )
        nets[name] = (net, state, meta["global_cond_dim"])
    return nets


def at_every_step(net, params, sample, vector):
    """Predictions [100, B, T, A] at each step, as a sampler computes them."""
    weights = {"params": params}
    levels, seen = net.apply(weights, STEPS, vector, method="prepare")

    def denoise(level):
        return net.apply(weights, sample, level, seen, method="denoise")

    return jax.jit(jax.vmap(denoise), compiler_options=FAST_COMPILE)(levels)


@pytest.mark.golden
@pytest.mark.parametrize("path", unet_files(), ids=lambda p: p.stem)
def test_unet_reproduces_its_vectors(path, capsys):
    golden = load_golden(path)
    check = GoldenCheck(path.stem)
    for name, (net, state, condition) in nets_of(golden).items():
        params, report = convert_unet(state, net, condition)
        report.raise_if_incomplete(f"{path.stem}/{name}")
        apply = jax.jit(
            lambda p, *args, net=net: net.apply({"params": p}, *args), compiler_options=FAST_COMPILE
        )
        sample, vector = golden["in/sample"], golden["in/global_cond"]
        check.compare(
            name, apply(params, sample, golden["in/timestep"], vector), golden[f"out/{name}"]
        )
        scalar = f"out/{name}_scalar_t"
        if scalar in golden:
            # The file does not say which step the scalar was: it must be one of the hundred.
            every = at_every_step(net, params, sample, vector)
            errors = np.abs(every - golden[scalar]).max((1, 2, 3))
            check.compare(f"{name} scalar", every[errors.argmin()], golden[scalar])
        for key, value in to_torch(params, unet_rules(net)).items():
            np.testing.assert_array_equal(value, state[key])
    check.finish(capsys)


def test_horizon_that_cannot_be_halved_is_refused():
    net = Unet1d(2, widths=(8, 8, 8), step_size=8, groups=2)
    with pytest.raises(ValueError, match=r"horizon 6 is no multiple of 4"):
        net.init(jax.random.key(0), np.zeros((1, 6, 2)), np.zeros(1, int), np.zeros((1, 3)))
