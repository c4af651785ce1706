"""The parts of ACT's network through the importer's rules: layers, the whole stack, positions.

Files are recognised by their content (`act_golden_kinds.py`). PyTorch's arrays have the sequence
first, ours the batch.
"""

import functools
import json

import jax
import numpy as np
import pytest

from arp_jax.interop.torch_detr import decoder_layer_rules, decoder_rules
from arp_jax.interop.torch_encoder import detr_encoder_layer_rules, detr_encoder_rules
from arp_jax.interop.torch_state import convert
from arp_jax.models.detr_decoder import DetrDecoder, DetrDecoderLayer
from arp_jax.models.detr_encoder import (
    DetrEncoder,
    DetrEncoderLayer,
    sine_positions_1d,
    sine_positions_2d,
)
from arp_jax.models.unet1d import step_embedding
from tests.golden_files import FAST_COMPILE, GoldenCheck, load_golden
from tests.interop.act_golden_kinds import LAYERS, POSITIONS, TRANSFORMER, files_of, state_of

VARIANTS = {"post": False, "pre": True}


def imported(module, rules, state, *inputs):
    """Parameters of a module from a state dict in which every tensor has a place."""
    init = functools.partial(module.init, train=False)
    template = jax.eval_shape(init, jax.random.key(0), *inputs)["params"]
    params, report = convert(state, list(rules), template)
    report.raise_if_incomplete("golden file")
    return {"params": params}


def applied(module, params, *inputs, **options):
    call = jax.jit(
        lambda p, *x: module.apply(p, *x, train=False, **options), compiler_options=FAST_COMPILE
    )
    return np.asarray(call(params, *inputs))


def batch_first(array):
    return np.swapaxes(array, 0, 1)


@pytest.mark.golden
@pytest.mark.parametrize("path", files_of(LAYERS), ids=lambda p: p.stem)
def test_layers(path, capsys):
    golden, check = load_golden(path), GoldenCheck(path.stem)
    meta = json.loads(str(golden["meta"]))
    sizes = (meta["d"], meta["nhead"], meta["ff"], 0.0)
    names = ("src", "pos", "tgt", "memory", "query_pos")
    source, positions, target, memory, queries = (batch_first(golden[f"in/{n}"]) for n in names)
    seen = ~golden["in/key_padding"][:, None, None]
    for variant, pre_norm in VARIANTS.items():
        layer = DetrEncoderLayer(*sizes, pre_norm=pre_norm)
        rules = detr_encoder_layer_rules("layer", ())
        state = {f"layer.{k}": v for k, v in state_of(golden, f"enc_{variant}.").items()}
        params = imported(layer, rules, state, source, positions)
        for name, mask in (("", None), ("_padded", seen)):
            found = applied(layer, params, source, positions, seen=mask)
            expected = golden[f"out/enc_{variant}{name}"]
            check.compare(f"encoder {variant}{name}", batch_first(found), expected)

        layer = DetrDecoderLayer(*sizes, pre_norm=pre_norm)
        rules = decoder_layer_rules("layer", ())
        state = {f"layer.{k}": v for k, v in state_of(golden, f"dec_{variant}.").items()}
        inputs = (target, queries, memory, positions)
        params = imported(layer, rules, state, *inputs)
        found = applied(layer, params, *inputs)
        check.compare(f"decoder {variant}", batch_first(found), golden[f"out/dec_{variant}"])
    check.finish(capsys)


@pytest.mark.golden
@pytest.mark.parametrize("path", files_of(TRANSFORMER), ids=lambda p: p.stem)
def test_whole_transformer(path, capsys):
    """Tokens [latent, proprioception, cells]; every decoder layer after the shared norm."""
    golden, check = load_golden(path), GoldenCheck(path.stem)
    meta = json.loads(str(golden["meta"]))
    cells = golden["in/src"].reshape(*golden["in/src"].shape[:2], -1).transpose(0, 2, 1)
    first = np.stack([golden["in/latent"], golden["in/proprio"]], axis=1)
    tokens = np.concatenate([first, cells], axis=1)  # [B, 2 + h * w, C]
    width = tokens.shape[-1]
    positions = np.concatenate(
        [golden["in/additional_pos_embed"], golden["in/pos"].reshape(width, -1).T]
    )
    queries, depth = golden["in/query_embed"], meta["dec_layers"]
    for variant, pre_norm in VARIANTS.items():
        hidden = golden[f"w/{variant}.encoder.layers.0.linear1.weight"].shape[0]
        sizes = (width, meta["nhead"], hidden, 0.0)
        options = {"final_norm": pre_norm, "pre_norm": pre_norm}
        encoder = DetrEncoder(meta["enc_layers"], *sizes, **options)
        rules = detr_encoder_rules("", (), meta["enc_layers"], pre_norm)
        state = state_of(golden, f"{variant}.encoder.")
        params = imported(encoder, rules, state, tokens, positions)
        memory = applied(encoder, params, tokens, positions)

        decoder = DetrDecoder(depth, *sizes, pre_norm=pre_norm)
        state = state_of(golden, f"{variant}.decoder.")
        inputs = (queries, memory, positions)
        params = imported(decoder, decoder_rules("", (), depth), state, *inputs)
        for layer in range(depth):
            found = applied(decoder, params, *inputs, read=layer)
            check.compare(f"{variant} layer {layer}", found, golden[f"out/{variant}"][layer])
    check.finish(capsys)


@pytest.mark.golden
@pytest.mark.parametrize("path", files_of(POSITIONS), ids=lambda p: p.stem)
def test_fixed_positions(path, capsys):
    golden, check = load_golden(path), GoldenCheck(path.stem, tolerance=1e-5)
    for name in (key.removeprefix("in/") for key in golden if key.startswith("in/")):
        if f"out/{name}" in golden:
            width, height, columns = (int(size) for size in golden[f"in/{name}"])
            found = sine_positions_2d(height, columns, width).transpose(2, 0, 1)[None]
            check.compare(name, found, golden[f"out/{name}"])
    _, width, height, columns = golden["out/unnormalised"].shape
    found = sine_positions_2d(height, columns, width, scaled=False).transpose(2, 0, 1)[None]
    check.compare("unnormalised", found, golden["out/unnormalised"])
    for name in (key for key in golden if key.startswith("out/table_")):
        check.compare(name, sine_positions_1d(*golden[name].shape[1:])[None], golden[name])
    for name in (key for key in golden if key.startswith("out/steps_")):
        found = step_embedding(golden["in/steps"], golden[name].shape[1])
        check.compare(name, found, golden[name])
    check.finish(capsys)
