"""One process at a time in a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Waits until no other process holds the folder; the lock ends with its process in any case.

    Args:
        folder: where the lock's file lies.
        name: of that file; processes that may work in the folder side by side use different ones.
    """
    with (folder / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
