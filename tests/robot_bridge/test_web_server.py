"""The page's server: who may connect, what is answered, what a lost page leads to."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import simplejpeg
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from robot_bridge.safety.modes import Mode
from robot_bridge.web import web_http, web_server
from robot_bridge.web.web_guard import choose_token, host_name
from robot_bridge.web.web_http import FILES
from robot_bridge.web.web_messages import PROTOCOL
from robot_bridge.web.web_server import WebServer, WebSettings
from tests.robot_bridge.shown_bridge import HEIGHT, WIDTH, ShownBridge, TestCamera

TOKEN = "a-token-for-tests-0123456789"
# These tests run on busy machines.
PATIENCE_S = 20.0


@pytest.fixture
def bridge():
    return ShownBridge([TestCamera("top"), TestCamera("wrist", "bgr")])


@pytest.fixture
def server(bridge):
    settings = WebSettings(port=0, token=TOKEN, color_orders={"wrist": "bgr"})
    with WebServer(bridge, settings) as running:
        yield running


def http(server, path, method="GET", **headers):
    """(status, headers, body) of a plain request."""
    address = f"http://127.0.0.1:{server.port}{path}"
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address, method=method, headers=fields)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def open_socket(server, **options):
    return connect(f"ws://127.0.0.1:{server.port}/socket", **options)


def hello(page, token=TOKEN, version=PROTOCOL):
    page.send(json.dumps({"type": "hello", "version": version, "token": token}))


def wait_message(page, kind):
    """The next text message of a kind."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        data = page.recv(timeout=PATIENCE_S)
        if isinstance(data, str) and (message := json.loads(data))["type"] == kind:
            return message
    raise AssertionError(f"no {kind} message came")


def until_closed(page):
    """Everything that comes until the server closes."""
    received = []
    while True:
        try:
            received.append(page.recv(timeout=PATIENCE_S))
        except ConnectionClosed:
            return received


def close_code(page):
    """Code with which the server closes."""
    until_closed(page)
    return page.close_code


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.02)


def command(page, name, arguments=None, number=1):
    """The reply to a command."""
    fields = {"type": "command", "number": number, "name": name, "arguments": arguments or {}}
    page.send(json.dumps(fields))
    reply = wait_message(page, "reply")
    assert reply["number"] == number
    return reply


def test_the_page_is_served_with_headers_that_forbid_everything_foreign(server):
    for path, (_, kind) in FILES.items():
        status, headers, body = http(server, path)
        assert (status, headers["Content-Type"]) == (200, kind)
        assert int(headers["Content-Length"]) == len(body) > 0
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert b"http://" not in body
        assert b"https://" not in body
        assert b"innerHTML" not in body
    assert http(server, "/../web_server.py")[0] == 404
    assert http(server, "/", "POST")[0] == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:9"}, 200),  # another port: a tunnel
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:8320"}, 200),
        ({"Host": "127.0.0.2:8320"}, 200),
        ({"Host": "evil.example:8320"}, 403),
        ({"Host": "192.168.1.7:8320"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "localhost:8320", "Origin": "http://localhost:8320"}, 200),
        ({"Host": "localhost:8320", "Origin": "http://localhost:3000"}, 403),
        ({"Host": "localhost:8320", "Origin": "null"}, 403),
    ],
)
def test_foreign_names_and_origins_are_refused(server, headers, status):
    assert http(server, "/", **headers)[0] == status


def test_a_public_page_is_reached_by_address_but_not_by_a_foreign_name(bridge):
    guard = web_server.Guard("0.0.0.0", TOKEN, ("arm.lab",))
    names = ["192.168.1.7", "fe80::1", "arm.lab", "localhost", "evil.example", "fe80::1%x;y"]
    given = [name if ":" not in name else f"[{name}]" for name in names]
    refused = [guard.refusal(_Headers(Host=name)) is not None for name in given]
    assert refused == [False, False, False, False, True, True]


class _Headers(dict):
    def get_all(self, key):
        return [self[key]] if key in self else []


def test_host_names():
    assert host_name("Arm.Local:80") == "arm.local"
    assert host_name("[::1]:80") == "::1"
    for wrong in ("", ":80", "a:b", "[::1", "[::1]80", "a b", "a;b"):
        assert host_name(wrong) is None, wrong


