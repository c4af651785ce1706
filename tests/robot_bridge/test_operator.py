"""What a person may ask: checks, order, and the gate that a stop shuts at once."""

import contextlib
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.arm import JOINTS
from robot_bridge.loop.operator import COMMANDS, MAX_JOG_RAD, MAX_PENDING, Gate, Operator

ZEROS = np.zeros(6)


class WireTap:
    """Stands where the arm is connected; keeps what would go to it."""

    def __init__(self):
        self.sent = []

    def write(self, angles, gripper):
        self.sent.append("write")

    def hold(self):
        self.sent.append("hold")


@pytest.fixture
def tap():
    return WireTap()


@pytest.fixture
def gate(tap):
    return Gate(tap)


@pytest.fixture
def operator(gate):
    return Operator(gate, JOINTS)


def test_the_gate_is_shut_at_first(gate, tap):
    assert not gate.write(ZEROS, None)
    assert tap.sent == []


def test_a_shut_gate_lets_nothing_through(gate, tap):
    assert gate.open(gate.shuttings)
    assert gate.write(ZEROS, 0.5)
    gate.shut()
    assert not gate.write(ZEROS, 0.5)
    assert tap.sent == ["write", "hold"]


def test_a_stop_between_looking_and_opening_wins(gate, tap):
    seen = gate.shuttings
    gate.shut()
    assert not gate.open(seen)
    assert not gate.write(ZEROS, None)
    assert gate.open(gate.shuttings)


def test_no_write_after_a_stop_with_many_threads(gate, tap):
    """The loop writes as fast as it can while others stop it: behind each hold nothing is sent."""
    done = threading.Event()

    def write():
        while not done.is_set():
            gate.write(ZEROS, None)

    loop = threading.Thread(target=write)
    loop.start()
    try:
        for _ in range(200):
            gate.open(gate.shuttings)
            gate.shut()
            place = len(tap.sent)
            assert tap.sent[place - 1] == "hold"
            assert "write" not in tap.sent[place:]
    finally:
        done.set()
        loop.join()


@pytest.mark.parametrize("name", ["hold", "estop"])
def test_a_stop_holds_before_the_loop_knows(operator, gate, tap, name):
    gate.open(gate.shuttings)
    operator.command(name)
    assert tap.sent == ["hold"]
    assert [request.name for request in operator.take()] == [name]
    assert operator.take() == []


def test_a_stop_makes_void_what_was_asked_before(operator):
    for name in ("start", "resume", "success"):
        operator.command(name)
    operator.command("jog", joint="joint1", change=0.1)
    operator.command("note", text="it fell")
    operator.command("hold")
    assert [request.name for request in operator.take()] == ["success", "note", "hold"]


def test_an_estop_stays_one_and_comes_first(operator):
    operator.command("estop")
    operator.command("hold")
    operator.command("reset")
    assert [request.name for request in operator.take()] == ["estop", "reset"]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("explode", {}, "unknown command 'explode'; there are start"),
        ("start", {"now": True}, r"start: arguments \['now'\], expected \[\]"),
        ("note", {}, r"note: arguments \[\], expected \['text'\]"),
        ("note", {"text": 5}, "note: text must be a text"),
        ("note", {"text": "x" * 5000}, "note: text must be a text of at most 2000"),
        ("takeover", {"how": "mind"}, "how must be one of"),
        ("jog", {"joint": "joint9", "change": 0.1}, "no joint 'joint9'"),
        ("jog", {"joint": "joint1", "change": 1.0}, "at most"),
        ("jog", {"joint": "joint1", "change": float("nan")}, "must be a finite number"),
        ("jog", {"joint": "joint1", "change": True}, "must be a finite number"),
        ("jog", {"joint": "joint1", "change": 10**400}, "must be a finite number"),
        ("jog", {"joint": "joint1", "change": "0.1"}, "must be a finite number"),
        ("gripper", {"opening": 1.5}, r"not in 0 \.\.\. 1"),
    ],
)
def test_refusals_say_why(operator, tap, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        operator.command(name, **arguments)
    assert operator.take() == []
    assert tap.sent == []


# A short alphabet: making the table of all characters takes Hypothesis seconds.
TEXTS = st.text("aé\n", max_size=8)
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.lists(st.none())
)


@given(
    st.sampled_from([*COMMANDS, "other"]),
    st.dictionaries(
        st.sampled_from(["text", "how", "joint", "change", "opening", "x"]), ANYTHING, max_size=3
    ),
)
def test_whatever_is_asked_is_refused_or_in_range(name, arguments):
    operator = Operator(Gate(WireTap()), JOINTS)
    with contextlib.suppress(ValueError):
        operator.command(name, **arguments)
    for request in operator.take():
        assert_in_range(name, request)


def assert_in_range(name, request):
    assert request.name == name
    assert set(request.arguments) == set(COMMANDS[name])
    assert abs(request.arguments.get("change", 0.0)) <= MAX_JOG_RAD
    assert 0 <= request.arguments.get("opening", 0.0) <= 1


def test_a_flood_is_refused_but_a_stop_is_taken(operator):
    for _ in range(MAX_PENDING):
        operator.command("note", text="again")
    with pytest.raises(ValueError, match="is the loop alive"):
        operator.command("note", text="again")
    operator.command("estop")
    assert operator.take()[0].name == "estop"
