"""A policy behind a socket: websocket and msgpack, several robots, one worker thread.

Flows in: connections with a token, and on them queries (`protocol.py`). Flows out: chunks of
actions, /healthz and /metrics. Whoever connects is told first what is served. Nothing here knows
jax: the policy is an `Actor`, loaded and warmed in the worker thread while /healthz says 503.
"""

import asyncio
import dataclasses
import hmac
import http
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

import arp_jax
from arp_jax.export.inference_queue import Actor, Client, InferenceQueue, find_problem
from arp_jax.export.protocol import (
    CLOSE_MALFORMED,
    CLOSE_VERSION,
    FRAGMENT_BYTES,
    MAX_MESSAGE_BYTES,
    Actions,
    Message,
    Metadata,
    Problem,
    ProtocolError,
    Query,
    VersionError,
    decode,
    encode,
    fragments,
)
from arp_jax.export.server_metrics import CONTENT_TYPE, ServerMetrics

_log = logging.getLogger(__name__)
# A client that does not answer a ping within this is gone, and its place is free.
_PING_S = 10.0
_CLOSE_UNSUPPORTED, _CLOSE_TRY_LATER = 1003, 1013
# What a close frame has room for.
_REASON_BYTES = 123


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """Where and for whom.

    Attributes:
        host, port: address to listen on; port 0 for any free one.
        token: what clients must show; None for everybody, on this machine only.
        tls_cert, tls_key: PEM files, both or neither.
        max_clients: connections at one time.
        max_message_bytes: a larger message ends its connection.
        listening: an open socket to use instead of `host` and `port`.
        shared: memory in which the one client, our parent process, leaves its arrays.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_clients: int = 8
    max_message_bytes: int = MAX_MESSAGE_BYTES
    listening: socket.socket | None = None
    shared: memoryview | None = None

    def check(self) -> None:
        """Raises ValueError, naming the flag, for what would not work or would not be safe."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls_cert and --tls_key belong together: give both or neither")
        for flag, path in (("--tls_cert", self.tls_cert), ("--tls_key", self.tls_key)):
            if path is not None and not path.is_file():
                raise ValueError(f"{flag}: there is no file {path}")
        if self.token is None and not _is_loopback(self.host):
            raise ValueError(
                f"--host={self.host} lets other machines in: give --token_file too, or leave "
                "--host away and use an ssh tunnel"
            )
        if self.token is not None and (len(self.token) < 16 or not self.token.isascii()):
            raise ValueError("the token has fewer than 16 characters, or other than ASCII ones")
        if self.max_clients < 1 or self.max_message_bytes < 1024:
            raise ValueError("--max_clients must be at least 1 and messages at least 1024 bytes")


