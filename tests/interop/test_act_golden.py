"""ACT and ACT++ through the importer against `golden/act/*.npz`.

Files are recognised by their content (`act_golden_kinds.py`); one that no test knows fails here.
Sizes are read from `meta` and from the weights.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arp_jax.interop.act import act_to_torch, convert_act, convert_prior
from arp_jax.models.latent_prior import LatentPrior, code_loss, sample_codes
from arp_jax.policies.act import ActConfig, ActPolicy, action_l1
from arp_jax.policies.act_style import code_probabilities, code_style, gaussian_style
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec, PolicySpec
from tests.golden_files import FAST_COMPILE, GoldenCheck, golden_paths, load_golden
from tests.interop.act_golden_kinds import POLICY, PRIOR, files_of, kind_of, state_of


def named(prefix, count):
    return tuple(f"{prefix}{i}" for i in range(count))


def policy_of(golden, decoder_output="first"):
    """The policy that the file's sizes describe, and its batch."""
    meta = json.loads(str(golden["meta"]))
    views, height, width = (golden["in/image"].shape[i] for i in (1, 3, 4))
    actions, state_dim = golden["in/actions"].shape[2], golden["in/qpos"].shape[1]
    observation = ObservationSpec(
        (FeatureSpec("qpos", named("q", state_dim), "rad", "base"),),
        tuple(CameraSpec(name, height, width) for name in named("cam", views)),
    )
    limits = ((-1.0,) * actions, (1.0,) * actions)
    action = ActionSpec(
        named("a", actions), "rad", "base", (True,) * actions, *limits, rate_hz=50.0
    )
    config = ActConfig(
        cameras=named("cam", views),
        latent="codes" if meta.get("vq") else "gaussian",
        latent_dim=meta.get("latent", 32),
        code_classes=meta.get("vq_class", 1),
        code_values=meta.get("vq_dim", 1),
        decoder_layers=meta["dec_layers"],
        decoder_output=decoder_output,
        shared_trunk=meta.get("backbones") != "one per camera",
        trunk_norm="frozen_batch",
        trunk_width=meta["resnet_width"],
        embed_dim=meta["hidden"],
        heads=meta["nheads"],
        hidden=meta["ff"],
        style_layers=meta["enc_layers"],
        encoder_layers=meta["enc_layers"],
        dropout=0.0,
    )
    policy = ActPolicy(config, PolicySpec(observation, action, 1, meta["queries"]))
    return policy, meta


def batch_of(golden, horizon):
    """Chunks longer than the queries are cut, as published."""
    images = golden["in/image"].transpose(1, 0, 3, 4, 2)  # [V, B, h, w, 3], in [0, 1]
    cameras = named("cam", len(images))
    observation = {name: image[:, None] for name, image in zip(cameras, images, strict=True)}
    observation["qpos"] = golden["in/qpos"][:, None]
    return {
        "observation": observation,
        "action": golden["in/actions"][:, :horizon],
        "action_is_pad": golden["in/is_pad"][:, :horizon],
    }


@pytest.mark.golden
def test_every_file_of_the_folder_is_known():
    unknown = [path.name for path in golden_paths("act") if kind_of(load_golden(path)) is None]
    assert not unknown, f"{unknown}: no test of this project checks them; see act_golden_kinds.py"


@pytest.fixture
def exact_images(monkeypatch):
    """The vectors' images are floats in [0, 1] that no uint8 holds: undo the division by 255."""

    def scaled(policy, batch):
        cameras = policy.config.cameras
        images = {name: batch["observation"][name] * 255.0 for name in cameras}
        return {**batch, "observation": {**batch["observation"], **images}}

    return scaled


