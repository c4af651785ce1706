"""Messages between the bridge's page and its server: JSON texts in, JSON and pictures out.

From the page: `hello` (token, protocol version), `beat` (somebody is looking), `command`. To it:
`state`, `reply`, and pictures as binary messages `length of name, name, age in ms, JPEG`. Whatever
arrives is checked here; a wrong message is a `ValueError` with its reason, never anything else.
"""

import dataclasses
import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import simplejpeg

from robot_bridge.observations import Frame

PROTOCOL = 1
MAX_MESSAGE_BYTES = 16 * 1024
PICTURE_WIDTH = 640
_PICTURE_QUALITY = 75
# name length, age of the picture in ms
_PICTURE_HEAD = struct.Struct(">BI")


@dataclasses.dataclass(frozen=True)
class Hello:
    """The first message: who speaks."""

    token: str


@dataclasses.dataclass(frozen=True)
class Beat:
    """The page is open and seen; `sent` (the page's clock, ms) comes back in the next state."""

    sent: float


@dataclasses.dataclass(frozen=True)
class Command:
    """A command for `Bridge.command`; `number` tells replies apart."""

    number: int
    name: str
    arguments: Mapping[str, Any]


def parse_message(data: str | bytes) -> Hello | Beat | Command:
    """Checks one message of the page.

    Raises:
        ValueError: anything else than a well-formed message, with the reason.
    """
    if not isinstance(data, str):
        raise ValueError("binary messages are not understood")
    try:
        message = json.loads(
            data, parse_int=_number, parse_float=_number, parse_constant=_not_a_number
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg}") from error
    except RecursionError:
        raise ValueError("no message is nested that deeply") from None
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    kind = message.pop("type", None)
    if kind == "hello":
        return _hello(message)
    if kind == "beat":
        return Beat(_field(message, "sent", float))
    if kind == "command":
        number, name = _field(message, "number", float), _field(message, "name", str)
        return Command(int(number), name, _field(message, "arguments", dict))
    raise ValueError("type must be hello, beat or command")


def state_message(
    status: Mapping[str, Any], age_ms: float, beat: float | None, deadman_holds: int
) -> str:
    """What the page shows; `beat` echoes the newest `Beat.sent`, which bounds the time on the way.

    `deadman_holds` counts how often the arm was held because no page was heard.
    """
    return _dump({
        "type": "state",
        "age_ms": round(age_ms, 1),
        "beat": beat,
        "deadman_holds": deadman_holds,
        "status": status,
    })  # fmt: skip


def reply_message(number: int, reason: str | None) -> str:
    """Answer to a command: taken, or refused with a reason."""
    return _dump({"type": "reply", "number": number, "ok": reason is None, "reason": reason or ""})


def welcome_message(deadman_s: float) -> str:
    """Answer to a good hello."""
    return _dump({"type": "welcome", "version": PROTOCOL, "deadman_s": deadman_s})


def picture_message(camera: str, age_ms: float, jpeg: bytes) -> bytes:
    """One picture."""
    name = camera.encode()[:255]
    return _PICTURE_HEAD.pack(len(name), min(max(int(age_ms), 0), 2**32 - 1)) + name + jpeg


def encode_picture(frame: Frame, color_order: str) -> bytes:
    """The frame as JPEG, every n-th pixel where it is wider than `PICTURE_WIDTH`."""
    step = math.ceil(frame.image.shape[1] / PICTURE_WIDTH)
    image = np.ascontiguousarray(frame.image[::step, ::step])
    return simplejpeg.encode_jpeg(
        image, quality=_PICTURE_QUALITY, colorspace=color_order.upper(), colorsubsampling="420"
    )


def _hello(message: Mapping[str, Any]) -> Hello:
    version = _field(message, "version", float)
    if version != PROTOCOL:
        raise ValueError(f"this page speaks version {version:g}, the bridge {PROTOCOL}; reload it")
    return Hello(_field(message, "token", str))


def _field(message: Mapping[str, Any], name: str, kind: type) -> Any:
    value = message.get(name)
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}")
    return value


def _number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_a_number(text)


def _not_a_number(text: str) -> float:
    raise ValueError(f"{text[:20]} is no finite number")


def _dump(message: Mapping[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"), allow_nan=False)
