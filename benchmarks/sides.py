"""Two sides of a comparison, each in a process of its own, measured in turn.

In one process the sides disturb each other: worker threads of one library spin for a while after
their last task, and its freed memory changes where the other's comes from (a training step of ours
took 4.6 s beside PyTorch and 3.0 s alone).
"""

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

PAUSE, ROUND = 0.2, 0.5  # seconds between the sides, and of one side's turn


class Side:
    """A process that builds a call once and then times it on demand.

    `build(*arguments)` returns a call without arguments; it and its arguments must be picklable.
    `first` is what the first call returned, `first_seconds` how long it took, compilation included.
    """

    def __init__(self, build: Callable[..., Callable[[], Any]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, build, arguments), daemon=True)
        self._process.start()
        other.close()
        try:
            self.first, self.first_seconds = self._pipe.recv()
        except EOFError:
            raise SystemExit("a side of the comparison failed; its error is above") from None

    def round(self, seconds: float) -> list[float]:
        """Milliseconds of each call, for at least `seconds` and one call."""
        self._pipe.send(seconds)
        return self._pipe.recv()

    def close(self) -> None:
        """Ends the process."""
        self._pipe.send(None)
        self._process.join()


def _serve(pipe: Any, build: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    call = build(*arguments)
    begin = time.perf_counter()
    first = call()
    pipe.send((first, time.perf_counter() - begin))
    long = False
    while (seconds := pipe.recv()) is not None:
        if not long:
            call()  # the other side emptied the caches
        times: list[float] = []
        begin = time.perf_counter()
        while not times or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
        long = times[-1] > 1e4
        pipe.send(times)


def in_turn(sides: list[Side], seconds: float, turn: float = ROUND) -> list[list[float]]:
    """Milliseconds of the calls of each side, in turns of `turn` s, for about `seconds` in all."""
    found: list[list[float]] = [[] for _ in sides]
    begin = time.perf_counter()
    while not found[0] or time.perf_counter() - begin < seconds:
        for times, side in zip(found, sides, strict=True):
            time.sleep(PAUSE)
            times += side.round(turn)
    return found
