"""ALOHA checkpoints of ARP: there and back exactly, a report of every tensor, torch's encoder."""

import dataclasses

import jax
import numpy as np
import pytest

from arp_jax.interop.arp_aloha import aloha_to_torch, convert_aloha, normalizer_from_state
from arp_jax.interop.torch_encoder import detr_encoder_rules
from arp_jax.interop.torch_resnet import convert_trunk, trunk_rules
from arp_jax.interop.torch_state import convert, to_torch
from arp_jax.models.detr_encoder import DetrEncoder
from arp_jax.models.resnet import ResNet
from arp_jax.normalize import Affine
from arp_jax.policies.arp_aloha import AlohaArpPolicy
from tests.policies.test_arp_aloha import TINY, A, S, random_params, tiny_spec

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def policy() -> AlohaArpPolicy:
    return AlohaArpPolicy(TINY, tiny_spec())


@pytest.fixture(scope="module")
def params(policy) -> dict:
    return random_params(policy)


@pytest.fixture(scope="module")
def normalizer() -> dict[str, Affine]:
    return {
        "state": Affine(RNG.normal(size=S), 1 + RNG.uniform(size=S)),
        "action": Affine(RNG.normal(size=A), 0.01 + RNG.uniform(size=A)),
    }


def test_there_and_back_is_exact(policy, params, normalizer) -> None:
    state = aloha_to_torch(params, policy, normalizer)
    found, report = convert_aloha(state, policy)
    report.raise_if_incomplete("round trip")
    assert len(report.used) == len(jax.tree.leaves(params))
    assert jax.tree.all(jax.tree.map(np.array_equal, found, params))
    again = normalizer_from_state(state, policy)
    for name, affine in normalizer.items():
        np.testing.assert_array_equal(again[name].offset, affine.offset)
        np.testing.assert_array_equal(again[name].scale, affine.scale)
    for name, array in aloha_to_torch(found, policy, again).items():
        np.testing.assert_array_equal(array, state[name])


def test_published_names_and_layouts(policy, params) -> None:
    state = aloha_to_torch(params, policy)
    shapes = {name: array.shape for name, array in state.items()}
    width, hidden = TINY.embed_dim, TINY.encoder_hidden
    expected = {
        "model.backbone.conv1.weight": (64, 3, 7, 7),
        "model.backbone.layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "model.backbone.layer4.1.bn2.running_var": (512,),
        "model.encoder.layers.0.self_attn.in_proj_weight": (3 * width, width),
        "model.encoder.layers.0.linear1.weight": (hidden, width),
        "model.encoder.norm.bias": (width,),
        "model.encoder_robot_state_input_proj.weight": (width, S),
        "model.encoder_img_feat_input_proj.weight": (width, 512, 1, 1),
        "model.encoder_robot_pos_embed.weight": (1, width),
        "model.policy.token_embedders.2.div_term": (1, width // 4),
        "model.policy.token_predictors.3.corr_proj.3.weight": (8, 1, 5, 5),
        "model.policy.token_predictors.3.corr_proj.7.running_mean": (8,),
        "model.policy.token_predictors.3.corr_proj.7.num_batches_tracked": (),
        "normalize_inputs.buffer_observation_images_top.std": (3, 1, 1),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    kernel = params["encoder"]["cell_dense"]["kernel"]
    weight = state["model.encoder_img_feat_input_proj.weight"]
    np.testing.assert_array_equal(weight[3, 5, 0, 0], kernel[5, 3])


def test_network_alone_keeps_the_configs_image_statistics(policy, params) -> None:
    state = {
        name.removeprefix("model."): array
        for name, array in aloha_to_torch(params, policy).items()
        if name.startswith("model.")
    }
    found, report = convert_aloha(state, policy)
    report.raise_if_incomplete("network")
    np.testing.assert_allclose(found["statistics"]["image"]["mean"], TINY.image_mean)
    np.testing.assert_array_equal(
        found["encoder"]["state_position"], params["encoder"]["state_position"]
    )
    with pytest.raises(ValueError, match=r"no normalize_inputs.buffer_observation_state.mean"):
        normalizer_from_state(state, policy)


def test_report_names_what_does_not_fit(policy, params) -> None:
    state = aloha_to_torch(params, policy)
    del state["model.encoder.norm.weight"]
    state["model.extra"] = np.zeros(1)
    _, report = convert_aloha(state, policy)
    assert report.missing == ["model.encoder.norm.weight"]
    assert report.unused == ["model.extra"]
    wider = AlohaArpPolicy(dataclasses.replace(TINY, encoder_hidden=20), tiny_spec())
    _, report = convert_aloha(state, wider)
    assert ("model.encoder.layers.0.linear1.weight", (16, 16), (20, 16)) in report.misshaped
    with pytest.raises(ValueError, match=r"file\.safetensors: state dict does not match"):
        report.raise_if_incomplete("file.safetensors")


def test_torchvision_trunk_without_its_classifier() -> None:
    frame = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(ResNet(18, "frozen_batch").init, jax.random.key(0), frame)["params"]
    trunk = jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(np.float32), shapes)
    state = to_torch(trunk, trunk_rules("", ()))
    state |= {
        "fc.weight": np.zeros((1000, 512), np.float32),
        "fc.bias": np.zeros(1000, np.float32),
        "bn1.num_batches_tracked": np.zeros((), np.int64),
    }
    found, report = convert_trunk(state)
    report.raise_if_incomplete("resnet18.pth")
    assert len(report.ignored) == 3
    assert jax.tree.all(jax.tree.map(np.array_equal, found, trunk))


def test_detr_encoder_equals_pytorchs() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch's encoder")
    width, heads, hidden, layers = 16, 4, 24, 2
    encoder = DetrEncoder(layers=layers, embed_dim=width, heads=heads, hidden=hidden)
    tokens = RNG.normal(size=(2, 7, width)).astype(np.float32)
    template = jax.eval_shape(encoder.init, jax.random.key(0), tokens)["params"]
    layer = torch.nn.TransformerEncoderLayer(width, heads, hidden, batch_first=True)
    theirs = torch.nn.TransformerEncoder(layer, layers, torch.nn.LayerNorm(width)).eval()
    with torch.no_grad():
        for tensor in theirs.parameters():
            tensor.copy_(torch.from_numpy(RNG.normal(size=tuple(tensor.shape)) / 3))
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    params, report = convert(state, detr_encoder_rules("", (), layers), template)
    report.raise_if_incomplete("torch encoder")

    @jax.jit
    def run(params, tokens, positions):
        plain = encoder.apply({"params": params}, tokens)
        return plain, encoder.apply({"params": params}, tokens, positions)

    positions = RNG.normal(size=(7, width)).astype(np.float32)
    plain, placed = run(params, tokens, positions)
    with torch.no_grad():
        np.testing.assert_allclose(plain, theirs(torch.from_numpy(tokens)), atol=2e-5)
        rows = torch.from_numpy(tokens)
        for each in theirs.layers:  # DETR's form: positions join queries and keys of every layer
            there = rows + torch.from_numpy(positions)
            rows = each.norm1(rows + each.self_attn(there, there, rows, need_weights=False)[0])
            rows = each.norm2(rows + each.linear2(torch.relu(each.linear1(rows))))
        np.testing.assert_allclose(placed, theirs.norm(rows), atol=2e-5)
