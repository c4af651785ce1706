"""Memory of big arrays, used again once nobody holds the array.

In: a shape and a dtype. Out: an uninitialised array, like `numpy.empty`. A batch of camera frames
is tens of megabytes; fresh memory of that size costs the system a pass over all of it, and now and
then a search for free pages, at every batch. An array stays its holder's for as long as it, a view
of it, or a device buffer that shares it lives; then its memory serves the next one. At most
`KEPT` idle pieces are held, so memory stays flat.
"""

import collections
import math
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

KEPT = 2
# Smaller arrays come from the allocator, which keeps pages of its own.
_BIG_BYTES = 1 << 20
# Lets jax on the CPU take arrays over without a copy.
_ALIGNMENT = 64


class BufferPool:
    """Idle memory, newest last; safe to use from several threads."""

    def __init__(self) -> None:
        self._idle: collections.deque[memoryview] = collections.deque(maxlen=KEPT)

    def empty(self, shape: Sequence[int], dtype: DTypeLike = np.uint8) -> np.ndarray:
        """An array with arbitrary content."""
        dtype = np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < _BIG_BYTES:
            return np.empty(shape, dtype)
        memory = self._take(nbytes)
        owner = np.frombuffer(memory, dtype)
        # Views refer to `owner`, not to `memory`: it dies with the last of them.
        weakref.finalize(owner, self._idle.append, memory).atexit = False
        return owner.reshape(shape)

    def _take(self, nbytes: int) -> memoryview:
        while self._idle:
            try:
                memory = self._idle.popleft()
            except IndexError:  # another thread was faster
                break
            if memory.nbytes == nbytes:
                return memory
        block = np.empty(nbytes + _ALIGNMENT, np.uint8)
        start = -block.ctypes.data % _ALIGNMENT
        return block.data[start : start + nbytes]
