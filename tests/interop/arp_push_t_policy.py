"""The published Push-T policy, reproduced: encoder, losses, streams and actions.

In: the arrays of a golden file with ``state_dict_json`` (weights are formulas of their names) and
the recorded observations. The configuration comes from its ``cfg_json``; without one it is the
published one. Every stored result must be compared by one of the functions here.
"""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.arp_push_t import convert_push_t
from arp_jax.models.generate import Sampling, generate_with_trace
from arp_jax.models.observation_encoder import crop_images, scale_images
from arp_jax.policies.arp import ArpPolicy, ArpPolicyConfig, published_push_t
from arp_jax.policies.arp_config import OBSERVATION
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec, PolicySpec
from tests.golden_files import GoldenCheck
from tests.interop.formula_weights import formula_state

Arrays = dict[str, np.ndarray]

HALF = 256.0  # published normalisation of positions: (v - 256) / 256 px
INPUTS = {"cfg_json", "meta_json", "state_dict_json", "image_u8", "agent_pos", "action"}
INPUTS |= {"spatial_softmax_pos_x", "spatial_softmax_pos_y"}


def check_push_t(data: Arrays, check: GoldenCheck) -> None:
    """Compare every stored result of the file."""
    case = PushTCase(data, check)
    case.check_encoder()
    case.check_training()
    case.check_generation()
    case.check_act()
    missed = set(data) - INPUTS - case.compared
    assert not missed, f"{check.name}: unknown entries {missed}"


def policy_of(data: Arrays) -> ArpPolicy:
    """The policy that the file's configuration describes."""
    published = json.loads(str(data["cfg_json"])) if "cfg_json" in data else {}
    window, horizon = data["agent_pos"].shape[1], data["action"].shape[1]
    height, width = data["image_u8"].shape[-2:]
    features = (FeatureSpec("agent_pos", ("x", "y"), "px", "world", (0.0, 0.0), (512.0, 512.0)),)
    action = ActionSpec(
        ("x", "y"), "px", "world", (True, True), (0.0, 0.0), (512.0, 512.0), rate_hz=10.0
    )
    observation = ObservationSpec(features, (CameraSpec("image", height, width),))
    spec = PolicySpec(observation, action, window, horizon, 1 - window)
    return ArpPolicy(_config(published, width), spec)


def _config(published: dict[str, Any], size: int) -> ArpPolicyConfig:
    options = published.get("arp_cfg", {})
    layer = options.get("layer_cfg", {})
    names = {
        "n_embd": "embed_dim",
        "num_layers": "layers",
        "plan_steps": "plan_points",
        "plan_chunk_size": "plan_chunk",
        "action_chunk_size": "action_chunk",
        "plan_upscale_ratio": "heatmap_upscale",
        "num_latents": "action_components",
        "low_var_eval": "low_variance",
        "layer_norm_every_block": "layer_norm_every_block",
    }
    found = {ours: options[theirs] for theirs, ours in names.items() if theirs in options}
    of_layer = {"n_head": "heads", "mlp_ratio": "mlp_ratio", "AdaLN": "adaln"}
    found |= {ours: layer[theirs] for theirs, ours in of_layer.items() if theirs in layer}
    crop = tuple(published.get("crop_shape", (84, 84)))
    return dataclasses.replace(published_push_t(), crop=crop, heatmap_size=size, **found)


