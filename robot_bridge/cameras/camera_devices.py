"""Where a camera's pictures come from, as text in a config: a device's name, path, number, a file.

In: "Logitech C920", "/dev/video0", "2", "demo.mp4", "frames/%04d.png", "rtsp://...". Out: what
OpenCV opens, looked up anew at each call: numbers change when a camera is plugged in again, names
do not (R8). Only Linux knows names.
"""

import dataclasses
from pathlib import Path

DEVICES = Path("/sys/class/video4linux")


def find_source(source: str, devices: Path = DEVICES) -> str | int:
    """A device number, or a path or address that OpenCV opens itself.

    Args:
        source: see the top of this file; a part of a device's name is enough.
        devices: folder in which the kernel lists video devices.

    Raises:
        ValueError: nothing has this name, or two cameras have; lists those there are.
    """
    if source.isdecimal():
        return int(source)
    if "://" in source or "%" in source:
        return source
    path = Path(source)
    if path.exists() and not path.is_dir():
        # "/dev/v4l/by-id/..." are links: OpenCV's V4L2 backend wants the number.
        real = path.resolve()
        number = real.name.removeprefix("video")
        return int(number) if real.parent == Path("/dev") and number.isdecimal() else source
    if path.suffix or "/" in source:
        raise ValueError(f"camera source {source!r}: no such file or device")
    return _find_name(source, list_devices(devices))


@dataclasses.dataclass(frozen=True)
class Device:
    """A video device: what its driver calls it, and the hardware that it belongs to."""

    name: str
    hardware: str


def list_devices(devices: Path = DEVICES) -> dict[int, Device]:
    """Number -> device, of those that the kernel knows."""
    found = {}
    for folder in devices.glob("video*"):
        number = folder.name.removeprefix("video")
        if number.isdecimal() and (folder / "name").is_file():
            name = (folder / "name").read_text().strip()
            found[int(number)] = Device(name, str((folder / "device").resolve()))
    return dict(sorted(found.items()))


def _find_name(name: str, known: dict[int, Device]) -> int:
    matching = {n: device for n, device in known.items() if name.lower() in device.name.lower()}
    # One webcam is several devices (the others deliver metadata): the lowest has the pictures.
    if len({device.hardware for device in matching.values()}) == 1:
        return min(matching)
    listed = ", ".join(f"{device.name!r} (/dev/video{n})" for n, device in known.items())
    trouble = "is ambiguous, use a path in /dev/v4l/by-id" if matching else "is not connected"
    raise ValueError(f"camera source {name!r} {trouble}; there are: {listed or 'no cameras'}")
