"""The published RLBench policies with formula weights, from views to votes, codes and losses.

One file holds ARP and, under ``plus/``, ARP+ over the same two transformers. Its views are random
numbers that are drawn again here (``meta_json`` says how), so only outputs are stored; the points
and codes that the publisher's post-processing made of them are compared exactly.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.arp_rlbench import HEAD_PREFIX, convert_rlbench, rlbench_to_torch
from arp_jax.policies import rlbench_scene
from arp_jax.policies.arp_rlbench import (
    STAGES,
    RlbenchArpPolicy,
    Targets,
    published_rlbench,
    rlbench_spec,
)
from arp_jax.policies.rlbench_config import GRIPPER
from arp_jax.policies.rotation_codes import (
    codes_to_quaternion,
    quaternion_to_matrix,
    rotation_to_codes,
)
from tests.golden_files import GoldenCheck
from tests.interop.formula_weights import formula_state

Arrays = dict[str, np.ndarray]
CLASSES = 72


def random_inputs(batch: int = 2, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Views of either stage and the rest of an observation, as the file's ``meta_json`` says."""
    rng = np.random.RandomState(seed)
    views = {
        stage: rng.uniform(-1, 1, (batch, 3, 224, 224, 10)).astype(np.float32) for stage in STAGES
    }
    proprio = rng.uniform(-1, 1, (batch, 3)).astype(np.float32)
    language = rng.standard_normal((batch, 77, 512)).astype(np.float32)
    return views, {"proprio": proprio, "language": language}


