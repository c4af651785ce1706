"""The snapshot as JSON: plain values only, whatever is absent or not a number."""

import dataclasses
import json

import numpy as np

from robot_bridge.loop.status import CameraStatus, RecorderStatus, Status
from robot_bridge.robots import Reading, RobotHealth
from robot_bridge.sources import Plan, SourceHealth

NOW_NS = 5_000_000_000
EMPTY = Status(
    time_ns=NOW_NS,
    tick=3,
    mode="idle",
    reason="nothing was started yet",
    rate_hz=10.0,
    joints=("joint1", "gripper"),
    reading=None,
    target=None,
    plan=None,
    source=("a script", "script"),
    takeover=False,
    source_health=SourceHealth(),
    robot="toy",
    robot_identity={},
    robot_health=RobotHealth(),
    cameras={"top": CameraStatus(4, 6)},
    interventions={},
    timing={},
    ages_ms={"policy": None},
    recorder=RecorderStatus(),
    episode=0,
    instruction="",
    commands=("start",),
)
# What `Bridge.status` promises to the web page and the command line.
KEYS = {
    *("time_ns", "tick", "mode", "reason", "rate_hz", "joints", "reading", "target", "plan"),
    *("source", "robot", "cameras", "interventions", "timing", "ages_ms", "recorder"),
    *("episode", "commands"),
}


def strict(value):
    return json.loads(json.dumps(value, allow_nan=False))


def test_nothing_is_there_yet():
    found = EMPTY.to_json()
    assert strict(found) == found
    assert set(found) == KEYS
    assert found["reading"] is None
    assert found["plan"] is None
    assert found["cameras"]["top"] == {"height": 4, "width": 6, "age_ms": None}


def test_everything_is_there():
    full = dataclasses.replace(
        EMPTY,
        reading=Reading(NOW_NS - 20_000_000, np.array([0.25]), 0.5, True),
        target=np.array([0.5, 1.0], np.float32),
        plan=Plan(
            np.array([NOW_NS, NOW_NS + 100_000_000]), np.array([[0.5, 1], [0.25, 0]], np.float32)
        ),
        cameras={"top": CameraStatus(4, 6, NOW_NS - 5_000_000)},
        ages_ms={"reading": 20.0, "policy": float("inf")},
    )
    found = strict(full.to_json())
    assert found["reading"] == {
        "angles": [0.25],
        "gripper": 0.5,
        "gripper_measured": True,
        "powered": True,
        "error": 0,
        "age_ms": 20.0,
    }
    assert found["target"] == [0.5, 1.0]
    assert found["plan"] == {"offsets_s": [0.0, 0.1], "actions": [[0.5, 1.0], [0.25, 0.0]]}
    assert found["cameras"]["top"]["age_ms"] == 5.0
    assert found["ages_ms"] == {"reading": 20.0, "policy": None}
    assert found["source"]["kind"] == "script"


def test_what_is_no_number_is_shown_as_absent():
    broken = dataclasses.replace(
        EMPTY,
        reading=Reading(NOW_NS, np.array([np.nan, np.inf]), float("nan")),
        target=np.array([np.nan]),
    )
    found = strict(broken.to_json())
    assert found["reading"]["angles"] == [None, None]
    assert found["reading"]["gripper"] is None
    assert found["target"] == [None]
