"""Specs: JSON round trip, selection, and mismatch errors that name the field."""

import dataclasses
import json

import pytest

from arp_jax.specs import (
    ActionSpec,
    CameraSpec,
    FeatureSpec,
    ObservationSpec,
    PolicySpec,
    SpecMismatch,
    check_match,
)

OBSERVATION = ObservationSpec(
    features=(
        FeatureSpec("agent_pos", ("x", "y"), "px", "world", (0.0, 0.0), (512.0, 512.0)),
        FeatureSpec("joints", ("j1",), "rad", "base"),
    ),
    cameras=(CameraSpec("image", 96, 96),),
)
ACTION = ActionSpec(
    dims=("x", "y"),
    unit="px",
    frame="world",
    absolute=(True, True),
    low=(0.0, 0.0),
    high=(512.0, 512.0),
    rate_hz=10.0,
)
POLICY = PolicySpec(OBSERVATION, ACTION, window=2, horizon=16, action_offset=-1)


@pytest.mark.parametrize("spec", [OBSERVATION, ACTION, POLICY, OBSERVATION.features[1]])
def test_json_round_trip_is_exact(spec):
    assert type(spec).from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_unknown_and_absent_keys_are_named():
    with pytest.raises(ValueError, match="'colour'"):
        ActionSpec.from_json({**ACTION.to_json(), "colour": 1})
    incomplete = {k: v for k, v in ACTION.to_json().items() if k != "rate_hz"}
    with pytest.raises(ValueError, match="rate_hz"):
        ActionSpec.from_json(incomplete)


def test_select_keeps_order_and_names_what_is_absent():
    assert OBSERVATION.select(["image", "agent_pos"]).names == ("agent_pos", "image")
    with pytest.raises(ValueError, match="wrist"):
        OBSERVATION.select(["wrist"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rate_hz": 20.0}, "action.rate_hz"),
        ({"absolute": (True, False)}, r"action.absolute\[1\]"),
        ({"unit": "m"}, "action.unit"),
    ],
)
def test_mismatch_names_the_field(change, field):
    other = dataclasses.replace(POLICY, action=dataclasses.replace(ACTION, **change))
    with pytest.raises(SpecMismatch, match=field):
        check_match(POLICY, other, "checkpoint and environment")


def test_mismatch_names_the_feature():
    joints = dataclasses.replace(OBSERVATION.features[1], frame="world")
    other = dataclasses.replace(OBSERVATION, features=(OBSERVATION.features[0], joints))
    with pytest.raises(SpecMismatch, match=r"features\[joints\].frame: expected 'base'"):
        check_match(OBSERVATION, other, "dataset and checkpoint")


def test_equal_specs_match():
    check_match(POLICY, PolicySpec.from_json(POLICY.to_json()), "a and b")


@pytest.mark.parametrize("offset", [1, -16])
def test_offset_outside_the_chunk_is_refused(offset):
    with pytest.raises(ValueError, match="action_offset"):
        dataclasses.replace(POLICY, action_offset=offset)


def test_limits_are_checked():
    with pytest.raises(ValueError, match="low must be below"):
        dataclasses.replace(ACTION, low=(0.0, 600.0))
    with pytest.raises(ValueError, match="2 values each"):
        dataclasses.replace(ACTION, low=(0.0,))


def test_a_camera_view_is_part_of_the_spec():
    whole = CameraSpec("top", 480, 640)
    assert set(whole.to_json()) == {"name", "height", "width", "color_order"}
    view = dataclasses.replace(whole, crop=(10, 20, 330, 260), keep=((230, 350, 412, 400),))
    spec = ObservationSpec(cameras=(view,))
    assert ObservationSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(SpecMismatch, match=r"cameras\[top\].crop"):
        check_match(spec, ObservationSpec(cameras=(whole,)), "policy and camera")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": (5, 0, 5, 10)}, "crop must be"),
        ({"keep": ((0, 0, 5),)}, "keep must be"),
        ({"keep": ((600, 0, 650, 10),)}, "leaves the image of 640 x 480"),
    ],
)
def test_rectangles_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        CameraSpec("top", 480, 640, **change)
