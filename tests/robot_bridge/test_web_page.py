"""The bridge's page in a real browser: what it shows, what a person's taps and keys lead to."""

import contextlib
import json
import re
import socket
import threading

import pytest

from launch.browser import Browser, find_chromium
from robot_bridge.safety.modes import Mode
from robot_bridge.web.web_server import WebServer, WebSettings
from tests.robot_bridge.shown_bridge import ShownBridge, TestCamera

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
LIVE = "document.body?.dataset.link === 'live'"
# Chromium reports a server that is gone as an error of the page; that is what these tests make.
GONE = re.compile("ERR_CONNECTION|WebSocket connection|ERR_EMPTY_RESPONSE")


@pytest.fixture(scope="module")
def chromium():
    with Browser() as running:
        yield running


@pytest.fixture
def browser(chromium):
    """The browser with an empty page, and no complaint about what the test did."""
    chromium.complaints.clear()
    chromium.resize(1200, 900)
    chromium.set_dark(False)
    yield chromium
    chromium.open("data:text/html,<title>empty</title>")
    assert [text for text in chromium.complaints if not GONE.search(text)] == []


@pytest.fixture
def bridge():
    return ShownBridge([TestCamera("top"), TestCamera("wrist", "bgr")])


@pytest.fixture
def server(bridge):
    with WebServer(bridge, WebSettings(port=0)) as running:
        yield running


@pytest.fixture
def page(browser, server):
    """The browser showing the page with live data."""
    browser.open(server.url)
    browser.wait_for(LIVE)
    return browser


def wait_taken(page, bridge, name):
    """Waits until the bridge was commanded."""
    deadline = 200
    while name not in bridge.names():
        deadline -= 1
        assert deadline, f"{name} never came: {bridge.names()}; page says {page.text('#said')}"
        page.evaluate("new Promise(resolve => setTimeout(resolve, 50))")


def enabled(page):
    """Names of the commands that can be given."""
    buttons = "[...document.querySelectorAll('[data-command]')]"
    return set(page.evaluate(f"{buttons}.filter(b => !b.disabled).map(b => b.dataset.command)"))


def test_the_state_is_shown(page, bridge):
    bridge.set(mode=Mode.RUNNING, reason="the arm follows the source")
    page.wait_for("document.getElementById('mode').textContent === 'running'")
    assert page.text("#reason") == "the arm follows the source"
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('h1')).fontSize)") > 28
    assert page.text("#quantiles") == "msp50p99maxlate0.100.401.25busy2.003.004.00"
    for words in ("10 Hz", "1, 0"):
        assert words in page.text("#timing")
    for words in ("by-id/usb-Silicon", "120 reads, 2 failed", "3 chunks", "recording", "64×48"):
        assert words in page.text("#health")
    assert "none since the start" in page.text("#interventions")
    assert page.evaluate("document.querySelectorAll('.plot').length") == 7
    page.wait_for("document.querySelectorAll('#pictures canvas').length === 2")


def painted(selector):
    """Expression: how many pixels of a canvas are not empty."""
    return (
        f"(() => {{const c = document.querySelector({json.dumps(selector)});"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n})()"
    )


def test_plots_and_pictures_are_painted(page):
    page.wait_for("document.querySelectorAll('#pictures canvas').length === 2")
    frame_only = 2 * (300 + 84) * 2
    assert page.wait_for(f"{painted('.plot canvas')} > {frame_only}")
    picture = "document.querySelector('#pictures canvas').getContext('2d')"
    red, green, blue, _ = page.evaluate(f"[...{picture}.getImageData(9, 9, 1, 1).data]")
    assert abs(red - 200) < 10
    assert abs(green - 30) < 10
    assert abs(blue - 40) < 10


def test_interventions_are_counted_and_names_are_text_only(page, bridge):
    hostile = "<img src=x onerror='window.hacked=1'>"
    bridge.set(interventions={"clamped:joint3": 4, hostile: 2}, reason=hostile)
    page.wait_for("document.getElementById('intervention-total').textContent === '6'")
    assert "clamped:joint3" in page.text("#interventions")
    assert hostile in page.text("#interventions")
    assert page.text("#reason") == hostile
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.evaluate("window.hacked === undefined")


def tap_twice(page, selector):
    """Gives a command that moves the arm: a tap, a pause, a tap."""
    page.click(selector)
    page.evaluate("new Promise(resolve => setTimeout(resolve, 500))")
    page.click(selector)


