"""Defects that all episodes share: wrong specs, a sensor that never worked, habits of a dataset."""

import dataclasses

import numpy as np
import pytest

from arp_jax.data.checks.findings import KINDS
from arp_jax.data.images import encode_image
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.specs import FeatureSpec, ObservationSpec
from tests.data.defect_sets import (
    ARM_SPECS,
    DIMS,
    HIGH,
    LOW,
    TYPES,
    arm_episodes,
    findings_of,
    write_raw_episodes,
)
from tests.data.test_validate_defects import DEFECTS, STATE


def _specs(observation=None, action=None):
    """The arm's specs with other words about its state or its action."""
    feature = dataclasses.replace(ARM_SPECS.observation.features[0], **(observation or {}))
    return DatasetSpecs(
        ObservationSpec((feature,), ARM_SPECS.observation.cameras),
        dataclasses.replace(ARM_SPECS.action, **(action or {})),
    )


def _deltas(episodes, late=0):
    """Makes every action the change of the state that it causes (or that it caused)."""
    for episode in episodes:
        state = episode["observation"]["state"]
        change = np.concatenate([np.diff(state, axis=0), np.zeros((1, 7), np.float32)])
        change = np.concatenate([np.zeros((late, 7), np.float32), change])[: len(state)]
        change[:, 6] = episode["action"][:, 6]
        episode["action"] = change


def _everywhere(change):
    def plant(episodes):
        for episode in episodes:
            change(episode["observation"]["state"], episode["action"])

    return plant


def _to_degrees(state, action):
    state[:, :6], action[:, :6] = np.rad2deg(state[:, :6]), np.rad2deg(action[:, :6])


def _zero_joint(state, action):
    state[:, 1] = action[:, 1] = 0


def _opposite_gripper(state, action):
    state[:, 6] = 1 - state[:, 6]


def _slow_camera(episodes):
    for episode in episodes:
        frames = episode["observation"]["image"]
        for t in range(1, len(frames), 2):
            frames[t] = frames[t - 1]


def _never_a_new_picture(episodes):
    for episode in episodes:
        episode["observation"]["image"][:] = episode["observation"]["image"][0]


def _to_meters_times_1000(state, action):
    state[:, :6], action[:, :6] = 1000 * state[:, :6], 1000 * action[:, :6]


def _smaller_pictures(episodes):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    for episode in episodes:
        for t in range(len(episode["observation"]["image"])):
            picture = encode_image(np.roll(pixels, t, 1), "jpeg")
            episode["observation"]["image"][t] = picture


def _no_last(episodes):
    for episode in episodes:
        episode["is_last"][:] = False


WIDE = {"unit": "deg", "low": (*[-180.0] * 6, 0.0), "high": (*[180.0] * 6, 1.0)}
DELTA = {"absolute": (*[False] * 6, True), "low": (*[-0.5] * 6, 0.0), "high": (*[0.5] * 6, 1.0)}
METERS = {"unit": "m"}
BOTH = {"action", STATE}
# name -> (how it is planted, specs, kind, signals); True for one finding on the dataset
COMMON_DEFECTS = {
    "degrees": (_everywhere(_to_degrees), _specs(), "degrees", BOTH, False),
    "radians": (lambda e: None, _specs(WIDE, WIDE), "degrees", BOTH, False),
    "delta": (_deltas, _specs(), "delta_as_absolute", {"action"}, False),
    "target": (lambda e: None, _specs(None, DELTA), "absolute_as_delta", {"action"}, False),
    "late": (lambda e: _deltas(e, 1), _specs(None, DELTA), "misaligned", {"action"}, False),
    "constant": (_everywhere(_zero_joint), _specs(), "constant_dim", BOTH, True),
    "sense": (_everywhere(_opposite_gripper), _specs(), "gripper_sense", {STATE}, True),
    "slow camera": (_slow_camera, _specs(), "slow_camera", {"observation/image"}, True),
    "still": (_never_a_new_picture, _specs(), "duplicate_frames", {"observation/image"}, False),
    "scale": (_everywhere(_to_meters_times_1000), _specs(METERS, METERS), "scale", BOTH, False),
    "size": (_smaller_pictures, _specs(), "camera_size", {"observation/image"}, True),
    "flags": (_no_last, _specs(), "flags_unset", {"is_last"}, True),
}


@pytest.mark.parametrize("name", COMMON_DEFECTS)
def test_a_defect_of_all_episodes_is_found(name, tmp_path):
    plant, specs, kind, fields, once = COMMON_DEFECTS[name]
    episodes = arm_episodes()
    plant(episodes)
    found = findings_of(write_raw_episodes(tmp_path, episodes, specs))
    assert {f.kind for f in found} == {kind}, found
    assert {f.field for f in found} == fields
    assert {f.episode for f in found} == ({None} if once else set(range(10)))


def _with_feature(feature, values):
    """Six episodes with one more observation, `values(number, length)` [T, D]."""
    features = (*ARM_SPECS.observation.features, feature)
    observation = dataclasses.replace(ARM_SPECS.observation, features=features)
    episodes = arm_episodes(6)
    for number, episode in enumerate(episodes):
        made = np.asarray(values(number, len(episode["action"])), np.float32)
        episode["observation"][feature.name] = made
    types = {**TYPES, f"observation/{feature.name}": f"float32[{feature.size}]"}
    return episodes, DatasetSpecs(observation, ARM_SPECS.action), types


def test_a_thing_at_rest_is_only_noted(tmp_path):
    goal = FeatureSpec("goal", ("x", "y"), "m", "world")
    made = _with_feature(goal, lambda number, length: np.full((length, 2), (0.5, number)))
    (found,) = findings_of(write_raw_episodes(tmp_path, *made))
    assert (found.kind, found.severity, found.signal) == ("at_rest", "note", "observation/goal[x]")


def test_a_force_far_beyond_the_others_is_an_outlier(tmp_path):
    def force(number, length):
        values = np.random.default_rng(number).normal(0, 1, (length, 2))
        values[30, 1] += 80 * (number == 4)
        return values

    made = _with_feature(FeatureSpec("force", ("fx", "fy"), "N", "tool"), force)
    (found,) = findings_of(write_raw_episodes(tmp_path, *made))
    assert (found.kind, found.episode, found.step) == ("value_outlier", 4, 30)
    assert found.signal == "observation/force[fy]"


def test_correct_deltas_are_not_reported(tmp_path):
    episodes = arm_episodes()
    _deltas(episodes)
    assert findings_of(write_raw_episodes(tmp_path, episodes, _specs(None, DELTA))) == []


def test_a_missing_feature_and_a_wrong_size_are_named(tmp_path):
    specs = _specs()
    more = dataclasses.replace(specs.observation.features[0], name="velocity")
    cut_off = {"dims": DIMS[:2], "absolute": (True, True), "low": LOW[:2], "high": HIGH[:2]}
    short = dataclasses.replace(specs.action, **cut_off)
    features = (*specs.observation.features, more)
    observation = dataclasses.replace(specs.observation, features=features)
    folder = write_raw_episodes(tmp_path, arm_episodes(2), DatasetSpecs(observation, short))
    found = {(f.kind, f.field) for f in findings_of(folder)}
    assert found == {("missing_field", "observation/velocity"), ("wrong_shape", "action")}


def test_every_kind_of_finding_is_planted_somewhere():
    planted = {case[1] for case in DEFECTS.values()} | {case[2] for case in COMMON_DEFECTS.values()}
    alone = {"unreadable", "missing_field", "wrong_shape", "value_outlier", "at_rest"}
    assert planted | alone == set(KINDS)