class RlbenchCase:
    """One file: the parameters of both variants, and the maps that they share."""

    def __init__(self, data: Arrays, check: GoldenCheck) -> None:
        self.data, self.check = data, check
        self.policies = {
            variant: RlbenchArpPolicy(published_rlbench(variant), rlbench_spec())
            for variant in ("arp", "plus")
        }
        shapes = json.loads(str(data["state_dict_json"]))
        state = formula_state(shapes)
        self.params = {"arp": self._convert(state, "arp", shapes)}
        shapes_plus = json.loads(str(data["plus/state_dict_json"]))
        shared = {k: v for k, v in state.items() if not k.startswith(HEAD_PREFIX)}
        state_plus = shared | formula_state(shapes_plus)
        self.params["plus"] = self._convert(state_plus, "plus", shapes_plus | dict.fromkeys(shared))
        self.maps = self._feature_maps()

    def _convert(self, state: Arrays, variant: str, names: dict[str, Any]) -> dict[str, Any]:
        params, report = convert_rlbench(state, self.policies[variant])
        report.raise_if_incomplete(self.check.name)
        assert len(report.used) + len(report.ignored) == len(names)
        back = rlbench_to_torch(params, self.policies[variant])
        assert set(back) == set(names)
        for name in report.used:
            np.testing.assert_array_equal(back[name], state[name], err_msg=name)
        return params

    def _feature_maps(self) -> dict[str, jax.Array]:
        views, observation = random_inputs()
        policy = self.policies["arp"]

        @jax.jit
        def run(params: Any, views: jax.Array) -> tuple[jax.Array, jax.Array]:
            inputs = (views, observation["proprio"], observation["language"])
            rows = policy.views.apply({"params": params}, *inputs, method="mixed_rows")
            maps: Any = policy.views.apply({"params": params}, *inputs)
            return maps, rows  # one computation: XLA finds the common part

        maps = {}
        for stage in STAGES:
            maps[stage], rows = run(self.params["arp"][stage], jnp.asarray(views[stage]))
            found = np.asarray(rows)[:, ::40, ::64]
            self.check.compare(f"tokens/{stage}", found, self.data[f"tokens_sub/{stage}"])
            found = np.asarray(maps[stage])[:, :, ::5, ::5, ::8]
            self.check.compare(f"maps/{stage}", found, self.data[f"maps_sub/{stage}"])
        return maps

    def targets(self) -> Targets:
        """Goal, zoom and teacher-forced codes of the file's training call, made by our code."""
        config = self.policies["arp"].config
        action = jnp.asarray(self.data["train/action"])
        goal = rlbench_scene.to_cube(action[:, :3], config.scene_bounds)
        fine = rlbench_scene.zoom_in(goal, goal + self.data["train/noise"], config.zoom)
        self.check.compare("point/coarse", goal, self.data["train/point/coarse"])
        self.check.compare("point/fine", fine, self.data["train/point/fine"])
        turns = rotation_to_codes(quaternion_to_matrix(action[:, 3:7]), CLASSES)
        fed = (turns + self.data["train/jitter"]) % CLASSES
        rest = action[:, 7:].astype(jnp.int32)
        codes, fed = (jnp.concatenate([part, rest], axis=1) for part in (turns, fed))
        np.testing.assert_array_equal(codes, self.data["train/codes"])
        return Targets({"coarse": goal, "fine": fine}, codes, fed)

    def check_losses(self, variant: str, prefix: str) -> None:
        """Every loss, dropout off."""
        policy, targets = self.policies[variant], self.targets()
        losses = jax.jit(policy.losses_of_maps)(self.params[variant], self.maps, targets)
        expected = [k for k in self.data if k.startswith(f"{prefix}train/loss/")]
        assert len(expected) == len(losses) == 7
        for key in expected:
            self.check.compare(key, losses[key.rpartition("/")[2]], self.data[key])

    def check_predictions(self, variant: str, prefix: str) -> None:
        """Pixel logits, voted points, class logits, codes, and the action of the first sample."""
        policy, params, data = self.policies[variant], self.params[variant], self.data
        for stage in STAGES:
            logits = jax.jit(policy.point_logits, static_argnums=1)(params, stage, self.maps[stage])
            key = f"{prefix}act/logits_sub16/{stage}"
            self.check.compare(key, np.asarray(logits)[..., ::16, ::16], data[key])
            point = jax.jit(policy.locate, static_argnums=1)(params, stage, self.maps[stage])
            # A neighbouring grid point would be 1/112 away.
            np.testing.assert_allclose(point, data[f"{prefix}act/point/{stage}"], atol=1e-6)
        fine = jnp.asarray(data[f"{prefix}act/point/fine"])
        codes = jax.jit(policy.gripper_codes)(params, self.maps["fine"], fine)
        np.testing.assert_array_equal(codes, data[f"{prefix}act/codes"])
        # Fed its own output, the training pass sees the logits that generation saw.
        inputs = policy._gripper_inputs(self.maps["fine"], Targets({"fine": fine}, codes, codes))
        trace = policy._apply(params, "trace", *inputs, every_row=False)
        for name in GRIPPER:
            key = f"{prefix}act/class_logits/{name}"
            self.check.compare(key, trace["predictions"][name][:, 0], data[key])
        self._check_action(policy, prefix, codes)

    def _check_action(self, policy: RlbenchArpPolicy, prefix: str, codes: jax.Array) -> None:
        points = {s: jnp.asarray(self.data[f"{prefix}act/point/{s}"]) for s in STAGES}
        place = rlbench_scene.zoom_out(points["fine"], points["coarse"], policy.config.zoom)
        place = rlbench_scene.from_cube(place, policy.config.scene_bounds)
        expected = self.data[f"{prefix}act/action0"]
        self.check.compare(f"{prefix}position", place[0], expected[:3])
        quaternion = codes_to_quaternion(codes[:, :3], CLASSES)
        self.check.compare(f"{prefix}quaternion", quaternion[0], expected[3:7])


def check_rlbench(data: Arrays, check: GoldenCheck) -> None:
    """Compare everything in the file."""
    case = RlbenchCase(data, check)
    for variant, prefix in (("arp", ""), ("plus", "plus/")):
        case.check_losses(variant, prefix)
        case.check_predictions(variant, prefix)
