"""Real cameras through OpenCV: one thread each, the newest picture at hand, never a wait.

In: a source (`camera_devices.py`) and a `CameraSpec`. Out: a `Camera` whose pictures have the
declared size, crop, mask and color order, each with the time of its capture. A camera that is
missing, unplugged or mute is opened again and again with growing pauses; meanwhile its last picture
grows old, which is the watchdog's business. Video files play at their own rate.
"""

import dataclasses
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.specs import CameraSpec
from robot_bridge.cameras.camera_devices import DEVICES, find_source
from robot_bridge.cameras.camera_view import apply_view
from robot_bridge.observations import Frame

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
LINUX = sys.platform == "linux"
FILE_FPS = 30.0  # of pictures in files that do not say
_JOIN_S = 5.0
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Capture:
    """How a device is asked for pictures; None leaves it to the device.

    Attributes:
        source: see `camera_devices.find_source`.
        width, height: of the pictures captured, before crop and scaling.
        fps: rate asked for; of a file, the rate at which it plays.
        fourcc: pixel format, e.g. "MJPG", which USB 2 needs for 640 x 480 of two cameras.
        loop: a file that has ended begins again; else it stays at its last picture.
    """

    source: str
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    fourcc: str | None = None
    loop: bool = False


@dataclasses.dataclass(frozen=True)
class CameraHealth:
    """State of a camera; counts since its construction.

    Attributes:
        connected: the last attempt gave a picture.
        frames: pictures captured.
        opened: times the source was opened; more than one: it was lost.
        fps: pictures a second, over the last ones.
        last_error: the newest trouble in words, "" for none.
    """

    connected: bool = False
    frames: int = 0
    opened: int = 0
    fps: float = 0.0
    last_error: str = ""


def pause_s(failures: int) -> float:
    """Seconds to wait before the next attempt to open, after so many in a row that failed."""
    return float(min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 30), LONGEST_PAUSE_S))


