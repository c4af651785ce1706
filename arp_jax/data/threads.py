"""Work that is shared out over the cores by threads: decoding pictures, copying records.

In: a function and the parts of its work. Out: nothing; the parts write into arrays of the caller.
It pays only where the work itself lets other threads run. Whole jobs that do not are for
`processes.py`.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Threads:
    """One thread a core, started when there is work for several and ended by `close`."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def run(self, call: Callable[[Any], None], parts: Sequence[Any]) -> None:
        """call(part) of every part, all of them ended on return; raises the first error."""
        if len(parts) <= 1:
            for part in parts:
                call(part)
            return
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(available_cores(), "read-pack")
            tasks = [self._pool.submit(call, part) for part in parts]
        errors = [error for task in tasks if (error := task.exception()) is not None]
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Ends the threads."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None
