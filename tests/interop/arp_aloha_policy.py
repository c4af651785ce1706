"""The published ALOHA policy, reproduced: encoder, losses, streams, statistics and actions.

In: the arrays of a golden file with ``state_dict_json`` (weights are formulas of their names) and
the network's inputs, images and states as it sees them. Sizes come from the tensors' shapes.
Results may be subsampled: ``_subN`` in a name means every N-th entry of some axes.
"""

import itertools
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.arp_aloha import aloha_to_torch, convert_aloha
from arp_jax.models.generate import Sampling, generate_with_trace
from arp_jax.policies.arp_aloha import AlohaArpConfig, AlohaArpPolicy
from arp_jax.policies.arp_aloha_config import ACTION, FEATURE_MAP, LEFT, RIGHT, STRIDE, TOKENS
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec, PolicySpec
from tests.golden_files import GoldenCheck
from tests.interop.formula_weights import formula_state

Arrays = dict[str, np.ndarray]

# Inputs by the names that a file may give them; a folder-like prefix is allowed.
NAMES = {
    "state": ("state", "observation.state", "observation_state", "agent_pos", "qpos"),
    "action": ("action", "actions"),
    "is_pad": ("action_is_pad", "is_pad"),
    "left": ("left_pts_2d", "left_pts", "left_points"),
    "right": ("right_pts_2d", "right_pts", "right_points"),
}
INPUT_FOLDERS = ("", "in/", "input/", "inputs/", "batch/")

# Results: pattern of the key -> our quantity.
RESULTS = (
    (r"(resnet_|backbone_)?(fmap|feature_map|features)|backbone(_out)?", "feature_map"),
    (r"visual[-_]tokens?|enc(oder)?_out|obs_tokens", "tokens"),
    (r"visual[-_]feat_?map", "map"),
    (r"valid(_tk)?_mask", "valid"),
    (r"guide_pts?_(left|right)", "points_{}"),
    (r"emb_star_out", "value_out"),
    (r"emb_hat_out", "query_out"),
    (r"guide_logits_(left|right)", "logits_{}"),
    (r"tks|tk_codes", "sequence"),
    (r"action", "pred_action"),
    (r"guide-pt-(left|right)", "pred_{}"),
)


def is_aloha(data: Any) -> bool:
    """True when the arrays (or an open archive) are of the ALOHA policy, whatever their file."""
    if "state_dict_json" not in data:
        return False
    tensors = json.loads(str(data["state_dict_json"]))
    return any(name.removeprefix("model.").startswith("backbone.") for name in tensors)


def check_aloha(data: Arrays, check: GoldenCheck) -> set[str]:
    """Compare every result whose name is known; returns the keys that were not looked at."""
    case = AlohaCase(data, check)
    case.check_acting()
    case.check_training()
    return set(data) - case.seen - {"state_dict_json", "meta_json", "cfg_json"}


