"""Messages survive the way there and back; whatever else comes is refused with a reason."""

import contextlib
import io
import pickle
import struct

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.export import protocol
from arp_jax.export.protocol import (
    Actions,
    Metadata,
    Problem,
    ProtocolError,
    Query,
    VersionError,
    decode,
    encode,
    fragments,
)
from tests.policy_servers import SPEC


def packed(message):
    return b"".join(encode(message))


def raw(head, body=b""):
    """A message with any head: msgpack bytes, or a value to pack."""
    data = head if isinstance(head, bytes) else msgpack.packb(head)
    return struct.pack("<I", len(data)) + data + body


def query_head(arrays=(), **changes):
    head = {"v": 1, "type": "query", "request": 1, "time_ns": 2, "seed": 3}
    return {**head, "arrays": [list(entry) for entry in arrays], **changes}


ACTIONS = Actions(3, 4, np.float32([[1, 2], [3, 4]]), {"infer": 1.5}, 2)
MESSAGES = {
    "metadata": Metadata("arp", SPEC, "abc", {"arp_jax": "1"}),
    "problem": Problem(-1, "observation.image", "is missing"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_there_and_back(name):
    assert decode(packed(MESSAGES[name])) == MESSAGES[name]


def test_actions_there_and_back():
    found = decode(packed(ACTIONS))
    np.testing.assert_array_equal(found.actions, ACTIONS.actions)
    assert found.actions.dtype == np.float32
    assert (found.request, found.observed_ns, found.superseded) == (3, 4, 2)
    assert found.timing_ms == {"infer": 1.5}


@given(
    request=st.integers(0, 2**63 - 1),
    observed=st.integers(0, 2**63 - 1),
    seed=st.integers(0, 2**32 - 1),
    shapes=st.dictionaries(
        st.text(max_size=8), st.lists(st.integers(1, 4), min_size=1, max_size=4), max_size=4
    ),
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
    as_rows=st.booleans(),
)
def test_queries_there_and_back(request, observed, seed, shapes, dtype, as_rows):
    rng = np.random.default_rng(0)
    arrays = {name: rng.uniform(0, 255, shape).astype(dtype) for name, shape in shapes.items()}
    sent = {name: list(value) if as_rows else value for name, value in arrays.items()}
    found = decode(packed(Query(request, observed, sent, seed)))
    assert (found.request, found.observed_ns, found.seed) == (request, observed, seed)
    assert found.observation.keys() == arrays.keys()
    for name, value in arrays.items():
        assert found.observation[name].dtype == value.dtype
        np.testing.assert_array_equal(found.observation[name], value)


def test_pictures_are_viewed_not_copied():
    picture = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    head, packed_head, body = encode(Query(1, 2, {"image": picture}))
    assert np.shares_memory(np.frombuffer(body, np.uint8), picture)
    data = bytearray(b"".join([head, packed_head, body]))
    found = decode(data).observation["image"]
    assert np.shares_memory(found, np.frombuffer(data, np.uint8))
    assert not found.flags.writeable


def test_shared_memory_holds_what_fits():
    shared = memoryview(bytearray(256))
    small, picture = np.float32([1, 2]), np.arange(100, dtype=np.uint8).reshape(2, 50)
    large = np.zeros(1000, np.uint8)
    sent = {"small": small, "large": large, "picture": list(picture)}
    data = b"".join(encode(Query(1, 2, sent), shared))
    assert 1000 < len(data) < 1200, "what has no room goes along"
    found = decode(data, shared).observation
    assert list(found) == list(sent)
    for name, value in (("small", small), ("large", large), ("picture", picture)):
        np.testing.assert_array_equal(found[name], value)
    assert np.shares_memory(found["picture"], np.frombuffer(shared, np.uint8))
    assert not found["picture"].flags.writeable
    with pytest.raises(ProtocolError, match="no shared memory on this connection"):
        decode(data)
    with pytest.raises(ProtocolError, match=r"'picture': uint8 .* are left"):
        decode(data, shared[:100])


def test_rows_and_layouts_that_are_not_contiguous():
    picture = np.arange(24, dtype=np.uint8).reshape(4, 6)
    sent = {"flipped": picture[::-1], "swapped": np.array([1.0, 2.0], ">f4")}
    found = decode(packed(Query(1, 2, sent))).observation
    np.testing.assert_array_equal(found["flipped"], picture[::-1])
    np.testing.assert_array_equal(found["swapped"], [1, 2])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([{}], object), "x: object is not sent"),
        (np.zeros(2, np.int64), "x: int64 is not sent"),
        ([np.zeros(2, np.uint8), np.zeros(3, np.uint8)], "x: rows of different shapes"),
    ],
)
def test_what_is_not_sent(value, message):
    with pytest.raises(ValueError, match=message):
        encode(Query(1, 2, {"x": value}))