@pytest.mark.golden
@pytest.mark.parametrize("path", files_of(POLICY), ids=lambda p: p.stem)
def test_policy_reproduces_its_vectors(path, capsys, exact_images):
    golden, check = load_golden(path), GoldenCheck(path.stem)
    policy, meta = policy_of(golden)
    params, report = convert_act(state_of(golden), policy)
    report.raise_if_incomplete(path.stem)
    batch = exact_images(policy, batch_of(golden, meta["queries"]))
    codes = policy.config.latent == "codes"

    def forward(params):
        said = policy.encode_style(params, batch)
        if codes:
            probabilities = code_probabilities(said, policy.config.code_classes)
            drawn = jax.nn.one_hot(
                golden["in/vq_indices"].reshape(probabilities.shape[:2]), meta["vq_dim"]
            )
            style, discrepancy = code_style(probabilities, drawn)
            parts = {"vq_discrepancy": discrepancy, "probs": probabilities, "binaries": drawn}
            parts["kl"] = jnp.zeros(())
        else:
            style, divergence = gaussian_style(said, golden["in/eps"])
            mean, log_variance = jnp.split(said, 2, axis=-1)
            parts = {"kl": divergence, "mu": mean, "logvar": log_variance}
        actions, logits = policy.decode(params, style, batch["observation"])
        l1 = action_l1(actions, batch["action"], batch["action_is_pad"])
        loss = l1 + policy.config.kl_weight * parts["kl"]
        return loss, {**parts, "a_hat": actions, "is_pad_hat": logits, "l1": l1, "loss": loss}

    compiled = jax.jit(jax.value_and_grad(forward, has_aux=True), compiler_options=FAST_COMPILE)
    (_, found), gradient = compiled(params)
    for name, value in found.items():
        check.compare(
            name, np.asarray(value).reshape(golden[f"out/{name}"].shape), golden[f"out/{name}"]
        )

    latent = (
        golden["in/vq_sample"].reshape(2, -1)
        if codes
        else np.zeros((2, meta["latent"]), np.float32)
    )
    decode = jax.jit(policy.decode, compiler_options=FAST_COMPILE)
    check.compare(
        "infer", decode(params, latent, batch["observation"])[0], golden["out/infer_a_hat"]
    )
    if "out/infer_a_hat_lastlayer" in golden:
        repaired, _ = policy_of(golden, "last")
        decode = jax.jit(repaired.decode, compiler_options=FAST_COMPILE)
        last = decode(params, latent, batch["observation"])[0]
        check.compare("infer last layer", last, golden["out/infer_a_hat_lastlayer"])

    compare_gradients(check, golden, act_to_torch(gradient, policy, prefix=""))
    for name, value in act_to_torch(params, policy, prefix="").items():
        np.testing.assert_array_equal(value, golden[f"w/{name}"])
    check.finish(capsys)


def compare_gradients(check, golden, gradient):
    """Norm of every gradient (0 behind the layer that is read, -1 outside the graph)."""
    for name, found in gradient.items():
        if f"grad/norm/{name}" in golden:
            expected = max(float(golden[f"grad/norm/{name}"]), 0.0)
            check.compare(f"norm {name}", np.linalg.norm(found), np.float64(expected))
        # Parameters outside the graph have an empty gradient there.
        if golden.get(f"grad/{name}", np.zeros(0)).size:
            check.compare(f"grad {name}", found, golden[f"grad/{name}"])
        if f"step/{name}" in golden:
            rate = 1e-5 if "backbone" in name else 1e-4
            tx = optax.adamw(rate, weight_decay=1e-4)
            weight = golden[f"w/{name}"]
            update, _ = tx.update(found, tx.init(weight), weight)
            # A step moves a weight by about `rate`: far below the tolerance of the other arrays.
            np.testing.assert_allclose(weight + update, golden[f"step/{name}"], atol=rate / 50)


@pytest.mark.golden
@pytest.mark.parametrize("path", files_of(PRIOR), ids=lambda p: p.stem)
def test_prior_over_codes_reproduces_its_vectors(path, capsys):
    golden, check = load_golden(path), GoldenCheck(path.stem)
    meta = json.loads(str(golden["meta"]))
    prior = LatentPrior(
        meta["vq_class"], meta["vq_dim"], meta["latent"], meta["heads"], meta["layers"], 0.0
    )
    params, report = convert_prior(state_of(golden), prior)
    report.raise_if_incomplete(path.stem)
    logits = prior.apply({"params": params}, golden["in/inputs"])
    check.compare("logits", logits, golden["out/logits"])
    # The file calls the wrong axis "loss": published, kept for comparison.
    check.compare("published loss", code_loss(logits, golden["in/gt"], axis=1), golden["out/loss"])
    check.compare("loss", code_loss(logits, golden["in/gt"]), golden["out/loss_over_vq_dim"])
    count = len(golden["out/greedy"])
    greedy = sample_codes(prior, params, jax.random.key(0), count, greedy=True)
    check.compare("greedy", greedy, golden["out/greedy"])
    check.finish(capsys)
