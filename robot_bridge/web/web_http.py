"""The plain HTTP beside the page's socket: its files, answers, and how many may connect.

In: nothing. Out: contents and `Response`s for `web_server.py`, which decides who gets them.
"""

import asyncio
import http
from collections.abc import Mapping
from importlib import resources
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

SCRIPTS = ("app", "link", "plots")
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in SCRIPTS},
}
# Each connection costs a file descriptor, and the arm's port needs one to be opened again.
MAX_CONNECTIONS = 48


class CountedConnection(ServerConnection):
    """Refuses more connections than the process can afford.

    Args:
        counted: those that are open, of one server.
    """

    def __init__(self, counted: set[ServerConnection], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._counted = counted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._counted.add(self)
        if len(self._counted) > MAX_CONNECTIONS:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._counted.discard(self)
        super().connection_lost(exc)


def read_files() -> dict[str, tuple[bytes, str]]:
    """path -> (content, type), of the package's files."""
    folder = resources.files("robot_bridge") / "web"
    return {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}


def respond(
    status: http.HTTPStatus, content: bytes | str, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer that is no socket; plain text unless the headers say otherwise."""
    body = content.encode() if isinstance(content, str) else content
    fields = {
        "Content-Type": "text/plain; charset=utf-8",
        "Connection": "close",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    return Response(status.value, status.phrase, Headers(fields), body)