def test_fragments_are_the_same_bytes():
    pieces = encode(Query(1, 2, {"a": np.arange(9000).astype(np.uint8), "b": np.zeros(5)}))
    whole = b"".join(pieces)
    assert fragments(pieces, len(whole)) == [whole]
    parts = fragments(pieces, 4000)
    assert [len(part) for part in parts] == [len(whole) - 9040, 4000, 4000, 1000, 40]
    assert b"".join(parts) == whole


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are no message"),
        (b"\xff\xff\xff\xff{}", "a head of 4294967295 bytes"),
        (raw(b"\xc1"), "not msgpack"),
        (raw(b"\x91" * 3000 + b"\xc0"), "not msgpack"),
        (raw(b"\xdf\xff\xff\xff\xff"), "not msgpack"),
        (raw({1: 2}), "not msgpack"),
        (raw({"v": 1, "type": msgpack.ExtType(3, b"")}), "extension type 3"),
        (raw({"v": 1, "type": msgpack.Timestamp(3)}), "not msgpack"),
        (raw([1, 2]), "the head is a list"),
        (raw({"v": 1}), "arrays: expected a list"),
        (raw({"v": 1, "type": "shutdown", "arrays": []}), "'shutdown' is no kind of message"),
        (raw(query_head(request=-1)), "request: expected a number"),
        (raw(query_head(request=True)), "request: expected a number"),
        (raw(query_head(time_ns=1.5)), "time_ns: expected a number"),
        (raw(query_head(seed=2**32)), "seed: expected a number"),
        (raw(query_head(arrays=[("x", "object", [1])]), b"12345678"), "dtype 'object' is not"),
        (raw(query_head(arrays=[("x", "uint8", [-1])])), "'x': a shape is"),
        (raw(query_head(arrays=[("x", "uint8", [0])])), "'x': a shape is"),
        (raw(query_head(arrays=[("x", "uint8", [1] * 9)]), b"1"), "'x': a shape is"),
        (raw(query_head(arrays=[("x", "float32", [2**40, 2**40])]), b"1234"), "4 are left"),
        (raw(query_head(arrays=[("x", "float32", [2])]), b"123456789"), "1 bytes after the last"),
        (raw(query_head(arrays=[("x", "uint8", [1])] * 2), b"12"), "'x' stands there twice"),
        (raw(query_head(arrays=[("x", "uint8", [1], -1)])), "'x': -1 is no place"),
        (raw(query_head(arrays=[("x",)])), "expected .name, dtype, shape."),
        (raw(query_head(arrays=[("x", "uint8", [1])] * 65)), "65 of them"),
        (raw({**query_head(), "type": "actions"}), "actions: expected one array"),
        (raw({**query_head(), "type": "problem"}), "field: expected a str"),
        (raw({**query_head(), "type": "metadata", "versions": {}, "spec": {}}), "spec: "),
    ],
)
def test_refused_with_a_reason(data, message):
    with pytest.raises(ProtocolError, match=message) as error:
        decode(data)
    assert not isinstance(error.value, VersionError)
    assert "\n" not in str(error.value)


def test_another_version_is_named():
    with pytest.raises(VersionError, match=r"speaks version 1.*has version 2"):
        decode(raw({"v": 2}))
    with pytest.raises(VersionError, match="version None"):
        decode(raw({}))


def test_nothing_is_unpickled():
    class Harmful:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    stream = io.BytesIO()
    np.save(stream, np.array([Harmful()], object), allow_pickle=True)
    for data in (pickle.dumps(Harmful()), stream.getvalue()):
        with pytest.raises(ProtocolError):
            decode(data)
        with pytest.raises(ProtocolError):
            decode(raw(query_head(arrays=[("x", "object", [1])]), data))


@settings(max_examples=250, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data):
    check_survives(data)
    check_survives(raw(data))


@settings(max_examples=250, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.binary()
        | st.text(max_size=5) | st.sampled_from(["uint8", "query", "actions", "problem"]),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["v", "type", "request", "time_ns", "seed", "arrays", "spec"]), inner
        ),
        max_leaves=15,
    ),
    st.sampled_from(["query", "actions", "problem", "metadata"]),
    st.binary(max_size=32),
)  # fmt: skip
def test_any_head_is_a_message_or_refused(value, kind, body):
    check_survives(raw(value, body))
    extra = value if isinstance(value, dict) else {"arrays": value}
    check_survives(raw({**query_head(), "type": kind, **extra}, body))


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(sorted(MESSAGES)),
    st.lists(st.tuples(st.integers(0), st.binary(max_size=3))),
)
def test_a_changed_message_is_a_message_or_refused(name, changes):
    data = bytearray(packed(MESSAGES[name]))
    for place, patch in changes:
        place %= len(data)
        data[place : place + len(patch)] = patch
    check_survives(bytes(data))


def check_survives(data):
    """Any exception but a ProtocolError fails the test."""
    with contextlib.suppress(ProtocolError):
        assert isinstance(decode(data), protocol.Message)
    with contextlib.suppress(ProtocolError):
        assert isinstance(decode(data, memoryview(b"shared")), protocol.Message)
