"""Whatever bytes come back: no exception, no number that is none, no motion transmitted twice."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from robot_bridge.robots import RobotError
from robot_bridge.wire.frames import Command, Frame, FrameReader, encode
from robot_bridge.wire.lines import LineError
from robot_bridge.wire.wire_driver import WireDriver

POSE = np.full(6, 0.1)
STEP_NS = 5_000_000


class ScriptedLine:
    """A line on which a script says what arrives; each look at it takes 5 ms of `now_ns`."""

    name = "scripted"

    def __init__(self, script: list[bytes | None], relayed: bool) -> None:
        self.relayed = relayed
        self.now_ns = 10**12
        self.written: list[Frame] = []
        self._script = list(script)
        self._reader = FrameReader()

    def open(self) -> None:
        if self._script and self._script[0] is None:
            self._script.pop(0)
            raise RobotError("no such port")

    def close(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written += self._reader.feed(data)

    def read(self) -> bytes:
        self.now_ns += STEP_NS
        data = self._script.pop(0) if self._script else b""
        if data is None:
            raise LineError("cut")
        return data

    def drain(self) -> int:
        return 0


ANSWER = encode(Command.GET_ANGLES, bytes(12))
PIECES = st.one_of(
    st.binary(max_size=40),
    st.none(),
    st.just(b""),
    st.just(ANSWER),
    st.builds(encode, st.integers(0, 255), st.binary(max_size=20)),
    st.builds(
        encode,
        st.sampled_from([Command.GET_ANGLES, Command.SEND_ANGLES, Command.GET_GRIPPER]),
        st.sampled_from([b"\x01", bytes(12), b"\xff" * 12, b"\xff", b""]),
    ),
)
CALLS = st.lists(st.sampled_from(["angles", "gripper", "send", "stop", "open"]), max_size=12)


@given(st.lists(PIECES, max_size=60), CALLS, st.booleans())
@example([encode(Command.GET_ANGLES, b"\x7f\xff" * 6)], ["angles"], False)
def test_any_bytes_may_come_back(script, calls, relayed):
    line = ScriptedLine(script, relayed)
    driver = WireDriver(line, reply_s=0.1, clock_ns=lambda: line.now_ns)
    for call in ["open", *calls]:
        before, began_ns = len(line.written), line.now_ns
        if call == "open":
            try:
                driver.open()
            except RobotError:
                assert not driver.is_open
        elif call == "angles":
            angles = driver.get_angles()
            assert angles is None or np.all(np.abs(angles) <= np.deg2rad(200))
        elif call == "gripper":
            opening = driver.get_gripper()
            assert opening is None or 0 <= opening <= 1
        elif call == "send":
            driver.send_angles(POSE, 20)
        else:
            driver.stop()
        sent = [frame.command for frame in line.written[before:]]
        assert sent.count(Command.SEND_ANGLES) <= (call == "send")
        assert len(sent) <= (1 if call == "stop" else 2)  # a fence before all but a stop
        # One window for each transmission, and no more.
        assert line.now_ns - began_ns <= 2 * (100_000_000 + STEP_NS)


class LateArm(ScriptedLine):
    """An arm that answers in order; while it is `late`, not before it is asked something else.

    Its gripper says the number of the question, so that an old answer is seen to be one. What is
    late for more than a second never comes.
    """

    def __init__(self) -> None:
        super().__init__([], relayed=False)
        self.question, self.late = 0, False
        self._heard = 0
        self._owed: list[tuple[int, bytes]] = []  # when asked, answer

    def read(self) -> bytes:
        self.now_ns += STEP_NS
        for frame in self.written[self._heard :]:
            value = self.question if frame.command == Command.GET_GRIPPER else 1
            self._owed.append((self.now_ns, encode(frame.command, bytes((value,)))))
        self._heard = len(self.written)
        if self.late:
            return b""
        answers = [answer for ns, answer in self._owed if self.now_ns - ns <= 1_000_000_000]
        self._owed.clear()
        return b"".join(answers)


@given(st.lists(st.booleans(), max_size=100))
@example([True, False])
def test_the_answer_to_an_earlier_question_is_never_believed(late):
    arm = LateArm()
    driver = WireDriver(arm, reply_s=0.1, clock_ns=lambda: arm.now_ns)
    driver.open()
    for arm.question, arm.late in enumerate(late):
        opening = driver.get_gripper()
        assert opening is None or round(100 * opening) == arm.question
        arm.now_ns += 2 * STEP_NS
    arm.question, arm.late = 100, False
    arm.now_ns += 2_000_000_000
    assert driver.get_gripper() == 1.0  # and it recovers