def test_the_socket_refuses_a_foreign_origin(server):
    with pytest.raises(InvalidStatus, match="403"):
        open_socket(server, origin="http://evil.example")
    with open_socket(server, origin=f"http://127.0.0.1:{server.port}") as page:
        hello(page)
        assert wait_message(page, "welcome")["version"] == PROTOCOL


def test_a_wrong_first_message_is_refused_with_a_reason(server):
    cases = [
        (lambda page: hello(page, "wrong-token-0123456789"), 4401, "wrong token"),
        (lambda page: hello(page, TOKEN + "x"), 4401, "wrong token"),
        (lambda page: hello(page, "\ud800"), 4401, "wrong token"),
        (lambda page: hello(page, version=99), 4400, "version 99"),
        (lambda page: page.send("[]"), 4400, "object"),
        (lambda page: page.send(b"\x00" * 8), 4400, "binary"),
        (lambda page: page.send('{"type":"beat","sent":1}'), 4400, "hello"),
        (lambda page: page.send("x" * 20_000), 1009, ""),
    ]
    for send, code, words in cases:
        with open_socket(server) as page:
            send(page)
            assert close_code(page) == code
            assert words in page.close_reason
    assert server.pages == 0


def test_nothing_is_told_before_the_token(server, monkeypatch):
    monkeypatch.setattr(web_server, "HELLO_S", 0.5)
    with open_socket(server) as page:
        assert until_closed(page) == []
        assert page.close_code == 4400


def test_state_commands_and_refusals(server, bridge):
    with open_socket(server) as page:
        hello(page)
        state = wait_message(page, "state")
        assert state["status"]["mode"] == "idle"
        assert state["status"]["joints"] == list(bridge.joints)
        assert 0 <= state["age_ms"] < 1000 * PATIENCE_S
        assert command(page, "start", number=7)["ok"]
        assert bridge.mode is Mode.RUNNING
        assert command(page, "jog", {"joint": "joint1", "change": 0.01})["ok"]
        assert bridge.taken[-1] == ("jog", {"joint": "joint1", "change": 0.01})
        for name, arguments, words in [
            ("explode", {}, "unknown command"),
            ("jog", {"joint": "joint1", "change": 3.0}, "at most"),
            ("jog", {"joint": "joint1"}, "expected"),
            ("start", {"name": "estop"}, "name"),
            ("start", {"self": 1}, "self"),
        ]:
            reply = command(page, name, arguments)
            assert not reply["ok"]
            assert words in reply["reason"]
        assert len(bridge.taken) == 2


def test_the_newest_beat_comes_back(server):
    with open_socket(server) as page:
        hello(page)
        assert wait_message(page, "state")["beat"] is None
        page.send('{"type":"beat","sent":1234.5}')
        while wait_message(page, "state")["beat"] != 1234.5:
            pass


def test_pictures_have_the_right_colors_in_either_order(server, bridge):
    bridge.cameras[1].image[:] = (200, 30, 40)[::-1]
    seen = {}
    with open_socket(server) as page:
        hello(page)
        while len(seen) < 2:
            data = page.recv(timeout=PATIENCE_S)
            if isinstance(data, bytes):
                name = data[5 : 5 + data[0]].decode()
                seen[name] = simplejpeg.decode_jpeg(data[5 + data[0] :])
    for image in seen.values():
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(image.astype(int) - (200, 30, 40)).max() < 8