class OpenCvCamera:
    """See `observations.Camera`; captures from its construction on.

    A source that is not there is no error here: it may be plugged in later. `health` says so.

    Args:
        spec: name, size, color order, crop and mask of the pictures that are handed out.
        capture: where they come from.
        now_ns: monotonic clock.
        devices: folder in which the kernel lists video devices.
    """

    def __init__(
        self,
        spec: CameraSpec,
        capture: Capture,
        now_ns: Callable[[], int] = time.monotonic_ns,
        devices: Path = DEVICES,
    ) -> None:
        self.name, self.spec, self.capture = spec.name, spec, capture
        self._now_ns, self._devices = now_ns, devices
        self._frame: Frame | None = None
        self._health = CameraHealth()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera-{spec.name}", daemon=True)
        self._thread.start()

    def latest(self) -> Frame | None:
        """See `Camera`."""
        return self._frame

    def age_s(self) -> float | None:
        """Seconds since the newest picture was captured; None before the first."""
        frame = self._frame
        return None if frame is None else (self._now_ns() - frame.time_ns) / 1e9

    def health(self) -> CameraHealth:
        """State of the camera."""
        return self._health

    def close(self) -> None:
        """See `Camera`; a driver that hangs is left behind in its thread."""
        self._ending.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        failures = 0
        while not self._ending.is_set():
            before = self._health.frames
            try:
                self._capture_until_lost()
                return
            except Exception as error:  # OpenCV's, the device's, a view that does not fit
                failures = 1 if self._health.frames > before else failures + 1
                self._lost(error, failures)
            self._ending.wait(pause_s(failures))

    def _lost(self, error: Exception, failures: int) -> None:
        text = str(error).strip().splitlines()
        message = text[0] if text else type(error).__name__
        if failures == 1 or message != self._health.last_error:
            _log.warning("camera %r: %s; it is tried again", self.name, message)
        self._health = dataclasses.replace(self._health, connected=False, last_error=message)

    def _capture_until_lost(self) -> None:
        """Opens the source and takes pictures; returns when asked to, or at the end of a file."""
        found = find_source(self.capture.source, self._devices)
        # Of a file every picture is wanted, at its own pace; a device keeps the pace itself.
        is_file = isinstance(found, str) and "://" not in found
        device = self._open(found)
        try:
            period_s = 1.0 / self._file_fps(device) if is_file else 0.0
            due_s, taken = time.monotonic(), 0
            while not self._ending.wait(max(0.0, due_s - time.monotonic())):
                if not device.grab():
                    if not is_file or taken == 0:
                        raise ValueError(f"{self.capture.source}: delivers no picture")
                    if not self.capture.loop:
                        self._health = dataclasses.replace(self._health, connected=False)
                        return
                    device.release()
                    device, taken = self._open(found), 0
                    continue
                self._take(device, self._now_ns())
                # Never two in quick succession to make up for a late one.
                due_s, taken = max(due_s + period_s, time.monotonic()), taken + 1
        finally:
            device.release()

    def _open(self, found: str | int) -> Any:
        """An opened cv2.VideoCapture, set as declared; raises ValueError when it does not open."""
        import cv2

        wanted = self.capture
        # OpenCV would say so on the terminal, at every attempt.
        if isinstance(found, int) and LINUX and not Path(f"/dev/video{found}").exists():
            raise ValueError(f"{wanted.source}: there is no /dev/video{found}; is it plugged in?")
        device = cv2.VideoCapture(found)
        if not device.isOpened():
            raise ValueError(f"{wanted.source}: cannot be opened; is it plugged in, or in use?")
        if isinstance(found, int):
            # The pixel format first: it decides which sizes there are.
            if wanted.fourcc is not None:
                device.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted.fourcc))
            settings = (
                (cv2.CAP_PROP_FRAME_WIDTH, wanted.width),
                (cv2.CAP_PROP_FRAME_HEIGHT, wanted.height),
                (cv2.CAP_PROP_FPS, wanted.fps),
                (cv2.CAP_PROP_BUFFERSIZE, 1),  # the newest picture, not a queue of old ones
            )
            for setting, value in settings:
                if value is not None:
                    device.set(setting, value)
        self._health = dataclasses.replace(self._health, opened=self._health.opened + 1)
        return device

    def _file_fps(self, device: Any) -> float:
        import cv2

        told = device.get(cv2.CAP_PROP_FPS)
        return self.capture.fps or (told if 1.0 <= told <= 240.0 else FILE_FPS)

    def _take(self, device: Any, time_ns: int) -> None:
        """Decodes the picture that was grabbed at `time_ns` and makes it the newest."""
        decoded, picture = device.retrieve()
        if not decoded:
            raise ValueError(f"{self.capture.source}: a picture cannot be decoded")
        self._check_size(picture)
        image = apply_view(picture, self.spec)
        if self.spec.color_order == "rgb":
            image = image[..., ::-1]  # OpenCV's order is blue, green, red
        last, health = self._frame, self._health
        fps = health.fps
        if last is not None and time_ns > last.time_ns:
            now = 1e9 / (time_ns - last.time_ns)
            fps = now if fps == 0.0 else 0.9 * fps + 0.1 * now
        self._frame = Frame(time_ns, np.array(image, order="C"))
        self._health = dataclasses.replace(
            health, connected=True, frames=health.frames + 1, fps=fps, last_error=""
        )

    def _check_size(self, picture: np.ndarray) -> None:
        """A crop is only what was declared in a picture of the size that was declared."""
        height, width = picture.shape[:2]
        wanted = (self.capture.width or width, self.capture.height or height)
        if wanted != (width, height):
            raise ValueError(
                f"{self.capture.source}: delivers {width} x {height}, not the {wanted[0]} x "
                f"{wanted[1]} asked for; set a size that the camera has"
            )