class AlohaCase:
    """One golden file: its inputs, the policy of its sizes, and its weights as our parameters."""

    def __init__(self, data: Arrays, check: GoldenCheck) -> None:
        self.data, self.check = data, check
        self.seen: set[str] = set()
        self.inputs = {name: self._input(keys) for name, keys in NAMES.items()}
        self.inputs["image"] = self._image()
        shapes = json.loads(str(data["state_dict_json"]))
        self.policy = _policy(shapes, self.inputs)
        state = formula_state(shapes)
        self.params, report = convert_aloha(state, self.policy)
        report.raise_if_incomplete(check.name)
        assert len(report.used) + len(report.ignored) == len(shapes)
        if not any(name.startswith("normalize_inputs.") for name in shapes):
            self.params["statistics"]["image"] = self._image_statistics()

    def _input(self, keys: tuple[str, ...]) -> np.ndarray | None:
        for folder, key in itertools.product(INPUT_FOLDERS, keys):
            if folder + key in self.data:
                self.seen.add(folder + key)
                return self.data[folder + key]
        return None

    def _image(self) -> np.ndarray:
        """Images [B, 3, h, w], uint8 or as the network sees them."""
        keys = [key for key in self.data if "image" in key and self.data[key].ndim >= 4]
        assert keys, f"{self.check.name}: no image among {sorted(self.data)}"
        self.seen.add(keys[0])
        image = self.data[keys[0]]
        if image.shape[-1] == 3:
            image = np.moveaxis(image, -1, -3)
        return image.reshape(-1, *image.shape[-3:])

    def _image_statistics(self) -> Arrays:
        """Given in the file, or none: then the network sees values in [0, 1] (or floats as is)."""
        found = {"mean": np.zeros(3, np.float32), "std": np.ones(3, np.float32)}
        for name in found:
            if f"image_{name}" in self.data:
                self.seen.add(f"image_{name}")
                found[name] = self.data[f"image_{name}"].reshape(3).astype(np.float32)
        return found

    @property
    def observation(self) -> dict[str, jax.Array]:
        image, state = self.inputs["image"], self.inputs["state"]
        image = image.transpose(0, 2, 3, 1)
        if image.dtype != np.uint8:  # already as the network sees it
            image = image.astype(np.float32) * 255
        return {
            "top": jnp.asarray(image)[:, None],
            "state": jnp.asarray(state.reshape(len(image), 1, -1)),
        }

    @property
    def batch(self) -> dict[str, Any]:
        action = self.inputs["action"]
        is_pad = self.inputs["is_pad"]
        task = {}
        for side in ("left", "right"):
            track = self.inputs[side]
            # All points of an arm may be recorded; the last is the middle of its gripper.
            task[f"{side}_points"] = jnp.asarray(track[:, :, -1] if track.ndim == 4 else track)
        return {
            "observation": self.observation,
            "action": jnp.asarray(action),
            "action_is_pad": jnp.asarray(
                np.zeros(action.shape[:2], bool) if is_pad is None else is_pad.astype(bool)
            ),
            "task": task,
        }

    # -- comparisons ----------------------------------------------------------------------------

    def compare(self, key: str, found: np.ndarray) -> None:
        """Compare one key, subsampled as its name says."""
        self.seen.add(key)
        expected = self.data[key]
        fitting = [x for x in _views(np.asarray(found), key) if x.shape == expected.shape]
        assert fitting, f"{self.check.name}: {key} has shape {expected.shape}, ours {found.shape}"
        # Square pictures may be subsampled in two ways of the same shape.
        best = min(fitting, key=lambda x: float(np.abs(x - expected.astype(np.float64)).max()))
        self.check.compare(key, best, expected)

    def compare_known(self, found: Arrays) -> None:
        """Compare every key that names one of our quantities."""
        for key in self.data:
            if key in self.seen:
                continue
            bare = re.sub(r"_sub\d+$", "", key.split("/")[-1])
            for pattern, quantity in RESULTS:
                match = re.fullmatch(pattern, bare)
                name = quantity.format(match[1]) if match and "{}" in quantity else quantity
                if match and name in found and key not in self.seen:
                    self.compare(key, found[name])

    def check_acting(self) -> None:
        """From pixels to actions: every stage of one program."""
        policy = self.policy

        @jax.jit
        def act(params: Any, observation: Any) -> dict[str, jax.Array]:
            images = policy._images(params["statistics"], observation)
            feature_map = policy.encoder.apply(
                {"params": params["encoder"]}, images, method="feature_map"
            )
            contexts = policy._contexts(params, observation, None)
            step = generate_with_trace(
                policy.transformer,
                params["transformer"],
                policy._state(observation)[:, None],
                policy.action_schedule,
                contexts,
                None,
                Sampling(),
            ).steps[-1]
            return {
                "feature_map": feature_map.transpose(0, 3, 1, 2),
                "tokens": contexts[TOKENS],
                "map": contexts[FEATURE_MAP].transpose(0, 3, 1, 2),
                "raw": step["predictions"][ACTION],
                "actions": policy.act(params, observation, jax.random.key(0)),
            }

        found = jax.device_get(act(self.params, self.observation))
        self.compare_known(found)
        for key in self.data:
            if re.fullmatch(r"gen/.*action.*|actions?_pred", key):
                is_raw = self.data[key].shape[-1] == found["raw"].shape[-1]
                self.compare(key, found["raw" if is_raw else "actions"])

    def check_training(self) -> None:
        """Labels, both streams, losses and the guide heads' running statistics after the call."""
        if self.inputs["action"] is None or self.inputs["left"] is None:
            return
        policy = self.policy

        @jax.jit
        def train(params: Any, batch: Any) -> dict[str, Any]:
            total, metrics = policy.loss(params, batch, jax.random.key(0), train=False)
            values, labels = policy._sequence(batch)
            contexts = policy._contexts(params, batch["observation"], None)
            valid = policy._valid(batch["action_is_pad"])

            def trace(every_row: bool) -> dict[str, Any]:
                return policy.transformer.apply(
                    {"params": params["transformer"]},
                    values,
                    policy.schedule,
                    contexts,
                    valid=valid,
                    labels=labels,
                    every_row=every_row,
                    method="trace",
                )

            streams, predictions = trace(True), trace(False)["predictions"]
            guides = values[:, 1 + policy.spec.horizon :, :2]
            left, right = jnp.split(guides, 2, axis=1)
            return {
                "metrics": {**metrics, "mean": total},
                "valid": valid,
                "points_left": left,
                "points_right": right,
                "value_out": streams["value_out"],
                "query_out": streams["query_out"],
                "values": values,
                "logits_left": predictions[LEFT],
                "logits_right": predictions[RIGHT],
                "raw_action": predictions[ACTION],
                "statistics": policy.update_statistics(params, batch)["statistics"],
            }

        found = jax.device_get(train(self.params, self.batch))
        self.compare_known({**found, **_at_valid_tokens(found, policy)})
        entries = found["metrics"]
        for key in self.data:
            if match := re.fullmatch(r"(train/)?loss/(.+)", key):
                assert match[2] in entries, f"{self.check.name}: unknown loss {key}"
                self.compare(key, entries[match[2]])
        after = aloha_to_torch({**self.params, "statistics": found["statistics"]}, policy)
        for key in self.data:
            if match := re.fullmatch(r"(train/)?after/(.*running_(mean|var))", key):
                self.compare(key, after["model." + match[2].removeprefix("model.")])


