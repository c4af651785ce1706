"""Strangers' bytes on the policy socket, both ends: no crash, no hang, no growth, and then as ever.

Three ways in: bytes instead of HTTP, frames instead of websocket frames, messages instead of ours.
The server is a process of its own, whose memory is watched. The slow test goes on for five minutes.
"""

import contextlib
import gc
import multiprocessing
import os
import socket
import struct
import threading
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect
from websockets.sync.server import serve

from arp_jax.export.protocol import Metadata, Query, decode, encode
from robot_bridge.actions.policy_client import PolicyClient, PolicyError
from tests.policy_servers import SPEC, get, running_server

SLOW_S = float(os.environ.get("ARP_JAX_FUZZ_S", 300))
QUERY = Query(
    1,
    2,
    {"state": np.ones((2, 2), np.float32), "image": np.zeros((2, 4, 6, 3), np.uint8)},
)
WHOLE = b"".join(encode(QUERY))
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def serve_until_told(addresses, stop):
    with running_server(max_message_bytes=4096, max_clients=4) as address:
        addresses.put(address)
        stop.wait()


@pytest.fixture(scope="module")
def server():
    """(address, process id) of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    addresses, stop = context.Queue(), context.Event()
    process = context.Process(target=serve_until_told, args=(addresses, stop))
    process.start()
    try:
        yield addresses.get(timeout=60), process.pid
    finally:
        stop.set()
        process.join(30)
        assert process.exitcode == 0


def patched(data, patches):
    """Some bytes changed, some put in, the end cut off."""
    changed = bytearray(data)
    for place, patch, insert in patches:
        place %= len(changed) + 1
        changed[place : place + (0 if insert else len(patch))] = patch
    return bytes(changed)


PATCHES = st.lists(st.tuples(st.integers(0), st.binary(max_size=4), st.booleans()), max_size=6)
HEADS = st.dictionaries(
    st.sampled_from(["v", "type", "request", "time_ns", "seed", "arrays"]),
    st.sampled_from([1, -1, "query", [], {}, None, 2**63, [["state", "float32", [2, 2]]]]),
)


def from_head(head):
    data = msgpack.packb({"v": 1, "type": "query"} | head)
    return struct.pack("<I", len(data)) + data


MESSAGES = st.one_of(
    st.binary(max_size=200),
    st.builds(patched, st.just(WHOLE), PATCHES),
    st.builds(from_head, HEADS),
    st.text(max_size=20),
    st.binary(min_size=5000, max_size=5000),
)
FRAMES = st.builds(
    lambda start, length, rest: bytes([start, length]) + rest,
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=64),
)


def send_raw(address, data):
    """Bytes on the TCP connection; reads what comes back until the server ends it, or a moment."""
    port = int(address.rpartition(":")[2])
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as tcp:
        tcp.settimeout(0.02)
        with contextlib.suppress(TimeoutError):
            tcp.sendall(data)
            while tcp.recv(65536):
                pass


def send_messages(address, messages):
    """As a websocket client that keeps to websocket's rules."""
    try:
        with connect(address, compression=None, proxy=None, close_timeout=5) as connection:
            for message in messages:
                connection.send(message)
    except (WebSocketException, OSError):
        return  # refused, as it should be


def check_alive(address):
    """Everything is as ever: health, and an answer to somebody who asks properly."""
    assert get(address, "/healthz") == (200, "ready\n")
    deadline = time.monotonic() + 30
    while True:  # the places of those before may still be taken
        try:
            with PolicyClient(address) as client:
                assert client.ask(QUERY).actions.shape == (9, 2)
            return
        except PolicyError as error:
            if "clients are connected" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


FAST = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FAST
@given(data=st.one_of(st.binary(max_size=300), st.builds(patched, st.just(UPGRADE), PATCHES)))
def test_bytes_instead_of_http(server, data):
    send_raw(server[0], data)
    check_alive(server[0])


@FAST
@given(frames=st.lists(FRAMES, min_size=1, max_size=4))
def test_bytes_instead_of_frames(server, frames):
    send_raw(server[0], UPGRADE + b"".join(frames))
    check_alive(server[0])


@FAST
@given(messages=st.lists(MESSAGES, min_size=1, max_size=4))
def test_messages_that_are_not_ours(server, messages):
    send_messages(server[0], messages)
    check_alive(server[0])


@contextlib.contextmanager
def lying_server(answers):
    """A websocket server whose messages are `answers`, whatever it is asked."""

    def talk(connection):
        with contextlib.suppress(ConnectionClosed):
            for answer in answers:
                connection.send(answer)
            connection.recv()

    with serve(talk, "127.0.0.1", 0, compression=None) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listening.socket.getsockname()[1]}"
        finally:
            listening.shutdown()
            thread.join(30)
            assert not thread.is_alive()


@settings(max_examples=25, deadline=None)
@given(greet=st.booleans(), answers=st.lists(MESSAGES, min_size=1, max_size=3))
def test_a_client_survives_a_server_that_lies(greet, answers):
    first = [b"".join(encode(Metadata("x", SPEC)))] if greet else []
    # Most answers are refused, some are fine; any other exception fails the test.
    with (
        lying_server(first + answers) as address,
        contextlib.suppress(PolicyError),
        PolicyClient(address, timeout_s=0.5) as client,
    ):
        client.ask(QUERY)


def rss_mb(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_five_minutes_of_strangers(server):
    """$ARP_JAX_FUZZ_S changes how long."""
    address, pid = server
    end = time.monotonic() + SLOW_S
    ways = st.one_of(
        st.tuples(st.just(send_raw), st.binary(max_size=300)),
        st.tuples(st.just(send_raw), st.builds(patched, st.just(UPGRADE), PATCHES)),
        st.tuples(st.just(send_raw), st.lists(FRAMES).map(lambda f: UPGRADE + b"".join(f))),
        st.tuples(st.just(send_messages), st.lists(MESSAGES, max_size=4)),
    )
    sizes, rounds = [], 0

    @settings(max_examples=200, deadline=None, database=None)
    @given(st.lists(ways, min_size=1, max_size=4))
    def a_round(attacks):
        nonlocal rounds
        rounds += 1
        for way, data in attacks:
            way(address, data)

    while time.monotonic() < end:
        a_round()
        check_alive(address)
        gc.collect()
        sizes.append(rss_mb(pid))
    print(f"{rounds} rounds; server RSS {sizes[0]:.1f} MB first, {sizes[-1]:.1f} MB last")
    assert decode(WHOLE).request == 1
    # The first rounds fill caches; from then on nothing may add up.
    settled = sizes[len(sizes) // 3]
    assert sizes[-1] < settled + 8, sizes
