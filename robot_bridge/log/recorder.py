"""Writes each run's episode log in a thread of its own; the control loop never waits for a disk.

In: the beginning of an episode, its steps with raw pictures, markers, its end. Out: one `.arplog`
per episode. No step is dropped: what cannot be written stays queued and is tried again, and
`trouble` tells the loop to hold before it commands anything more. So the queue grows by at most one
step beyond its limit.
"""

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import simplejpeg

from robot_bridge.log.episode_log import MARKERS, SUFFIX, EpisodeLogWriter, Header, Step
from robot_bridge.loop.status import RecorderStatus
from robot_bridge.observations import Frame

_LOG = logging.getLogger(__name__)
_QUALITY = 92
_STEP_BYTES = 2048  # of a step without pictures, roughly, as Python objects
_MARKER_BYTES = 512
_RETRY_S = 0.5
_ENDING_PATIENCE_S = 10.0


@dataclasses.dataclass(frozen=True)
class _Item:
    """One thing to write: exactly one of the first four is not None."""

    header: Header | None = None
    step: Step | None = None
    marker: tuple[str, str] | None = None
    end: str | None = None
    path: Path | None = None
    frames: Mapping[str, Frame] = dataclasses.field(default_factory=dict)
    size: int = 0


class Log(Protocol):
    """What the loop asks of a recorder; see `Recorder`."""

    def begin(self, header: Header) -> Path | None: ...

    def step(self, step: Step, frames: Mapping[str, Frame]) -> None: ...

    def marker(self, name: str, text: str = "") -> None: ...

    def end(self, reason: str) -> None: ...

    def trouble(self) -> str: ...

    def status(self) -> RecorderStatus: ...

    def close(self) -> int: ...


class Unrecorded:
    """A recorder of nothing, for runs without a log folder."""

    def begin(self, header: Header) -> None:
        """Nothing is written."""

    def step(self, step: Step, frames: Mapping[str, Frame]) -> None:
        """Nothing is written."""

    def marker(self, name: str, text: str = "") -> None:
        """Nothing is written."""

    def end(self, reason: str) -> None:
        """Nothing is written."""

    def trouble(self) -> str:
        """There is none."""
        return ""

    def status(self) -> RecorderStatus:
        """No path, no steps."""
        return RecorderStatus()

    def close(self) -> int:
        """Nothing is lost."""
        return 0