def _at_valid_tokens(found: dict[str, Any], policy: AlohaArpPolicy) -> Arrays:
    """Raw predictions of the tokens that count, one row each, and the sequence with its ids."""
    ids = np.asarray(policy.schedule.token_ids)
    batch = len(found["values"])
    column = np.broadcast_to(ids[:, None], (batch, len(ids), 1))
    rows = {"sequence": np.concatenate([found["values"], column], axis=-1)}
    parts = {"action": "raw_action", "left": "logits_left", "right": "logits_right"}
    for token_id, (name, source) in enumerate(parts.items(), start=1):
        rows[f"pred_{name}"] = found[source][found["valid"][:, ids == token_id]]
        if name != "action":
            rows[f"pred_{name}"] = rows[f"pred_{name}"][:, None]  # one channel, as published
    return rows


def _views(found: np.ndarray, key: str) -> list[np.ndarray]:
    """The array, or with ``_subN`` every N-th entry of one axis or of the last two."""
    match = re.search(r"_sub(\d+)$", key)
    if match is None:
        return [found]
    step = slice(None, None, int(match[1]))
    cuts = [[axis] for axis in range(1, found.ndim)] + [[found.ndim - 2, found.ndim - 1]]
    return [
        found[tuple(step if axis in cut else slice(None) for axis in range(found.ndim))]
        for cut in cuts
    ]


def _policy(shapes: dict[str, list[int]], inputs: dict[str, np.ndarray | None]) -> AlohaArpPolicy:
    """The policy of the tensors' and inputs' sizes; it has eight heads, as published."""
    bare = {name.removeprefix("model."): shape for name, shape in shapes.items()}

    def count(pattern: str) -> int:
        return len({m[0] for name in bare if (m := re.match(pattern, name))})

    length, width = bare["policy.pos_emb.weight"]
    action_dim = bare["policy.token_embedders.1.embed.weight"][1]
    state_dim = bare["policy.token_embedders.0.embed.weight"][1]
    action = inputs["action"]
    horizon = 100 if action is None else action.shape[1]
    masks = bare["policy.token_predictors.2.upsample.net_mask.2.weight"][0]
    config = AlohaArpConfig(
        guide_points=(length - 1 - horizon) // 2,
        guide_downsample=STRIDE // round((masks / 9) ** 0.5),
        guide_corr_dim=bare["policy.token_predictors.2.corr_proj.0.weight"][0],
        action_chunk=horizon,
        one_step=bare["policy.chunk_embedder.chunk_embed.weight"][0] == length,
        embed_dim=width,
        layers=count(r"policy\.blocks\.\d+"),
        encoder_layers=count(r"encoder\.layers\.\d+"),
        encoder_hidden=bare["encoder.layers.0.linear1.weight"][0],
        published_padding=True,
    )
    height, breadth = inputs["image"].shape[-2:]
    names = tuple(f"joint_{i}" for i in range(max(action_dim, state_dim)))
    limits = (-1.0,) * action_dim, (1.0,) * action_dim
    spec = PolicySpec(
        ObservationSpec(
            (FeatureSpec("state", names[:state_dim], "rad", "joint"),),
            (CameraSpec("top", height, breadth),),
        ),
        ActionSpec(names[:action_dim], "rad", "joint", (True,) * action_dim, *limits, 50.0),
        window=1,
        horizon=horizon,
    )
    return AlohaArpPolicy(config, spec)
