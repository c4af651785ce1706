"""Who may talk to the bridge's page: pure checks of bind address, Host, Origin and token.

A page in a browser is reached by anything else that the browser shows, so each request must name
this machine (a foreign name that was made to point here, "DNS rebinding", does not), must come from
this page (Origin equals Host), and whoever reads or commands must know the token. No sockets here.
"""

import dataclasses
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from typing import Protocol

MIN_TOKEN = 16
_NAME = re.compile(r"[0-9A-Za-z._:-]+")


class ManyHeaders(Protocol):
    """Headers of a request, as the websockets package keeps them."""

    def get_all(self, key: str) -> Sequence[str]:
        """All values of one header."""
        ...


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that is bound to `host`."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def choose_token(host: str, token: str | None) -> str:
    """The token to ask for; a random one where none is given and only this machine can connect.

    Raises:
        ValueError: the bind is public and no token was chosen, or the token is too short.
    """
    if token is None:
        if not is_loopback(host):
            raise ValueError(
                f"web host {host}: a page that others on the network can open needs a token; "
                f"give one of {MIN_TOKEN} characters or more, or bind to 127.0.0.1"
            )
        return secrets.token_urlsafe(24)
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"web token: at least {MIN_TOKEN} printable ASCII characters without spaces; "
            "`python -c 'import secrets; print(secrets.token_urlsafe(24))'` makes one"
        )
    return token


@dataclasses.dataclass(frozen=True)
class Guard:
    """Decides about requests.

    Attributes:
        host: address that the server is bound to.
        token: what a client must know.
        names: further names under which this machine is reached, without port.
    """

    host: str
    token: str
    names: tuple[str, ...] = ()

    def refusal(self, headers: ManyHeaders) -> str | None:
        """Why a request is refused, None for a good one; looks at Host and Origin."""
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if len(hosts) != 1:
            return "exactly one Host header is needed"
        if not self._is_own_name(host_name(hosts[0])):
            return "this name is not this machine's; use its address, or name it in the settings"
        # A browser always names the origin of a socket or POST; other programs need not.
        own = {f"http://{hosts[0]}".lower(), f"https://{hosts[0]}".lower()}
        if len(origins) > 1 or any(origin.lower() not in own for origin in origins):
            return "the request comes from another page"
        return None

    def knows_token(self, candidate: str) -> bool:
        """Whether `candidate` is the token; takes the same time wherever they differ."""
        given = candidate.encode("utf-8", "surrogatepass")
        return hmac.compare_digest(given, self.token.encode())

    def authorized(self, headers: ManyHeaders) -> bool:
        """Whether the request has `Authorization: Bearer TOKEN`."""
        values = headers.get_all("Authorization")
        scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        return scheme.lower() == "bearer" and self.knows_token(token.strip())

    def _is_own_name(self, name: str | None) -> bool:
        if name is None:
            return False
        if is_loopback(name) or name in {own.lower() for own in self.names}:
            return True
        if is_loopback(self.host):
            return False
        # An address cannot be rebound: only names can be made to point elsewhere.
        own_name = socket.gethostname().lower()
        return _address(name) is not None or name in (own_name, f"{own_name}.local")


def host_name(host: str) -> str | None:
    """The name in a Host header ("[::1]:80" -> "::1"), lower case; None when it makes no sense."""
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            return None
        port = port[1:]
    else:
        name, _, port = host.partition(":")
    if not _NAME.fullmatch(name) or (port and not (port.isascii() and port.isdigit())):
        return None
    return name.lower()


def page_headers(host: str) -> Mapping[str, str]:
    """Headers of every answer: nothing foreign is loaded, framed, guessed, kept or told.

    Args:
        host: the Host header, after `Guard.refusal` found nothing wrong with it.
    """
    # Older Safari does not count the page's own socket as 'self'.
    sockets = f"ws://{host} wss://{host}"
    return {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            f"connect-src 'self' {sockets}; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