class PushTCase:
    """One file as a policy, its parameters and its observations."""

    def __init__(self, data: Arrays, check: GoldenCheck) -> None:
        self.data, self.check, self.compared = data, check, set[str]()
        shapes = json.loads(str(data["state_dict_json"]))
        self.policy = policy_of(data)
        self.params, report = convert_push_t(formula_state(shapes), self.policy)
        report.raise_if_incomplete(check.name)
        assert len(report.used) + len(report.ignored) == len(shapes)
        self.observation = {  # channels-last uint8 images and normalised positions
            "image": jnp.asarray(data["image_u8"]).transpose(0, 1, 3, 4, 2),
            "agent_pos": (jnp.asarray(data["agent_pos"]) - HALF) / HALF,
        }
        self.contexts = {OBSERVATION: jnp.asarray(data["visual_token"])}

    def compare(self, key: str, found: Any) -> None:
        self.compared.add(key)
        if key in self.data:
            self.check.compare(key, found, self.data[key])

    def check_encoder(self) -> None:
        policy, encoder = self.policy, self.policy.encoder

        @jax.jit
        def encode(params: Any, images: jax.Array) -> tuple[jax.Array, ...]:
            def stage(method: str, x: jax.Array) -> Any:
                return encoder.apply({"params": params}, x, method=method)

            images = scale_images(crop_images(images, policy.config.crop, None))
            feature_map = stage("feature_map", images.reshape(-1, *images.shape[2:]))
            keypoints = stage("locate_keypoints", feature_map)
            features = stage("describe_keypoints", keypoints)
            return feature_map.transpose(0, 3, 1, 2), keypoints, features, stage("__call__", images)

        names = ("resnet_fmap", "spatial_softmax", "obs_feat", "visual_token")
        results = encode(self.params["encoder"], self.observation["image"])
        for name, found in zip(names, results, strict=True):
            self.compare(name, found)

    def check_training(self) -> None:
        policy, data = self.policy, self.data
        batch = {
            "observation": self.observation,
            "action": (jnp.asarray(data["action"]) - HALF) / HALF,
            "action_is_pad": jnp.zeros(data["action"].shape[:2], bool),
        }

        @jax.jit
        def run(params: Any, batch: Any) -> tuple[Any, ...]:
            total, metrics = policy.loss(params, batch, jax.random.key(0), train=False)
            values, labels = policy._sequence(batch)
            traced = policy.transformer.apply(
                {"params": params["transformer"]},
                values,
                policy.schedule,
                self.contexts,
                labels=labels,
                method="trace",
            )
            return total, metrics, traced["value_out"], traced["query_out"]

        total, metrics, value_out, query_out = run(self.params, batch)
        names = [name for name in data if name.startswith("loss/")]
        assert {name.removeprefix("loss/") for name in names} == set(metrics) - {"loss"}
        for name in names:
            self.compare(name, metrics[name.removeprefix("loss/")])
        self.check.compare("loss", total, sum(data[name] for name in names))
        self.compare("train/emb_star_out", value_out)
        self.compare("train/emb_hat_out", query_out)

    def check_generation(self) -> None:
        policy = self.policy

        @jax.jit
        def generate(params: Any, prompt: jax.Array) -> tuple[Any, ...]:
            arguments = (prompt, policy.schedule, self.contexts, None, Sampling(sample=False))
            found = generate_with_trace(policy.transformer, params, *arguments)
            return found.values, [step["predictions"] for step in found.steps]

        values, steps = generate(self.params["transformer"], self.observation["agent_pos"])
        window, points = policy.spec.window, policy.config.plan_points

        def predicted(name: str) -> np.ndarray:
            rows = [np.asarray(step[name]) for step in steps if name in step]
            return np.concatenate(rows, axis=1)  # [B, N, ...]

        logits, size = predicted("coarse-plan"), policy.config.heatmap_size
        self.compare("gen/plan_logits_sub4", logits.reshape(-1, size, size)[:, ::4, ::4])
        plan = np.asarray(values[:, window : window + points]).reshape(-1, 2)
        self.compare("gen/plan_argmax_xy", plan)
        self.compare("gen/fine_raw", predicted("fine-action"))
        self._compare_actions(values[:, window + points :])

    def check_act(self) -> None:
        """The policy's own way from observations to actions gives them too."""
        config = dataclasses.replace(self.policy.config, sample=False)
        act = jax.jit(ArpPolicy(config, self.policy.spec).act)
        self._compare_actions(act(self.params, self.observation, jax.random.key(0)))

    def _compare_actions(self, normalised: jax.Array) -> None:
        actions = jnp.clip(normalised * HALF + HALF, 0, 511)  # [B, H, A] px, published limits
        self.compare("gen/action_pred", actions)
        # Predictions start with the first observation; executed from the last one on.
        first = self.policy.spec.window - 1
        count = self.data["gen/action"].shape[1] if "gen/action" in self.data else 0
        self.compare("gen/action", actions[:, first : first + count])
