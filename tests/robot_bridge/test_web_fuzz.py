"""Anything at all at the page's port: refused with a reason, no crash, no hang, no growth."""

import contextlib
import json
import os
import random
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from robot_bridge.web.web_guard import Guard, host_name, is_loopback
from robot_bridge.web.web_messages import Beat, Command, Hello, parse_message
from robot_bridge.web.web_server import WebServer, WebSettings
from tests.robot_bridge.shown_bridge import ShownBridge
from tests.robot_bridge.test_web_server import TOKEN, hello, http, open_socket, wait_message

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
MESSAGES = st.fixed_dictionaries(
    {"type": st.sampled_from(["hello", "beat", "command"])},
    optional={
        name: JSON for name in ("token", "version", "sent", "number", "name", "arguments", "x")
    },
)


@given(st.text() | st.binary() | JSON.map(json.dumps) | MESSAGES.map(json.dumps))
@settings(max_examples=150, deadline=None)
def test_a_message_is_understood_or_refused(data):
    message = None
    with contextlib.suppress(ValueError):  # any other error is one
        message = parse_message(data)
    assert message is None or isinstance(message, Hello | Beat | Command)


@pytest.mark.parametrize(
    "data",
    [
        "[" * 16_000,
        '["' + "]" * 8000 + '",' + "[" * 8000,
        '{"a":' * 3000,
        '{"type":"beat","sent":1e999}',
        '{"type":"beat","sent":NaN}',
        '{"type":"beat","sent":' + "9" * 15_000 + "}",
        '{"type":"command","number":true,"name":"estop","arguments":{}}',
        '{"type":"command","number":1,"name":"estop","arguments":[]}',
        "",
        "null",
        "\ud800",
    ],
)
def test_known_traps_are_refused(data):
    with pytest.raises(ValueError):
        parse_message(data)


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_no_name_but_our_own_passes(text):
    guard = Guard("127.0.0.1", TOKEN)

    class Headers:
        def get_all(self, key):
            return [text] if key == "Host" else []

    own = is_loopback(host_name(text) or "")
    assert (guard.refusal(Headers()) is None) == own


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_only_the_token_is_the_token(text):
    assert Guard("127.0.0.1", TOKEN).knows_token(text) == (text == TOKEN)


def attack(server, rng):
    """One hostile visit; whatever the server does, it must answer or close."""
    kind = rng.randrange(4)
    if kind == 0:  # bytes that are no HTTP
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
            raw.sendall(rng.randbytes(rng.randrange(1, 4000)) + b"\r\n\r\n")
            read_to_end(raw)
    elif kind == 1:  # HTTP, nearly
        method = rng.choice([b"GET", b"POST", b"PUT", b"HEAD", b"\xff", b"GET" * 3000])
        path = rng.choice([b"/", b"/estop", b"/socket", b"/../..", b"*", b"/" + b"a" * 9000])
        head = rng.randbytes(rng.randrange(60)).replace(b"\n", b"") + b": x"
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
            raw.sendall(method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + head)
            with contextlib.suppress(OSError):
                raw.sendall(b"\r\n\r\n")
                raw.shutdown(socket.SHUT_WR)
            read_to_end(raw)
    else:  # a socket, with and without the token, then nonsense
        with contextlib.suppress(ConnectionClosed), open_socket(server, close_timeout=2) as page:
            if kind == 3:
                hello(page)
            for _ in range(rng.randrange(1, 12)):
                data = rng.randbytes(rng.randrange(3000))
                page.send(data if rng.random() < 0.3 else data.decode("latin1"))
            with contextlib.suppress(TimeoutError):
                while True:
                    page.recv(timeout=5)


def read_to_end(raw):
    with contextlib.suppress(ConnectionResetError):
        while raw.recv(4096):
            pass


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files():
    return len(os.listdir("/proc/self/fd"))


def check_alive(server, bridge):
    """The server answers, and no visit without the token was obeyed."""
    assert http(server, "/")[0] == 200
    with open_socket(server) as page:
        hello(page)
        assert wait_message(page, "state")["status"]["mode"] == "idle"
    assert bridge.taken == []


def test_hostile_visits_leave_the_server_as_it_was():
    bridge, rng = ShownBridge(), random.Random(0)
    with WebServer(bridge, WebSettings(port=0, token=TOKEN)) as server:
        attack(server, rng)
        threads = threading.active_count()
        for _ in range(40):
            attack(server, rng)
        check_alive(server, bridge)
        assert server.pages <= 1
        assert threading.active_count() <= threads + 1


@pytest.mark.slow
def test_five_minutes_of_hostile_visits_grow_nothing():
    bridge, rng, visits = ShownBridge(), random.Random(1), 0
    with WebServer(bridge, WebSettings(port=0, token=TOKEN)) as server:
        for _ in range(300):  # caches fill
            attack(server, rng)
        memory, files, end = resident_bytes(), open_files(), time.monotonic() + 300
        while time.monotonic() < end:
            attack(server, rng)
            visits += 1
        check_alive(server, bridge)
        time.sleep(3)  # the last visitors' closing handshakes
        print(f"{visits} visits, {(resident_bytes() - memory) / 1e6:.1f} MB more")
        assert resident_bytes() - memory < 8e6
        assert open_files() <= files + 4