def test_the_arm_moves_only_at_a_second_deliberate_tap(page, bridge):
    for _ in range(2):  # a double click
        page.evaluate("document.querySelector('[data-command=start]').click()")
    assert page.text("[data-command=start]") == "Sure?"
    assert "the arm will move" in page.text("#said")
    page.wait_for("!document.querySelector('[data-command=start].armed')")
    assert bridge.names() == []
    tap_twice(page, "[data-command=start]")
    wait_taken(page, bridge, "start")
    page.wait_for("document.body.dataset.mode === 'running'")
    page.click("[data-command=hold]")
    wait_taken(page, bridge, "hold")
    page.wait_for("document.body.dataset.mode === 'hold'")
    assert bridge.names() == ["start", "hold"]


def test_only_possible_commands_can_be_given(page, bridge):
    assert enabled(page) == {"start", "hold", "note", "instruction"}
    bridge.set(mode=Mode.RUNNING)
    page.wait_for("document.body.dataset.mode === 'running'")
    assert {"hold", "success", "failure", "takeover"} <= enabled(page)
    assert "start" not in enabled(page)


def test_jog_stands_there_during_a_takeover_only(page, bridge):
    bridge.set(mode=Mode.RUNNING)
    page.wait_for("document.body.dataset.mode === 'running'")
    assert page.evaluate("document.getElementById('jog').hidden")
    tap_twice(page, "[data-how=jog]")
    wait_taken(page, bridge, "takeover")
    page.wait_for("!document.getElementById('jog').hidden")
    assert page.text("#mode") == "running, taken over"
    page.click("[aria-label='joint2 plus']")
    wait_taken(page, bridge, "jog")
    joint, change = bridge.taken[-1][1].values()
    assert joint == "joint2"
    assert change == pytest.approx(0.01745, abs=1e-4)
    page.click("[aria-label='gripper minus']")
    wait_taken(page, bridge, "gripper")
    assert bridge.taken[-1][1]["opening"] == pytest.approx(0.6)


def test_notes_are_sent_and_spaces_in_them_stop_nothing(page, bridge):
    page.evaluate("document.getElementById('note').focus()")
    for key, code in [("a", "KeyA"), (" ", "Space"), ("b", "KeyB"), ("Enter", "Enter")]:
        page.press(key, code)
    wait_taken(page, bridge, "note")
    assert bridge.taken == [("note", {"text": "a b"})]
    page.wait_for("document.getElementById('note').value === ''")


def test_e_stop_by_one_click(page, bridge):
    page.click("#estop")
    page.wait_for("document.body.dataset.mode === 'estop'")
    assert set(bridge.names()) == {"estop"}
    assert page.text("#mode") == "E-stop"
    page.wait_for("document.getElementById('estop-state').textContent === 'stopped'")
    assert enabled(page) >= {"reset"}


@pytest.mark.parametrize("name", ["start", "hold"])
def test_e_stop_by_the_space_key_even_on_another_button(page, bridge, name):
    page.evaluate(f"document.querySelector('[data-command={name}]').focus()")
    page.press(" ", "Space")
    page.wait_for("document.body.dataset.mode === 'estop'")
    page.evaluate("new Promise(resolve => setTimeout(resolve, 300))")
    assert bridge.names() == ["estop"]
    assert not page.evaluate("document.querySelector('[data-command=start].armed')")


class Proxy:
    """Passes connections on to a server; those of the socket can be frozen: open, and silent."""

    def __init__(self, port):
        self._target, self.frozen = port, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._connections, self._threads = [], []
        self._start(self._accept)

    def close(self):
        for connection in [self._listener, *self._connections]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._connections += [client, server]
                self._start(self._pump, client, server)
                self._start(self._pump, server, client)

    def _pump(self, source, sink):
        is_socket = False
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                is_socket = is_socket or b" /socket " in data or b"101 Switching" in data
                if not (is_socket and self.frozen.is_set()):
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def test_e_stop_goes_by_http_when_the_socket_is_silent(browser, server, bridge):
    proxy = Proxy(server.port)
    try:
        browser.open(server.url.replace(str(server.port), str(proxy.port)))
        browser.wait_for(LIVE)
        proxy.frozen.set()
        # The socket looks open; only its silence tells.
        browser.wait_for("document.body.dataset.link === 'stale'")
        assert "Stale" in browser.text("#banner")
        assert bridge.names() == []
        browser.click("#estop")
        browser.wait_for("document.getElementById('estop-state').textContent === 'stopped'")
        assert set(bridge.names()) == {"estop"}
        # It does not wait for a socket that nobody answers, and finds back.
        browser.wait_for("document.body.dataset.link === 'lost'")
        proxy.frozen.clear()
        browser.wait_for(LIVE)
        assert browser.text("#mode") == "E-stop"
    finally:
        proxy.close()


