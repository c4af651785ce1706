"""A camera that does not exist: pictures of the digital twin, as the twin stands.

In: a `TwinRobot`, a `CameraSpec`, and which of the twin's views it gets (top, front, wrist). Out: a
`Camera` whose thread draws at a steady rate; `latest` never blocks. Drawing that cannot begin (no
OpenGL) is an error at once, not a camera without pictures.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from arp_jax.specs import CameraSpec
from robot_bridge.observations import Frame
from robot_bridge.twin.twin_robot import TwinRobot

if TYPE_CHECKING:
    from robot_bridge.twin.twin_renderer import TwinRenderer

# Looking for OpenGL starts a process or two, on a busy computer.
_START_S = 60.0
_JOIN_S = 5.0
_log = logging.getLogger(__name__)


class SyntheticCamera:
    """See `observations.Camera`; draws from its construction on.

    Args:
        twin: whom it looks at.
        spec: name, size, color order, crop, mask.
        view: the twin's camera; None: the one of the same name.
        rate_hz: at most so many pictures a second.
        now_ns: monotonic clock.

    Raises:
        ValueError: the twin has no such camera, or the view does not fit.
        RuntimeError: no OpenGL; says what to install.
    """

    def __init__(
        self,
        twin: TwinRobot,
        spec: CameraSpec,
        view: str | None = None,
        rate_hz: float = 30.0,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name, self.spec = spec.name, spec
        self._twin, self._period_s, self._now_ns = twin, 1.0 / rate_hz, now_ns
        self._views = {} if view is None else {spec.name: view}
        self._frame: Frame | None = None
        self._trouble: Exception | None = None
        self._begun, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._draw, name=f"camera-{spec.name}", daemon=True)
        self._thread.start()
        if not self._begun.wait(_START_S):
            self.close()
            raise RuntimeError(f"camera {spec.name!r}: no first picture within {_START_S:.0f} s")
        if self._trouble is not None:
            self.close()
            raise self._trouble

    def latest(self) -> Frame | None:
        """See `Camera`."""
        return self._frame

    def close(self) -> None:
        """See `Camera`."""
        self._ending.set()
        self._thread.join(_JOIN_S)

    def _draw(self) -> None:
        try:
            # Here and not in the constructor: OpenGL belongs to the thread that draws.
            from robot_bridge.twin.twin_renderer import TwinRenderer

            with TwinRenderer(self._twin.model, [self.spec], self._views) as renderer:
                self._take(renderer)
                self._begun.set()
                while not self._ending.wait(self._period_s):
                    self._take(renderer)
        except Exception as error:
            # Before the first picture the constructor raises it; later its age says that it ended.
            self._trouble = error
            if self._begun.is_set():
                _log.exception("camera %r ended", self.name)
        finally:
            self._begun.set()

    def _take(self, renderer: "TwinRenderer") -> None:
        time_ns = self._now_ns()
        self._frame = Frame(time_ns, renderer.render(self._twin.positions(), self.spec))
