"""Serves the bridge's page: files, live state and pictures out, commands in, on one port.

A thread of its own runs the event loop; it reads `status()` and `frame()` and hands over commands,
and never touches the arm. Slow readers get the newest state, never a backlog. With a dead man's
switch the arm moves only while a page that somebody can see is connected. Who may connect is
`web_guard.py`'s business, what the messages mean `web_messages.py`'s.
"""

import asyncio
import dataclasses
import http
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from robot_bridge.web import web_messages
from robot_bridge.web.web_bridge import Bridge
from robot_bridge.web.web_deadman import DeadMan
from robot_bridge.web.web_guard import Guard, choose_token, page_headers
from robot_bridge.web.web_http import CountedConnection, read_files, respond

LOG = logging.getLogger(__name__)
DEFAULT_PORT = 8320
MAX_PAGES = 8
HELLO_S = 5.0
MESSAGES_PER_S = 40
# Close codes 4000-4999 belong to the application.
WRONG_TOKEN, WRONG_MESSAGE, TOO_MANY, TOO_FAST = 4401, 4400, 4429, 4430


@dataclasses.dataclass(frozen=True)
class WebSettings:
    """How the page is served.

    Attributes:
        host: address to bind; other than loopback only with a token.
        port: 0 takes a free one.
        token: what a page must know; None: a random one (`WebServer.url` has it).
        names: names under which this machine is reached besides its own, without port.
        deadman_s: the arm moves only while a visible page was heard within this time; 0: never
            asked.
        state_hz, picture_hz: how often a page gets them, at most.
        color_orders: camera -> "rgb" or "bgr"; "rgb" where absent.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str | None = None
    names: tuple[str, ...] = ()
    deadman_s: float = 0.0
    state_hz: float = 10.0
    picture_hz: float = 5.0
    color_orders: Mapping[str, str] = dataclasses.field(default_factory=dict)


class WebServer:
    """The page's server; a context manager.

    Args:
        bridge: what is shown and commanded.
        settings: see there.
        clock_ns: monotonic time, the same that the bridge's status is in.

    Raises:
        ValueError: a public address without token, a token that is too short, a negative time.
    """

    def __init__(
        self,
        bridge: Bridge,
        settings: WebSettings,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._bridge, self._settings, self._clock_ns = bridge, settings, clock_ns
        self._token = choose_token(settings.host, settings.token)
        self._guard = Guard(settings.host, self._token, settings.names)
        self._files = read_files()
        self._deadman = DeadMan(bridge, settings.deadman_s, clock_ns)
        self._pages: set[ServerConnection] = set()
        self._pictures: dict[str, tuple[int, bytes]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page, token included."""
        host = "127.0.0.1" if self._settings.host in ("0.0.0.0", "::") else self._settings.host
        host = f"[{host}]" if ":" in host else host
        # After '#': a browser never sends that part anywhere.
        return f"http://{host}:{self.port}/#token={self._token}"

    @property
    def pages(self) -> int:
        """Number of pages that are connected and known."""
        return len(self._pages)

    def start(self) -> Self:
        """Binds the port and begins to serve.

        Raises:
            OSError: the port cannot be bound; the message names it.
        """
        bound: Future[int] = Future()
        work = lambda: asyncio.run(self._run(bound))  # noqa: E731
        self._thread = threading.Thread(target=work, name="web", daemon=True)
        self._thread.start()
        try:
            self.port = bound.result()
        except (OSError, OverflowError) as error:
            self._thread.join()
            where = f"{self._settings.host}:{self._settings.port}"
            raise OSError(f"web page: {where} cannot be bound: {error}") from error
        self._deadman.start()
        return self

    def close(self) -> None:
        """Disconnects the pages and ends the threads; twice does no harm."""
        loop, server = self._loop, self._server
        if loop is not None and server is not None and not loop.is_closed():
            loop.call_soon_threadsafe(server.close)
        if self._thread is not None:
            self._thread.join()
        self._deadman.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.close()

    async def _run(self, bound: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            self._server = await serve(
                self._talk,
                self._settings.host,
                self._settings.port,
                process_request=self._answer,
                create_connection=partial(CountedConnection, set()),  # type: ignore[arg-type]
                compression=None,
                server_header=None,
                open_timeout=HELLO_S,
                close_timeout=2,
                ping_interval=5,
                ping_timeout=10,
                max_size=web_messages.MAX_MESSAGE_BYTES,
                logger=LOG.getChild("socket"),
            )
        except BaseException as error:
            bound.set_exception(error)
            return
        bound.set_result(self._server.sockets[0].getsockname()[1])
        await self._server.wait_closed()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Files and the e-stop as plain HTTP; None lets the socket's handshake go on."""
        if (reason := self._guard.refusal(request.headers)) is not None:
            return respond(http.HTTPStatus.FORBIDDEN, reason)
        host, path = request.headers["Host"], request.path.partition("?")[0]
        if path == "/estop":
            return self._stop_by_request(request)
        if request.method != "GET":
            return respond(http.HTTPStatus.METHOD_NOT_ALLOWED, "only GET", {"Allow": "GET"})
        if path == "/socket":
            return None
        if path not in self._files:
            return respond(http.HTTPStatus.NOT_FOUND, "no such page", page_headers(host))
        content, kind = self._files[path]
        headers = {"Content-Type": kind, **page_headers(host)}
        return respond(http.HTTPStatus.OK, content, headers)

    def _stop_by_request(self, request: Request) -> Response:
        """The e-stop for a page whose socket is gone."""
        if request.method != "POST":
            return respond(http.HTTPStatus.METHOD_NOT_ALLOWED, "only POST", {"Allow": "POST"})
        if not self._guard.authorized(request.headers):
            LOG.warning("web: an e-stop request without the right token was refused")
            return respond(http.HTTPStatus.UNAUTHORIZED, "wrong token")
        self._bridge.command("estop")
        return respond(http.HTTPStatus.OK, "stopped")

    async def _talk(self, socket: ServerConnection) -> None:
        """One page, from hello to goodbye."""
        if not await self._welcomed(socket):
            return
        self._pages.add(socket)
        beats: list[float | None] = [None]
        stream = asyncio.create_task(self._stream(socket, beats))
        allowance, counted_from = float(MESSAGES_PER_S), time.monotonic()
        try:
            async for data in socket:
                now = time.monotonic()
                allowance += (now - counted_from) * MESSAGES_PER_S
                allowance, counted_from = min(allowance, MESSAGES_PER_S) - 1, now
                if allowance < 0:
                    await socket.close(TOO_FAST, f"more than {MESSAGES_PER_S} messages a second")
                    return
                await self._take(socket, data, beats)
        except ConnectionClosed:
            pass
        finally:
            self._pages.discard(socket)
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)

    async def _welcomed(self, socket: ServerConnection) -> bool:
        """Waits for a hello with the right token; closes the socket otherwise."""
        try:
            message = web_messages.parse_message(await asyncio.wait_for(socket.recv(), HELLO_S))
            if not isinstance(message, web_messages.Hello):
                raise ValueError("the first message must be a hello")
        except TimeoutError:
            await socket.close(WRONG_MESSAGE, f"no hello within {HELLO_S:g} s")
            return False
        except ValueError as error:
            await socket.close(WRONG_MESSAGE, str(error)[:100])
            return False
        except ConnectionClosed:
            return False
        if not self._guard.knows_token(message.token):
            LOG.warning("web: a page with a wrong token was refused")
            await socket.close(WRONG_TOKEN, "wrong token")
            return False
        if len(self._pages) >= MAX_PAGES:
            await socket.close(TOO_MANY, f"{MAX_PAGES} pages are open already; close one")
            return False
        await socket.send(web_messages.welcome_message(self._settings.deadman_s))
        return True

    async def _take(
        self, socket: ServerConnection, data: str | bytes, beats: list[float | None]
    ) -> None:
        """Acts on one message of a known page; a wrong one closes the socket with a reason."""
        try:
            message = web_messages.parse_message(data)
        except ValueError as error:
            await socket.close(WRONG_MESSAGE, str(error)[:100])
            return
        if isinstance(message, web_messages.Beat):
            self._deadman.beat()
            beats[0] = message.sent
        elif isinstance(message, web_messages.Command):
            reason: str | None = None
            try:
                self._bridge.command(message.name, **message.arguments)
            except (ValueError, TypeError) as error:
                # TypeError: an argument's name that the call itself uses.
                reason = str(error)
            await socket.send(web_messages.reply_message(message.number, reason))

    async def _stream(self, socket: ServerConnection, beats: list[float | None]) -> None:
        """Sends state and pictures; a send that waits for a slow reader delays only this page."""
        period, pictures_sent = 1 / self._settings.state_hz, dict[str, int]()
        next_pictures = 0.0
        try:
            while True:
                status = self._bridge.status()
                age_ms = (self._clock_ns() - status["time_ns"]) / 1e6
                await socket.send(
                    web_messages.state_message(status, age_ms, beats[0], self._deadman.holds)
                )
                if time.monotonic() >= next_pictures:
                    next_pictures = time.monotonic() + 1 / self._settings.picture_hz
                    for camera in status["cameras"]:
                        await self._send_picture(socket, camera, pictures_sent)
                await asyncio.sleep(period)
        except ConnectionClosed:
            pass
        except Exception:
            # The page must not look alive with nothing behind it.
            LOG.exception("web: the state cannot be sent")
            await socket.close(1011, "the bridge's state cannot be read; see its log")

    async def _send_picture(
        self, socket: ServerConnection, camera: str, sent: dict[str, int]
    ) -> None:
        frame = self._bridge.frame(camera)
        if frame is None or sent.get(camera) == frame.time_ns:
            return
        known = self._pictures.get(camera)
        if known is None or known[0] != frame.time_ns:
            order = self._settings.color_orders.get(camera, "rgb")
            known = (frame.time_ns, web_messages.encode_picture(frame, order))
            self._pictures[camera] = known
        age_ms = (self._clock_ns() - frame.time_ns) / 1e6
        await socket.send(web_messages.picture_message(camera, age_ms, known[1]))
        sent[camera] = frame.time_ns
