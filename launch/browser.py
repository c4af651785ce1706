"""A headless Chromium that a program drives through its DevTools protocol, for tests and pictures.

In: an address, clicks, keys, a window's size, light or dark. Out: values of expressions, pictures,
and everything that the page complained about. One page, one thread; no package beyond websockets.
"""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_KEY_NUMBERS = {"Enter": 13, "Tab": 9, "Escape": 27}
_START_S = 60.0
_CALL_S = 60.0


def find_chromium() -> str | None:
    """Path of a Chromium on this machine, None without one."""
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


class Browser:
    """One page in a browser of its own; a context manager.

    Raises:
        RuntimeError: there is no Chromium, or it does not start.
    """

    def __init__(self) -> None:
        path = find_chromium()
        if path is None:
            raise RuntimeError(f"no browser: none of {', '.join(CHROMIUM)} is installed")
        self._profile = Path(tempfile.mkdtemp(prefix="browser-"))
        flags = [*_FLAGS, f"--user-data-dir={self._profile}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium refuses its sandbox to root
        self._process = subprocess.Popen(
            [path, *flags, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.complaints: list[str] = []
        self._numbers = itertools.count(1)
        try:
            self._socket = connect(
                self._page_address(), max_size=None, open_timeout=_START_S, ping_interval=None
            )
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except Exception:
            self._end_process()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the browser and removes its profile."""
        self._socket.close()
        self._end_process()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command; returns its result.

        Raises:
            RuntimeError: the browser refuses it.
            TimeoutError: no answer.
        """
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=_CALL_S))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._note(message)

    def open(self, url: str) -> None:
        """Goes to an address and waits until the page is loaded."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression (promises are awaited), as JSON values.

        Raises:
            RuntimeError: it throws.
        """
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_for(self, condition: str, timeout_s: float = 30.0) -> Any:
        """Waits until an expression is truthy and returns it.

        Raises:
            TimeoutError: it never is; the message has the expression.
        """
        deadline = time.monotonic() + timeout_s
        while not (value := self.evaluate(condition)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never true within {timeout_s:g} s: {condition}")
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        """Text of the first element that matches."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")

    def click(self, selector: str) -> None:
        """Presses and releases the mouse in the middle of an element, as a person would."""
        name = json.dumps(selector)
        self.evaluate(f"document.querySelector({name}).scrollIntoView({{block: 'center'}})")
        box = self.evaluate(
            f"(() => {{const b = document.querySelector({name}).getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left",
                clickCount=1,
            )  # fmt: skip

    def press(self, key: str, code: str) -> None:
        """Presses and releases a key, e.g. (" ", "Space")."""
        # Without the number a key does nothing but to send its event: no button is pressed by it.
        fields: dict[str, Any] = {"key": key, "code": code}
        fields["windowsVirtualKeyCode"] = ord(key.upper()) if len(key) == 1 else _KEY_NUMBERS[key]
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **fields, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    def resize(self, width: int, height: int, scale: float = 1.0, mobile: bool = False) -> None:
        """Sets the size of the page in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=scale, mobile=mobile,
        )  # fmt: skip

    def set_dark(self, dark: bool) -> None:
        """Says whether the person prefers dark pages."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, path: Path, whole: bool = True) -> None:
        """Saves the page as PNG: all of it, or what the window shows."""
        result = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(result["data"]))

    def _page_address(self) -> str:
        """WebSocket address of the page that the browser opened."""
        record = self._profile / "DevToolsActivePort"
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if record.exists() and len(lines := record.read_text().splitlines()) == 2:
                with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json", timeout=10) as got:
                    for target in json.load(got):
                        if target["type"] == "page":
                            return target["webSocketDebuggerUrl"]
            time.sleep(0.05)
        raise RuntimeError(f"the browser did not start (exit status {self._process.poll()})")

    def _note(self, message: dict[str, Any]) -> None:
        """Keeps what went wrong in the page: exceptions, errors on the console, refused loads."""
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", str(details)))
        elif message.get("method") == "Log.entryAdded":
            entry = parameters["entry"]
            if entry["level"] == "error":
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
        elif message.get("method") == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.complaints.append(str([a.get("value") for a in parameters["args"]]))

    def _end_process(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Its children may still write for a moment.
        shutil.rmtree(self._profile, ignore_errors=True)
