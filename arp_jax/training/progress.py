"""The clock and the one line that a person watches: speed, waiting, loss, time left.

Flows in: the times at which the loop waits for data, evaluates, saves. Flows out: rates of each
interval (for the metrics file) and a tqdm line, or, when nobody watches (a log file), one plain
line per interval. Not here: losses are computed elsewhere, this only prints them.
"""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping

from tqdm import tqdm


class Progress:
    """Times intervals of training and shows them."""

    def __init__(self, start: int, total: int, batch_size: int, visible: bool = True) -> None:
        """Shows steps `start`..`total`; `visible` is False on all processes but the first."""
        self._total, self._batch_size, self._visible = total, batch_size, visible
        self._bar = tqdm(
            total=total,
            initial=start,
            unit="step",
            bar_format="{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} {postfix}",
            disable=not visible or not sys.stderr.isatty(),
        )
        self._loss = "-"
        self._begin(start)

    def _begin(self, step: int) -> None:
        self._step, self._started = step, time.perf_counter()
        self._waited = self._paused = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time inside counts as waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Time inside counts for nothing: evaluation and saving are reported on their own."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    def advance(self) -> None:
        """One step was issued."""
        self._bar.update()

    def interval(self, step: int) -> dict[str, float]:
        """Ends an interval at `step`; returns steps/s, examples/s and the data-wait share."""
        elapsed = max(time.perf_counter() - self._started - self._paused, 1e-9)
        rate = (step - self._step) / elapsed
        rates = {
            "steps_per_s": rate,
            "examples_per_s": rate * self._batch_size,
            "data_wait_share": self._waited / elapsed,
        }
        self._begin(step)
        return rates

    def show(self, step: int, rates: Mapping[str, float], loss: float | None) -> None:
        """Updates the line: rates of the newest interval, loss of the newest one fetched."""
        # Losses are fetched one interval late; until then the line keeps the last one.
        self._loss = self._loss if loss is None else f"{loss:.4f}"
        left = (self._total - step) / max(rates["steps_per_s"], 1e-9)
        text = (
            f"{rates['steps_per_s']:.1f} steps/s {rates['examples_per_s']:.0f} examples/s "
            f"data wait {rates['data_wait_share']:.0%} "
            f"loss {self._loss} ETA {format_seconds(left)}"
        )
        if not self._bar.disable:
            self._bar.set_postfix_str(text)
        elif self._visible:
            print(f"step {step}/{self._total} {text}", flush=True)

    def say(self, text: str) -> None:
        """Prints a line without breaking the progress line."""
        if self._visible:
            self._bar.write(text) if not self._bar.disable else print(text, flush=True)

    def close(self) -> None:
        """Leaves the last line standing."""
        self._bar.close()


def format_seconds(seconds: float) -> str:
    """12 -> "12s", 200 -> "3m20s", 7300 -> "2h01m"."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
