"""The published Push-T policy, reproduced: labels, encoder, losses, streams and actions.

Weights are formulas of their names (golden README), so the 14.3 M of them need no file.
"""

import dataclasses
import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.interop.arp_push_t import convert_push_t
from arp_jax.models.generate import Sampling, generate_with_trace
from arp_jax.models.observation_encoder import crop_images, scale_images
from arp_jax.policies.arp import ArpPolicy, published_push_t
from arp_jax.policies.arp_config import OBSERVATION
from arp_jax.policies.plan_labels import (
    chunk_blocks,
    gaussian_heatmaps,
    plan_from_actions,
    plan_to_pixels,
)
from tests.golden_files import GoldenCheck, golden_path, load_golden
from tests.policies.test_arp import push_t_spec

pytestmark = pytest.mark.golden

_AS_BUILT = ("num_batches_tracked", "div_term", "_dummy_variable", "temperature", "pos_x", "pos_y")
_DUPLICATES = ("obs_encoder.obs_nets.image.nets.0.", "obs_encoder.obs_nets.image.nets.1.")


def formula_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight that the golden README defines for a state-dict key."""
    seed = zlib.crc32(name.encode()) & 0x7FFFFFFF
    z = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    if name.endswith("attn_with"):
        return np.float32(0.5) * z
    if len(shape) <= 1:
        is_scale = name.endswith("weight")
        return np.float32(1) + np.float32(0.1) * z if is_scale else np.float32(0.05) * z
    is_table = ("embed" in name or "pos_emb" in name) and ".embed.weight" not in name
    if len(shape) == 2 and is_table:
        return np.float32(0.3) * z
    return (z / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def formula_state(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """The whole state dict; what is left as built is not read by the importer and stays zero."""
    return {
        name: np.zeros(shape, np.float32)
        if name.endswith(_AS_BUILT) or name.startswith(_DUPLICATES)
        else formula_weight(name, tuple(shape))
        for name, shape in shapes.items()
    }


def test_plan_labels_and_chunk_lists(capsys):
    golden, check = load_golden(golden_path("data_utils")), GoldenCheck("data_utils")
    actions = jnp.asarray(golden["pusht/action"])
    check.compare("pusht/norm", (actions - 256) / 256, golden["pusht/norm"])
    for points in (2, 3, 4, 5):
        plan = plan_from_actions(jnp.asarray(golden["pusht/norm"]), points)
        # The file keeps these before the reversal in time, the pixels after it.
        check.compare(f"plan_norm_{points}", plan[:, ::-1], golden[f"pusht/plan_norm_{points}"])
        pixels = plan_to_pixels(plan, 96)
        check.compare(f"plan_px_{points}", pixels, golden[f"pusht/plan_px_{points}"])
    pixels = jnp.asarray(golden["pusht/plan_px_4"])[0]
    check.compare("heatmap_4", gaussian_heatmaps(pixels, 96, 96, 1.0), golden["pusht/heatmap_4"])
    rectangular = gaussian_heatmaps(jnp.asarray(golden["heatmap/pts"]), 24, 32, 1.5)
    check.compare("heatmap_rect", rectangular, golden["heatmap/rect_h24_w32_s1.5"])
    lists = [name.removesuffix("/args") for name in golden if name.endswith("/args")]
    assert len(lists) == 6
    for name in lists:
        first, end, size = golden[f"{name}/args"].tolist()
        # Published lists are rounded up to whole chunks; ours stop at the last token.
        ours = chunk_blocks(first, end - first, size)
        check.compare(name, np.asarray(ours), golden[f"{name}/out"][: end - first])
    check.finish(capsys)


@pytest.fixture(scope="module")
def published():
    """(golden arrays, policy, parameters) of the real Push-T policy with formula weights."""
    golden = load_golden(golden_path("pusht_real"))
    shapes = json.loads(str(golden["state_dict_json"]))
    policy = ArpPolicy(published_push_t(), push_t_spec(horizon=16, camera=True))
    params, report = convert_push_t(formula_state(shapes), policy)
    report.raise_if_incomplete("pusht_real.npz")
    assert len(report.used) + len(report.ignored) == len(shapes)
    return golden, policy, params


def observation_of(golden) -> dict[str, jax.Array]:
    """Channels-last uint8 images and normalised positions."""
    return {
        "image": jnp.asarray(golden["image_u8"]).transpose(0, 1, 3, 4, 2),
        "agent_pos": (jnp.asarray(golden["agent_pos"]) - 256) / 256,
    }


def test_image_encoder(published, capsys):
    golden, policy, params = published
    check, encoder = GoldenCheck("pusht_real encoder"), policy.encoder

    @jax.jit
    def encode(params, images):
        def stage(method, x):
            return encoder.apply({"params": params}, x, method=method)

        images = scale_images(crop_images(images, policy.config.crop, None))
        feature_map = stage("feature_map", images.reshape(-1, *images.shape[2:]))
        keypoints = stage("locate_keypoints", feature_map)
        features = stage("describe_keypoints", keypoints)
        return feature_map.transpose(0, 3, 1, 2), keypoints, features, stage("__call__", images)

    names = ("resnet_fmap", "spatial_softmax", "obs_feat", "visual_token")
    results = encode(params["encoder"], observation_of(golden)["image"])
    for name, found in zip(names, results, strict=True):
        check.compare(name, found, golden[name])
    check.finish(capsys)


def test_losses_and_streams(published, capsys):
    golden, policy, params = published
    check = GoldenCheck("pusht_real training")
    batch = {
        "observation": observation_of(golden),
        "action": (jnp.asarray(golden["action"]) - 256) / 256,
        "action_is_pad": jnp.zeros((2, 16), bool),
    }
    total, metrics = jax.jit(lambda b: policy.loss(params, b, jax.random.key(0), train=False))(
        batch
    )
    names = [name for name in golden if name.startswith("loss/")]
    assert len(names) == 2
    for name in names:
        check.compare(name, metrics[name.removeprefix("loss/")], golden[name])
    check.compare("loss", total, sum(golden[name] for name in names))

    values, labels = policy._sequence(batch)
    contexts = {OBSERVATION: jnp.asarray(golden["visual_token"])}

    @jax.jit
    def streams(params, values):
        found = policy.transformer.apply(
            {"params": params}, values, policy.schedule, contexts, labels=labels, method="trace"
        )
        return found["value_out"], found["query_out"]

    value_out, query_out = streams(params["transformer"], values)
    check.compare("emb_star_out", value_out, golden["train/emb_star_out"])
    check.compare("emb_hat_out", query_out, golden["train/emb_hat_out"])
    check.finish(capsys)


def test_plan_and_actions(published, capsys):
    golden, policy, params = published
    check, prompt = GoldenCheck("pusht_real generation"), observation_of(golden)["agent_pos"]
    contexts = {OBSERVATION: jnp.asarray(golden["visual_token"])}

    @jax.jit
    def generate(params, prompt):
        found = generate_with_trace(
            policy.transformer,
            params,
            prompt,
            policy.schedule,
            contexts,
            None,
            Sampling(sample=False),
        )
        plan_step, action_step = found.steps
        return (
            found.values,
            plan_step["predictions"]["coarse-plan"],
            action_step["predictions"]["fine-action"],
        )

    values, logits, raw = generate(params["transformer"], prompt)
    sub = np.asarray(logits).reshape(8, 96, 96)[:, ::4, ::4]
    check.compare("plan_logits_sub4", sub, golden["gen/plan_logits_sub4"])
    plan = np.asarray(values[:, 2:6]).reshape(8, 2)
    np.testing.assert_array_equal(plan, golden["gen/plan_argmax_xy"])
    check.compare("fine_raw", raw, golden["gen/fine_raw"])
    actions = jnp.clip(values[:, 6:] * 256 + 256, 0, 511)  # [B, H, A] px, the published limits
    check.compare("action_pred", actions, golden["gen/action_pred"])
    check.compare("action", actions[:, 1:9], golden["gen/action"])
    check.finish(capsys)


def test_act_gives_the_published_actions(published, capsys):
    golden, policy, params = published
    config = dataclasses.replace(policy.config, sample=False)
    act = jax.jit(ArpPolicy(config, policy.spec).act)
    actions = act(params, observation_of(golden), jax.random.key(0))
    check = GoldenCheck("pusht_real act")
    check.compare("action_pred", jnp.clip(actions * 256 + 256, 0, 511), golden["gen/action_pred"])
    check.finish(capsys)
