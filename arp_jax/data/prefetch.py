"""Reads batches ahead in one background thread.

Flows in: a `Loader` (or any iterator with a `position`). Flows out: the same batches in the same
order. The position to save is the *consumed* one of the prefetcher, not the loader's, which runs
ahead. Which batches come is decided in `loader.py`.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

# How often a waiting thread looks whether it should end.
_POLL_SECONDS = 0.05


class Positioned(Protocol):
    """An iterator that knows how many batches it delivered."""

    position: int

    def __next__(self) -> Any: ...


class Prefetcher(Iterator[Any]):
    """Iterator over batches that were prepared ahead; a context manager that ends its thread.

    Attributes:
        position: batches consumed so far, counted from the loader's position: what to save.
        waited_s: seconds that the consumer has spent waiting for batches.
    """

    def __init__(
        self, loader: Positioned, depth: int, transform: Callable[[Any], Any] | None
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth must be >= 1, found {depth}")
        self.position = loader.position
        self._loader, self._transform = loader, transform
        # (batch, None), or (None, error) as the last entry.
        self._queue: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self.waited_s = 0.0
        self._first_asked: float | None = None
        self._thread = threading.Thread(target=self._produce, name="prefetch", daemon=True)
        self._thread.start()

    def __next__(self) -> Any:
        """The next batch.

        Raises:
            Exception: whatever the loader or the transform raised, at the batch where it did, and
                again at every later call.
            RuntimeError: after `close`.
        """
        if self._error is not None:
            raise self._error
        if self._stop.is_set():
            raise RuntimeError("the prefetcher is closed")
        asked = time.perf_counter()
        if self._first_asked is None:
            self._first_asked = asked
        batch, self._error = self._queue.get()
        self.waited_s += time.perf_counter() - asked
        if self._error is not None:
            self._thread.join()
            raise self._error
        self.position += 1
        return batch

    @property
    def wait_fraction(self) -> float:
        """Share of the time since the first batch was asked for that went into waiting, 0 .. 1.

        Near 0, reading keeps up with whatever consumes the batches; near 1, it holds that up.
        """
        if self._first_asked is None:
            return 0.0
        return self.waited_s / max(time.perf_counter() - self._first_asked, 1e-9)

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread; batches that were prepared but not consumed are dropped."""
        self._stop.set()
        self._thread.join()

    def _produce(self) -> None:
        try:
            while not self._stop.is_set():
                batch = next(self._loader)
                if self._transform is not None:
                    batch = self._transform(batch)
                self._put((batch, None))
        except BaseException as error:
            self._put((None, error))

    def _put(self, entry: tuple[Any, BaseException | None]) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(entry, timeout=_POLL_SECONDS)
            except queue.Full:
                continue


def prefetch(
    loader: Positioned, depth: int = 2, transform: Callable[[Any], Any] | None = None
) -> Prefetcher:
    """Starts reading ahead.

    Args:
        loader: source; it belongs to the thread until `close`.
        depth: batches that wait ready at most.
        transform: applied to each batch in the thread, e.g. the transfer to the device.

    Returns:
        An iterator with `position` (consumed batches) and `close`.
    """
    return Prefetcher(loader, depth, transform)
