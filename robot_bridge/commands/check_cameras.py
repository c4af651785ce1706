"""Do the cameras deliver, and is there room for what they see? Cameras, disk.

In: opened cameras and the log's folder. Out: findings. What a picture shows nobody here can judge;
that it is not black, not one color and changes with time, it can.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from robot_bridge.commands.findings import Finding
from robot_bridge.observations import Camera, Frame

_FIRST_PICTURE_S = 10.0
_MINUTE_BYTES = 60 * 10 * 60_000  # of one camera at 10 Hz as JPEG, 640 x 480
_WANTED_MINUTES = 60


def check_cameras(
    cameras: Sequence[Camera],
    rate_hz: float,
    seconds: float,
    now_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Finding]:
    """Waits for the first pictures, looks for `seconds`, and tells; the caller closes them."""
    if not cameras:
        yield Finding("ok", "cameras", "none are configured")
        return
    deadline = now_ns() + int(_FIRST_PICTURE_S * 1e9)
    while any(camera.latest() is None for camera in cameras) and now_ns() < deadline:
        sleep(0.02)
    frames = watch(cameras, seconds, now_ns, sleep)
    for camera in cameras:
        yield _judge(camera, frames[camera.name], rate_hz, seconds)


def watch(
    cameras: Sequence[Camera],
    seconds: float,
    now_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, list[Frame]]:
    """Camera -> its first and last picture within `seconds`, and in between only their times."""
    seen: dict[str, list[Frame]] = {camera.name: [] for camera in cameras}
    begin = now_ns()
    while now_ns() - begin < seconds * 1e9:
        for camera in cameras:
            frame, known = camera.latest(), seen[camera.name]
            if frame is None or (known and known[-1].time_ns == frame.time_ns):
                continue
            if len(known) > 1:
                # Two pictures are enough to compare; a list of all would be gigabytes.
                known[-1] = Frame(known[-1].time_ns, np.empty((0, 0, 3), np.uint8))
            known.append(frame)
        sleep(0.002)
    return seen


def picture_rate(frames: Sequence[Frame]) -> float:
    """Pictures a second, 0 for fewer than two."""
    if len(frames) < 2:
        return 0.0
    return (len(frames) - 1) * 1e9 / (frames[-1].time_ns - frames[0].time_ns)


def _judge(camera: Camera, frames: Sequence[Frame], rate_hz: float, seconds: float) -> Finding:
    subject = f"camera {camera.name}"
    if not frames:
        health = getattr(camera, "health", None)
        reason = health().last_error if health is not None else ""
        advice = reason or "is it plugged in, and may you read it (group video)?"
        return Finding("fail", subject, f"no picture within {_FIRST_PICTURE_S:.0f} s", advice)
    image, rate = frames[-1].image, picture_rate(frames)
    height, width = image.shape[:2]
    text = f"{width} x {height} {camera.spec.color_order}, {rate:.1f} pictures a second"
    if rate < rate_hz:
        advice = "more light, MJPG (fourcc), a smaller capture size, or a lower loop.rate_hz"
        level = "fail" if rate < 0.5 * rate_hz else "warn"
        return Finding(level, subject, text, advice)  # type: ignore[arg-type]
    if image.std() < 2.0:
        advice = "is the lens covered, the light off, or the mask (keep) empty?"
        return Finding("warn", subject, f"{text}; one color only", advice)
    if len(frames) > 2 and np.array_equal(frames[0].image, image):
        advice = f"not one pixel changed in {seconds:.0f} s: is it frozen?"
        return Finding("warn", subject, text, advice)
    return Finding("ok", subject, text)


def check_folder(folder: Path, cameras: int) -> Finding:
    """Whether the log's folder can be made, written, and holds an hour."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".robot-bridge-check"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        advice = "set log.folder to a folder of yours"
        return Finding("fail", "log folder", f"{folder}: {error.strerror}", advice)
    free = shutil.disk_usage(folder).free
    minutes = free / (_MINUTE_BYTES * max(cameras, 1))
    text = f"{folder}: {free / 1e9:.1f} GB free, about {minutes / 60:.0f} hours"
    if minutes < _WANTED_MINUTES:
        return Finding("warn", "log folder", text, "free space: a full disk ends in a hold")
    return Finding("ok", "log folder", text)
