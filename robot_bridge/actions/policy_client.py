"""One conversation with a policy server: connect, learn what it serves, ask, be answered.

Flows in: queries (`arp_jax.export.protocol`). Flows out: their answers. Blocking, for one thread of
its own; every wait ends after `timeout_s`. When to ask and what to do with answers is `policy.py`'s
business.
"""

import contextlib
import socket
import ssl
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from arp_jax.export.protocol import (
    FRAGMENT_BYTES,
    MAX_MESSAGE_BYTES,
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

# A server on a robot's network answers within this, or is not there.
_OPEN_S = 3.0
# Refusals that another attempt cannot change; 503 is a server that is full or still warming up.
_FINAL = {400, 401, 403, 404, 426}


class PolicyError(Exception):
    """The policy cannot be used; the message names the server and what to do."""


class PolicyRefused(PolicyError):
    """As it stands, another attempt would end the same way."""


class PolicyClient:
    """A connection to a policy server; a context manager.

    Args:
        url: ws://HOST:PORT or wss://HOST:PORT.
        token: the server's, None without one.
        ca_cert: a file with the server's certificate or its authority's, for wss with a certificate
            of your own; None for the system's authorities.
        timeout_s: longest wait for a connection, and for an answer.
        shared: memory that the server sees too, for arrays; None: they go through the socket.

    Attributes:
        metadata: what the server says that it serves.

    Raises:
        PolicyRefused: wrong token, version, certificate or address.
        PolicyError: nobody answers, or not now.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        ca_cert: Path | None = None,
        timeout_s: float = 10.0,
        shared: memoryview | None = None,
    ) -> None:
        self._url = url
        self._shared = shared
        self._timeout = timeout_s
        self._connection = _open(url, token, ca_cert, timeout_s)
        try:
            found = self._receive()
            if not isinstance(found, Metadata):
                raise PolicyRefused(f"{url} does not say what it serves; is it a policy server?")
        except BaseException:
            self.close()
            raise
        self.metadata = found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self._connection.state is State.OPEN

    def ask(self, query: Query) -> Actions | Problem:
        """Sends a query and waits for its answer.

        Raises:
            PolicyError: no answer in time, or the connection broke; it is of no use any more.
            PolicyRefused: the server speaks another version.
        """
        try:
            pieces = fragments(encode(query, self._shared), FRAGMENT_BYTES)
            self._connection.send(pieces[0] if len(pieces) == 1 else pieces)
        except WebSocketException as error:
            raise self._broken(error) from error
        while True:
            answer = self._receive()
            if isinstance(answer, Metadata):
                raise PolicyError(f"{self._url}: metadata in the middle of a conversation")
            # -1: it could not even read the number, and there is only one query under way.
            if answer.request in (query.request, -1):
                return answer

    def close(self) -> None:
        """Ends the conversation; twice does no harm."""
        self._connection.close()

    def abort(self) -> None:
        """From another thread: whatever waits for the server fails at once."""
        with contextlib.suppress(OSError):  # closed by the other side already
            self._connection.socket.shutdown(socket.SHUT_RDWR)

    def _receive(self) -> Metadata | Actions | Problem:
        try:
            data = self._connection.recv(timeout=self._timeout, decode=False)
            message = decode(data)
        except TimeoutError as error:
            raise PolicyError(f"{self._url} gave no answer within {self._timeout:g} s") from error
        except WebSocketException as error:
            raise self._broken(error) from error
        except VersionError as error:
            raise PolicyRefused(f"{self._url}: {error}") from error
        except ProtocolError as error:
            raise PolicyError(f"{self._url} sent what is no message: {error}") from error
        if isinstance(message, Query):
            raise PolicyError(f"{self._url} sent a query instead of an answer")
        return message

    def _broken(self, error: WebSocketException) -> PolicyError:
        """What a broken connection means, with the reason that the server gave."""
        closed = error.rcvd if isinstance(error, ConnectionClosed) else None
        if closed is None:
            return PolicyError(f"the connection to {self._url} broke: {error}")
        reason = f"{self._url} ended the conversation: {closed.reason or closed.code}"
        # 44xx: about the messages themselves, 1009: too large. The next one would be too.
        final = 4400 <= closed.code < 4500 or closed.code == 1009
        return PolicyRefused(reason) if final else PolicyError(reason)


def _open(url: str, token: str | None, ca_cert: Path | None, timeout_s: float) -> ClientConnection:
    """A connection after its handshake."""
    if not url.startswith(("ws://", "wss://")):
        raise PolicyRefused(f"the address of a policy server is ws://HOST:PORT, found {url!r}")
    try:
        context = None
        if url.startswith("wss://"):
            context = ssl.create_default_context(cafile=ca_cert)
        opening = connect(
            url,
            ssl=context,
            # Pictures do not get smaller, and small messages not sooner.
            compression=None,
            # The robot's own network; a proxy would only add a place to wait.
            proxy=None,
            additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
            open_timeout=min(timeout_s, _OPEN_S),
            close_timeout=1.0,
            ping_interval=5.0,
            ping_timeout=max(timeout_s, 5.0),
            max_size=MAX_MESSAGE_BYTES,
        )
        connection = opening.__enter__()
    except InvalidStatus as error:
        status = error.response.status_code
        text = (error.response.body or b"").decode(errors="replace").strip()
        refusal = PolicyRefused if status in _FINAL else PolicyError
        raise refusal(f"{url} refuses ({status}): {text or 'no reason given'}") from error
    except ssl.SSLCertVerificationError as error:
        raise PolicyRefused(
            f"{url}: its certificate is not trusted ({error.verify_message}); give its file"
        ) from error
    except TimeoutError as error:
        raise PolicyError(f"{url} does not answer") from error
    except (OSError, WebSocketException) as error:
        raise PolicyError(f"{url} cannot be reached: {error}; is the server running?") from error
    except ValueError as error:
        raise PolicyRefused(f"{url!r} is no address: {error}") from error
    _limit_sending(connection.socket, timeout_s)
    return connection


def _limit_sending(connected: socket.socket, timeout_s: float) -> None:
    """A server that stops reading must not block the sender for ever."""
    seconds, fraction = divmod(timeout_s, 1)
    limit = struct.pack("@ll", int(seconds), int(fraction * 1e6))
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