class PolicyServer:
    """Serves one policy.

    Args:
        load: returns the policy; called in the worker thread.
        options: where and for whom.

    Raises:
        ValueError: `options` does not fit; one line naming the flag.
    """

    def __init__(self, load: Callable[[], Actor], options: ServerOptions) -> None:
        options.check()
        self._load = load
        self._options = options
        self._metrics = ServerMetrics()
        self._clients: set[Client] = set()
        self._queue: InferenceQueue | None = None
        self._metadata: Metadata | None = None

    async def run(
        self,
        stop: asyncio.Event,
        listening: Callable[[str], None] = lambda address: None,
        ready: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """Serves until `stop` is set.

        Args:
            stop: ends it.
            listening: told the address once it is open.
            ready: told the seconds that the policy took to warm up.

        Raises:
            ValueError: the address cannot be used, or the policy cannot be loaded.
        """
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "inference") as executor:
            server = await self._open()
            async with server:
                listening(_address(server, self._options))
                stopping = loop.create_task(stop.wait())
                working = loop.create_task(self._work(executor, ready))
                try:
                    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
                    if working.done():
                        await working
                finally:
                    stopping.cancel()
                    working.cancel()
                    await asyncio.gather(stopping, working, return_exceptions=True)

    async def _open(self) -> Server:
        options = self._options
        context = None
        if options.tls_cert is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            try:
                context.load_cert_chain(options.tls_cert, options.tls_key)
            except ssl.SSLError as error:
                raise ValueError(f"--tls_cert, --tls_key: no pair of PEM files: {error}") from error
        where: dict = {"sock": options.listening}
        if options.listening is None:
            where = {"host": options.host, "port": options.port}
        try:
            return await serve(
                self._converse,
                **where,
                ssl=context,
                process_request=self._admit,
                # A browser says where its page came from; no page has business here.
                origins=[None],
                compression=None,
                max_size=options.max_message_bytes,
                ping_interval=_PING_S,
                ping_timeout=_PING_S,
                close_timeout=1.0,
                server_header=None,
            )
        except OSError as error:
            raise ValueError(
                f"--host={options.host} --port={options.port} cannot be used: {error.strerror}"
            ) from error

    async def _work(self, executor: ThreadPoolExecutor, ready: Callable[[float], None]) -> None:
        """Loads the policy, then computes answers until it is cancelled."""
        loop = asyncio.get_running_loop()
        actor = await loop.run_in_executor(executor, self._load)
        seconds = await loop.run_in_executor(executor, actor.warm_up)
        self._metadata = Metadata(
            policy=str(actor.manifest.get("policy", "")),
            spec=actor.spec,
            content_hash=str(actor.manifest.get("content_hash", "")),
            versions={"arp_jax": arp_jax.__version__},
        )
        self._queue = InferenceQueue(actor, executor, self._metrics.answered)
        self._metrics.ready.set(1)
        ready(seconds)
        await self._queue.run()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers plain HTTP, and refuses whoever may not or cannot be served; None lets in."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            if self._queue is None:
                return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "warming up\n")
            return connection.respond(http.HTTPStatus.OK, "ready\n")
        if path not in ("/", "/metrics"):
            return self._refuse(connection, 404, "path", "there are /, /healthz and /metrics")
        if not self._knows_token(request):
            why = "wrong or missing token: send 'Authorization: Bearer TOKEN', the server's token"
            response = self._refuse(connection, 401, "token", why)
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if path == "/metrics":
            response = connection.respond(http.HTTPStatus.OK, self._metrics.text())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = CONTENT_TYPE
            return response
        if self._queue is None:
            return self._refuse(connection, 503, "warming_up", "the policy is warming up")
        if len(self._clients) >= self._options.max_clients:
            return self._refuse(connection, 503, "full", self._full())
        return None

    def _refuse(
        self, connection: ServerConnection, status: int, reason: str, text: str
    ) -> Response:
        self._metrics.refused.labels(reason).inc()
        _log.warning("refused %s: %s", connection.remote_address, text)
        return connection.respond(http.HTTPStatus(status), text + "\n")

    def _full(self) -> str:
        return f"{self._options.max_clients} clients are connected, which is all; see --max_clients"

    def _knows_token(self, request: Request) -> bool:
        if self._options.token is None:
            return True
        shown = ", ".join(request.headers.get_all("Authorization"))
        expected = f"Bearer {self._options.token}"
        # Headers of strangers may hold bytes that are no text.
        return hmac.compare_digest(shown.encode(errors="surrogateescape"), expected.encode())

    async def _converse(self, connection: ServerConnection) -> None:
        """One client, from its first to its last message."""
        assert self._queue is not None
        assert self._metadata is not None
        if len(self._clients) >= self._options.max_clients:  # several were let in at one moment
            await connection.close(_CLOSE_TRY_LATER, self._full())
            return

        async def send(answer: Actions | Problem) -> None:
            await _send(connection, answer)

        client = Client(send)
        self._clients.add(client)
        self._metrics.clients.inc()
        _log.info("%s has come", connection.remote_address)
        try:
            await _send(connection, self._metadata)
            async for data in connection:
                if not await self._receive(connection, client, data):
                    break
        except ConnectionClosed as closed:
            if closed.sent is not None and closed.sent.code == 1009:
                self._metrics.refused.labels("size").inc()
            _log.info("%s broke off: %s", connection.remote_address, closed)
        finally:
            self._queue.leave(client)
            self._clients.discard(client)
            self._metrics.clients.dec()
            _log.info("%s has gone", connection.remote_address)

    async def _receive(
        self, connection: ServerConnection, client: Client, data: str | bytes
    ) -> bool:
        """Takes one message; returns whether the conversation goes on."""
        assert self._queue is not None
        assert self._metadata is not None
        try:
            if isinstance(data, str):
                return await self._end(connection, "text", _CLOSE_UNSUPPORTED, "a text, not bytes")
            self._metrics.bytes_received.inc(len(data))
            query = decode(data, self._options.shared)
            if not isinstance(query, Query):
                raise ProtocolError("a server is sent queries only")
        except VersionError as error:
            return await self._end(connection, "version", CLOSE_VERSION, str(error))
        except ProtocolError as error:
            return await self._end(connection, "malformed", CLOSE_MALFORMED, str(error))
        self._metrics.queries.inc()
        problem = find_problem(self._metadata.spec, query)
        if problem is not None:
            self._metrics.refused.labels("observation").inc()
            await _send(connection, problem)
        else:
            if client.waiting is not None:
                self._metrics.superseded.inc()
            self._queue.put(client, query)
        return True

    async def _end(self, connection: ServerConnection, reason: str, code: int, text: str) -> bool:
        """Closes a conversation with a reason; False."""
        self._metrics.refused.labels(reason).inc()
        _log.warning("ended the conversation with %s: %s", connection.remote_address, text)
        await connection.close(code, text.encode()[:_REASON_BYTES].decode(errors="ignore"))
        return False


async def _send(connection: ServerConnection, message: Message) -> None:
    """Sends, unless the client has gone meanwhile, which its reader notices."""
    pieces = fragments(encode(message), FRAGMENT_BYTES)
    try:
        await connection.send(pieces[0] if len(pieces) == 1 else pieces)
    except ConnectionClosed:
        _log.debug("%s went before its answer", connection.remote_address)


def _address(server: Server, options: ServerOptions) -> str:
    name = server.sockets[0].getsockname()
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'ws' if options.tls_cert is None else 'wss'}://{host}:{name[1]}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, or "": all addresses
