"""Frames: the specification's bytes, the vendor's encoder, and streams full of noise."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from robot_bridge.wire.frames import (
    FOOTER,
    MAX_LENGTH,
    Command,
    Frame,
    FrameReader,
    encode,
    pack_angles,
    pack_int16s,
    unpack_angles,
    unpack_int16s,
)

frames = st.builds(
    Frame, command=st.integers(0, 255), data=st.binary(min_size=0, max_size=MAX_LENGTH - 2)
)


def encode_all(sent: list[Frame]) -> bytes:
    return b"".join(encode(frame.command, frame.data) for frame in sent)


def test_send_angles_is_the_specified_example():
    sent = encode(Command.SEND_ANGLES, pack_angles([10, 0, 0, 0, 0, -5.5]) + bytes((20,)))
    assert sent.hex(" ").upper() == "FE FE 0F 22 03 E8 00 00 00 00 00 00 00 00 FD DA 14 FA"


def test_equals_the_vendors_encoder():
    generate = pytest.importorskip("pymycobot.generate")
    client = generate.CommandGenerator()
    angles = [-167.99, 134.5, -0.01, 0.29, 1.99, 180.0]
    ours = encode(Command.SEND_ANGLES, pack_angles(angles) + bytes((37,)))
    hundredths = [round(100 * angle) for angle in angles]
    theirs, _, _ = client._mesg(int(Command.SEND_ANGLES), hundredths, 37)
    assert ours == bytes(theirs)
    # The vendor scales the data of these two by itself.
    for command in set(Command) - {Command.SET_JOINT_MIN, Command.SET_JOINT_MAX}:
        assert bytes(client._mesg(int(command))[0]) == encode(command)


def test_command_ids_are_the_vendors():
    codes = pytest.importorskip("pymycobot.common").ProtocolCode
    named = {
        "GET_ERROR": "GET_ERROR_INFO",
        "ATOM_VERSION": "GET_ATOM_VERSION",
        "GET_GRIPPER": "GET_GRIPPER_VALUE",
        "SET_GRIPPER": "SET_GRIPPER_VALUE",
        "CALIBRATE_GRIPPER": "SET_GRIPPER_CALIBRATION",
        "SELF_TEST": "GET_ROBOT_STATUS",
        "INVERSE_KINEMATICS": "SOLVE_INV_KINEMATICS",
    }
    same = [name for name in Command.__members__ if hasattr(codes, name)]
    assert len(same) > 35
    for name in [*same, *named]:
        # The vendor gives this name to the id of another robot.
        if name != "ROBOT_VERSION":
            assert Command[name] == getattr(codes, named.get(name, name)), name


def test_rounds_where_the_vendor_truncates():
    assert unpack_int16s(pack_angles([1.999, 0.29, -1.999])) == [200, 29, -200]


@pytest.mark.parametrize("angles", [[float("nan")], [float("inf")], [400.0], [-327.69]])
def test_refuses_angles_that_do_not_fit(angles):
    with pytest.raises(ValueError, match="not"):
        pack_angles(angles)


def test_refuses_what_no_frame_holds():
    with pytest.raises(ValueError, match="byte"):
        encode(256)
    with pytest.raises(ValueError, match="at most"):
        encode(1, bytes(MAX_LENGTH - 1))
    with pytest.raises(ValueError, match="16-bit"):
        unpack_int16s(b"abc")


@given(st.lists(st.integers(-0x8000, 0x7FFF), max_size=12))
def test_integers_and_angles_survive(values):
    assert unpack_int16s(pack_int16s(values)) == values
    angles = [value / 100 for value in values]
    assert unpack_angles(pack_angles(angles)) == angles


@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 40), max_size=30))
def test_frames_survive_any_division_into_pieces(sent, cuts):
    stream = encode_all(sent)
    reader = FrameReader()
    received = []
    position = 0
    for cut in [*cuts, len(stream)]:
        received += reader.feed(stream[position : position + cut])
        position += cut
    assert received == sent
    assert (reader.junk, reader.pending) == (0, 0)


@given(st.binary(max_size=80).map(lambda noise: noise.replace(b"\xfe", b"\xfa")), frames)
def test_a_frame_is_found_behind_noise(noise, frame):
    reader = FrameReader()
    assert reader.feed(noise + encode(frame.command, frame.data)) == [frame]
    assert reader.junk == len(noise)


@given(frames, frames, st.integers(0, MAX_LENGTH))
def test_a_frame_is_found_behind_a_torso(broken, good, cut):
    """Once enough bytes stand behind it, unless both together look like one frame."""
    whole = encode(broken.command, broken.data)
    torso = whole[: min(cut, len(whole) - 1)]
    stream = torso + encode(good.command, good.data) + bytes(MAX_LENGTH + 3)
    closes = len(torso) > 2 and stream[torso[2] + 2] == FOOTER
    assume(b"\xfe" not in torso[2:] and not closes)
    assert FrameReader().feed(stream) == [good]


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_frames_or_junk(pieces):
    reader = FrameReader()
    found = [frame for piece in pieces for frame in reader.feed(piece)]
    in_frames = len(encode_all(found))
    assert in_frames + reader.junk + reader.pending == sum(map(len, pieces))
    assert reader.pending < MAX_LENGTH + 3


def test_footers_and_headers_inside_the_data():
    tricky = Frame(Command.GET_ANGLES, bytes.fromhex("FE FE 0E 20 FA FA FE FE FA FE FE FA"))
    assert FrameReader().feed(encode(tricky.command, tricky.data)) == [tricky]


def test_a_long_frame_is_noise():
    reader = FrameReader()
    too_long = b"\xfe\xfe\x28\x20" + bytes(38) + b"\xfa"
    good = Frame(Command.IS_MOVING, b"\x00")
    assert reader.feed(too_long + encode(good.command, good.data)) == [good]
    assert reader.junk == len(too_long)


def test_a_torso_is_dropped_by_reset():
    reader = FrameReader()
    torso = encode(Command.GET_ANGLES, bytes(12))[:6]
    good = encode(Command.IS_MOVING, b"\x01")
    assert reader.feed(torso) == []
    assert reader.pending == 6
    assert reader.reset() == 6
    assert reader.feed(good) == [Frame(Command.IS_MOVING, b"\x01")]
    assert reader.junk == 6