class Recorder:
    """Writes episode logs; its methods return at once and are for one thread (the loop's).

    Args:
        folder: for the logs; made if absent.
        queue_bytes: of steps not yet written; above it there is trouble.
    """

    def __init__(self, folder: Path, queue_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._limit = folder, queue_bytes
        self._queue: deque[_Item] = deque()
        self._change = threading.Condition()
        self._queued = self._steps = self._lost = self._episodes = 0
        self._recording, self._closing = False, False
        self._path = ""
        self._failure = ""  # of the newest attempt to write
        self._broken = ""  # this episode can no longer be whole
        self._last_times: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="bridge-recorder", daemon=True)
        self._thread.start()

    def begin(self, header: Header) -> Path:
        """A new episode; returns the path that it will have."""
        if self._recording:
            raise ValueError("an episode is running; end it first")
        path = self._new_path()
        self._recording, self._steps, self._path = True, 0, str(path)
        self._last_times = {}
        self._put(_Item(header=header, path=path))
        return path

    def step(self, step: Step, frames: Mapping[str, Frame]) -> None:
        """Takes over a step; its pictures are `frames`, not its own. Keep both unchanged."""
        if not self._recording:
            raise ValueError("no episode is running")
        # A picture that was queued before is shared: it takes no memory again.
        new = {k: f for k, f in frames.items() if self._last_times.get(k) != f.time_ns}
        self._last_times |= {name: frame.time_ns for name, frame in new.items()}
        size = _STEP_BYTES + sum(frame.image.nbytes for frame in new.values())
        self._steps += 1
        self._put(_Item(step=step, frames=dict(frames), size=size))

    def marker(self, name: str, text: str = "") -> None:
        """Marks the present moment of the episode; `name` is of `episode_log.MARKERS`."""
        if name not in MARKERS:
            raise ValueError(f"marker {name!r} is unknown; use one of {MARKERS}")
        # A flood of notes must not fill the memory while the disk is away; all else counts.
        if self._recording and (name != "note" or self._queued <= 2 * self._limit):
            self._put(_Item(marker=(name, text), size=_MARKER_BYTES + len(text)))

    def end(self, reason: str) -> None:
        """The episode is over; does nothing when none runs."""
        if self._recording:
            self._recording = False
            self._put(_Item(end=reason))

    def trouble(self) -> str:
        """Why nothing more may be commanded now, "" for none."""
        # Without the lock: the thread that keeps the clock waits for nobody, and one look suffices.
        if self._queued > self._limit:
            return self._failure or (
                f"the log's disk is too slow: {self._queued / 1e6:.0f} MB are waiting, "
                f"the limit is {self._limit / 1e6:.0f} MB"
            )
        return self._failure or self._broken

    def status(self) -> RecorderStatus:
        """State now."""
        return RecorderStatus(
            path=self._path,
            recording=self._recording,
            steps=self._steps,
            queued_bytes=self._queued,
            trouble=self.trouble(),
            lost_steps=self._lost,
            episodes=self._episodes,
        )

    def flush(self, timeout_s: float) -> bool:
        """Waits until all is written; False if it is not by then. Not for the loop's thread."""
        with self._change:
            return self._change.wait_for(lambda: not self._queue, timeout_s)

    def close(self) -> int:
        """Writes what is queued, within seconds, and stops; returns the number of lost steps."""
        self.end("the bridge was closed")
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join()
        return self._lost

    def _new_path(self) -> Path:
        stem = time.strftime("%Y%m%d-%H%M%S")
        taken = {item.path for item in list(self._queue)}
        for number in range(1, 1000):
            path = self._folder / f"{stem}-{number:03d}{SUFFIX}"
            if path not in taken and not path.exists():
                return path
        raise ValueError(f"{self._folder}: a thousand logs of this second exist")

    def _put(self, item: _Item) -> None:
        with self._change:
            if self._closing:
                raise ValueError("the recorder is closed")
            self._queue.append(item)
            self._queued += item.size
            self._change.notify_all()

    def _run(self) -> None:
        """The thread: writes items in order; the first one leaves the queue when it is written."""
        files = _LogFiles()
        give_up_ns = 0
        while True:
            with self._change:
                self._change.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    break
                item = self._queue[0]
                if self._closing and give_up_ns == 0:
                    give_up_ns = time.monotonic_ns() + round(_ENDING_PATIENCE_S * 1e9)
            failure = self._attempt(files, item)
            if failure and give_up_ns and time.monotonic_ns() > give_up_ns:
                self._give_up(failure)
                break
            if failure:
                self._wait_for_another_try(failure)
            else:
                self._done(item)
        files.close()

    def _attempt(self, files: "_LogFiles", item: _Item) -> str:
        """Returns why it must be tried again, "" when the item is done with."""
        try:
            files.write(item)
        except OSError as error:
            return f"the log cannot be written: {error.strerror or error} ({self._path})"
        except Exception as error:  # a step that no attempt can write must not end the thread
            _LOG.exception("log: an item cannot be written")
            self._broken = f"the log is not whole: {type(error).__name__}: {error}"
            self._lost += item.step is not None
        return ""

    def _wait_for_another_try(self, failure: str) -> None:
        if not self._failure:
            _LOG.error("%s; trying again", failure)
        with self._change:
            self._failure = failure
            self._change.wait_for(lambda: self._closing, _RETRY_S)
        if self._closing:
            time.sleep(0.05)

    def _done(self, item: _Item) -> None:
        with self._change:
            self._queue.popleft()
            self._queued -= item.size
            self._failure = ""
            if item.end is not None:
                self._broken = ""
                self._episodes += 1
            self._change.notify_all()

    def _give_up(self, failure: str) -> None:
        with self._change:
            lost = sum(item.step is not None for item in self._queue)
            self._lost += lost
            self._queue.clear()
            self._queued = 0
            self._change.notify_all()
        _LOG.error("%s; %d steps are lost", failure, lost)


class _LogFiles:
    """The file that is open now, and the pictures already encoded; for the recorder's thread."""

    def __init__(self) -> None:
        self._writer: EpisodeLogWriter | None = None
        self._encoded: dict[str, tuple[int, bytes]] = {}

    def write(self, item: _Item) -> None:
        """Writes one item; OSError: it can be tried again."""
        if item.header is not None and item.path is not None:
            self._encoded = {}
            self._writer = EpisodeLogWriter(item.path, item.header)
            return
        if self._writer is None:
            raise ValueError("the episode's file could not be made")
        if item.step is not None:
            self._writer.step(self._with_pictures(item.step, item.frames, self._writer.header))
        elif item.marker is not None:
            self._writer.marker(*item.marker)
        elif item.end is not None:
            self._writer.close(item.end)
            self._writer = None

    def close(self) -> None:
        """Drops the file; a log without an end says that its writer did not finish."""
        self._writer = None

    def _with_pictures(self, step: Step, frames: Mapping[str, Frame], header: Header) -> Step:
        orders = {camera.name: camera.color_order for camera in header.observation.cameras}
        pictures = {}
        for name, frame in frames.items():
            time_ns, picture = self._encoded.get(name, (-1, b""))
            if time_ns != frame.time_ns:
                image = np.ascontiguousarray(frame.image)
                picture = simplejpeg.encode_jpeg(image, _QUALITY, orders[name].upper())
                self._encoded[name] = (frame.time_ns, picture)
            pictures[name] = picture
        times = {name: frame.time_ns for name, frame in frames.items()}
        return dataclasses.replace(step, frames=pictures, frame_times_ns=times)