def test_an_old_state_is_called_stale(page, bridge):
    bridge.set(frozen_ns=bridge.status()["time_ns"])
    page.wait_for("document.body.dataset.link === 'stale'")
    assert re.fullmatch(r"Stale: the state is \d+\.\d s old\.", page.text("#banner"))
    assert not page.evaluate("document.getElementById('banner').hidden")
    # What makes it safer can still be asked; what moves the arm cannot.
    assert enabled(page) == {"hold", "note", "instruction"}
    bridge.set(frozen_ns=None)
    page.wait_for(LIVE)
    assert page.evaluate("document.getElementById('banner').hidden")


def test_a_lost_connection_is_red_and_disables_everything_but_the_stop(page, server):
    server.close()
    page.wait_for("document.body.dataset.link === 'lost'")
    assert "Connection lost" in page.text("#banner")
    red, green, blue = map(int, re.findall(r"\d+", page.evaluate(
        "getComputedStyle(document.getElementById('banner')).backgroundColor"))[:3])  # fmt: skip
    assert red > 150 > green + blue
    assert enabled(page) == set()
    assert page.text("#mode").endswith("?")
    assert not page.evaluate("document.getElementById('estop').disabled")
    page.click("#estop")
    page.wait_for("/not confirmed/.test(document.getElementById('estop-state').textContent)")


def test_the_page_finds_back_to_a_bridge_that_comes_back(page, server, bridge):
    port, token = server.port, server.url.partition("token=")[2]
    server.close()
    page.wait_for("document.body.dataset.link === 'lost'")
    with WebServer(bridge, WebSettings(port=port, token=token)):
        page.wait_for(LIVE)


def test_the_token_is_kept_in_the_tab_and_not_in_the_address(page, server):
    assert page.evaluate("location.href") == f"http://127.0.0.1:{server.port}/"
    assert page.evaluate("sessionStorage.token") == server.url.partition("token=")[2]
    page.call("Page.reload")
    page.wait_for(LIVE)


def test_a_wrong_token_can_be_corrected(browser, server):
    url, _, token = server.url.partition("#token=")
    browser.open(f"{url}?wrong#token=not-the-right-token")
    browser.wait_for("!document.getElementById('token-card').hidden")
    assert "wrong token" in browser.text("#banner")
    browser.evaluate(f"document.getElementById('token').value = {json.dumps(token)}")
    browser.click("#token-use")
    browser.wait_for(LIVE)
    assert browser.evaluate("document.getElementById('token-card').hidden")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1400])
def test_everything_fits_and_can_be_read(page, bridge, width, dark, tmp_path):
    bridge.set(mode=Mode.RUNNING, takeover=True)
    page.resize(width, 740, mobile=width < 600)
    page.set_dark(dark)
    page.wait_for("!document.getElementById('jog').hidden")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = "(e => {const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]})"
    for scroll in ("0", "document.body.scrollHeight"):
        page.evaluate(f"scrollTo(0, {scroll})")
        left, top, right, bottom = page.evaluate(f"{box}(document.getElementById('estop'))")
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= 740
        assert bottom - top >= 44
    cut = "[...document.querySelectorAll('button:not([hidden])')].filter(b => b.offsetParent && " \
        "b.scrollWidth > b.clientWidth + 1).map(b => b.textContent)"  # fmt: skip
    assert page.evaluate(cut) == []
    wide = (
        "[...document.querySelectorAll('section')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    )
    assert page.evaluate(f"{wide}.map(e => e.textContent)") == []
    high = "[...document.querySelectorAll('#health tr')].map(e => e.offsetHeight)"
    assert max(page.evaluate(high)) < 80
    assert contrast(page, "#reason") > 4.5
    assert contrast(page, "#health td:last-child") > 4.5
    page.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def contrast(page, selector):
    """Contrast of a text and the card under it, as the WCAG define it."""
    name = json.dumps(selector)
    colors = page.evaluate(
        f"(e => [getComputedStyle(e).color, getComputedStyle(e.closest('section, header'))"
        f".backgroundColor])(document.querySelector({name}))"
    )
    bright = []
    for color in colors:
        channels = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        bright.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(bright) + 0.05) / (min(bright) + 0.05)