def test_e_stop_over_plain_http(server, bridge):
    assert http(server, "/estop", "POST")[0] == 401
    assert http(server, "/estop", "POST", Authorization="Bearer nonsense")[0] == 401
    assert http(server, "/estop", "GET", Authorization=f"Bearer {TOKEN}")[0] == 405
    foreign = {"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}
    assert http(server, "/estop", "POST", **foreign)[0] == 403
    assert http(server, f"/estop?token={TOKEN}", "POST")[0] == 401
    assert bridge.taken == []
    assert http(server, "/estop", "POST", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert bridge.mode is Mode.ESTOP


def test_a_public_address_needs_a_token(bridge):
    with pytest.raises(ValueError, match="needs a token"):
        WebServer(bridge, WebSettings(host="0.0.0.0"))
    with pytest.raises(ValueError, match="at least 16"):
        WebServer(bridge, WebSettings(token="short"))
    assert choose_token("127.0.0.1", None) != choose_token("localhost", None)
    with WebServer(bridge, WebSettings(host="0.0.0.0", port=0, token=TOKEN)) as public:
        assert public.url == f"http://127.0.0.1:{public.port}/#token={TOKEN}"


def test_a_port_in_use_is_named(server, bridge):
    with pytest.raises(OSError, match=str(server.port)):
        WebServer(bridge, WebSettings(port=server.port)).start()
    with pytest.raises(OSError, match="70000"):
        WebServer(bridge, WebSettings(port=70000)).start()


def test_too_many_pages_and_too_many_messages(server, monkeypatch):
    monkeypatch.setattr(web_server, "MAX_PAGES", 1)
    with open_socket(server) as first, open_socket(server) as second:
        hello(first)
        wait_message(first, "welcome")
        hello(second)
        assert close_code(second) == web_server.TOO_MANY
        for _ in range(300):
            try:
                first.send('{"type":"beat","sent":1}')
            except ConnectionClosed:
                break
        assert close_code(first) == web_server.TOO_FAST


def test_a_reader_that_does_not_read_keeps_nobody_else_waiting(server):
    stubborn = {"max_queue": 1, "close_timeout": 0.2}
    with open_socket(server, **stubborn) as slow, open_socket(server) as quick:
        for page in (slow, quick):
            hello(page)
        wait_message(slow, "welcome")
        for _ in range(30):
            assert wait_message(quick, "state")["age_ms"] < 5000


def test_connections_are_counted(bridge, monkeypatch):
    monkeypatch.setattr(web_http, "MAX_CONNECTIONS", 4)
    with WebServer(bridge, WebSettings(port=0, token=TOKEN)) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(12)]
        ended = 0
        for connection in idle[4:]:
            connection.settimeout(PATIENCE_S)
            try:
                ended += connection.recv(1) == b""
            except ConnectionResetError:
                ended += 1
        assert ended == 8
        for connection in idle:
            connection.close()
        wait_until(lambda: reachable(server))


def reachable(server):
    try:
        return http(server, "/")[0] == 200
    except ConnectionResetError:
        return False


def test_a_dead_man_s_switch_holds_without_a_page(bridge):
    bridge.set(mode=Mode.RUNNING)
    settings = WebSettings(port=0, token=TOKEN, deadman_s=1.0)
    with WebServer(bridge, settings) as server:
        wait_until(lambda: bridge.mode is Mode.HOLD)
        with open_socket(server) as page:
            hello(page)
            assert wait_message(page, "welcome")["deadman_s"] == 1.0
            page.send('{"type":"beat","sent":1}')
            while wait_message(page, "state")["beat"] is None:
                pass
            assert command(page, "resume")["ok"]
            for sent in range(20):
                page.send(json.dumps({"type": "beat", "sent": sent}))
                time.sleep(0.1)
            assert bridge.mode is Mode.RUNNING
            # The page is still connected, but nobody looks at it any more.
            wait_until(lambda: bridge.mode is Mode.HOLD)
            while wait_message(page, "state")["deadman_holds"] != 2:
                pass
    assert bridge.names().count("hold") == 2


def test_a_stuck_event_loop_ends_in_a_hold(bridge):
    stuck = threading.Event()
    settings = WebSettings(port=0, token=TOKEN, deadman_s=1.0)
    with WebServer(bridge, settings) as server, open_socket(server) as page:
        hello(page)
        page.send('{"type":"beat","sent":1}')
        while wait_message(page, "state")["beat"] is None:
            pass
        bridge.cameras[0].latest = lambda: stuck.wait(PATIENCE_S) and None
        bridge.set(mode=Mode.RUNNING)
        wait_until(lambda: bridge.mode is Mode.HOLD)
        stuck.set()


def test_a_bridge_that_cannot_be_read_ends_the_page(server, bridge):
    with open_socket(server) as page:
        hello(page)
        wait_message(page, "state")
        bridge.status = lambda: {}
        assert close_code(page) == 1011


@pytest.mark.parametrize("seconds", [-1.0, 0.1, 1000.0, float("nan")])
def test_a_nonsensical_dead_man_s_time_is_refused(bridge, seconds):
    with pytest.raises(ValueError, match="dead man"):
        WebServer(bridge, WebSettings(deadman_s=seconds))


def test_closing_ends_every_thread(bridge):
    before = set(threading.enumerate())
    server = WebServer(bridge, WebSettings(port=0, deadman_s=2.0)).start()
    page = open_socket(server)
    server.close()
    server.close()
    assert {t for t in threading.enumerate() if t.name.startswith("web")} <= before
    page.close()
