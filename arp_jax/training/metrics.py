"""Numbers of a run: collected without stalling the step, written where people look.

Flows in: scalar metrics that are still being computed on the device. Flows out: lines of
RUN/metrics.jsonl (always, flushed one by one) and, when the config asks, TensorBoard and wandb.
`MetricBuffer` fetches the previous interval while the current one runs, and finds the first step
that is not finite. Not here: the progress line on the screen.
"""

import dataclasses
import importlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

FILE = "metrics.jsonl"


@dataclasses.dataclass(frozen=True)
class MetricsConfig:
    """The `metrics` section.

    Attributes:
        tensorboard: also write TensorBoard events (needs tensorboardX).
        wandb_project: also log to this Weights & Biases project (needs wandb); "" means no.
    """

    tensorboard: bool = False
    wandb_project: str = ""


class NonFiniteMetric(ValueError):
    """A loss or gradient norm is nan or infinite; `step` is the first update where it was."""

    def __init__(self, name: str, value: float, step: int) -> None:
        super().__init__(f"{name} is {value} at step {step}")
        self.step = step


class MetricBuffer:
    """Holds the metrics of recent steps on the device until their interval is over."""

    WATCHED = ("loss", "grad_norm")

    def __init__(self) -> None:
        self._current: list[tuple[int, Mapping[str, jax.Array]]] = []
        self._closed: list[tuple[list[tuple[int, Mapping[str, jax.Array]]], dict[str, float]]] = []

    def add(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Keeps the metrics of the update that made step `step`, without waiting for them."""
        self._current.append((step, metrics))

    def close_interval(self, rates: Mapping[str, float]) -> None:
        """Ends the interval; `rates` (speeds, known at once) are kept with it."""
        if self._current:
            self._closed.append((self._current, dict(rates)))
            self._current = []

    def fetch(self, lag: int) -> Iterator[tuple[int, dict[str, float]]]:
        """Yields (last step, means and rates) of all closed intervals but the newest `lag`.

        With lag 1 the device is a whole interval ahead of what is fetched, so nothing stalls.

        Raises:
            NonFiniteMetric: naming the first bad step.
        """
        while len(self._closed) > lag:
            rows, rates = self._closed.pop(0)
            yield rows[-1][0], _means(rows) | rates


def _means(interval: list[tuple[int, Mapping[str, jax.Array]]]) -> dict[str, float]:
    rows = jax.device_get([metrics for _, metrics in interval])
    for (step, _), row in zip(interval, rows, strict=True):
        for name in MetricBuffer.WATCHED:
            if not np.isfinite(row[name]):
                raise NonFiniteMetric(name, float(row[name]), step)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


class MetricWriter:
    """Writes scalars to RUN/metrics.jsonl and to the optional services; first process only."""

    def __init__(self, run_dir: Path, config: MetricsConfig, resume_step: int = 0) -> None:
        """Opens the writers.

        Args:
            run_dir: the run directory.
            config: which services.
            resume_step: lines after this step are dropped: they belong to the work that was lost
                when the run was interrupted and that is about to be done again.

        Raises:
            ValueError: when a service is asked for and its package is not installed.
        """
        self._services: list[Any] = []
        self._file = None
        if config.tensorboard:
            module = _import("tensorboardX", "config.metrics.tensorboard", "tensorboard")
            self._tensorboard = module
        if config.wandb_project:
            self._wandb = _import("wandb", "config.metrics.wandb_project", "wandb")
        if jax.process_index() != 0:
            return
        path = run_dir / FILE
        kept = [line for line in read_lines(path) if line.get("step", 0) <= resume_step]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")
        if config.tensorboard:
            board = self._tensorboard.SummaryWriter(str(run_dir / "tensorboard"))
            self._services.append(_TensorBoard(board))
        if config.wandb_project:
            run = self._wandb.init(
                project=config.wandb_project, name=run_dir.name, dir=str(run_dir), resume="allow"
            )
            self._services.append(_Wandb(run))

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """One line {"step", "kind", name: value}; kind is "train", "validation", "checkpoint"..."""
        if self._file is None:
            return
        # JSON has no nan: null keeps the file readable by every parser.
        row = {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps({"step": step, "kind": kind, **row}) + "\n")
        self._file.flush()
        for service in self._services:
            service.write(step, kind, values)

    def close(self) -> None:
        """Closes the file and the services."""
        if self._file is not None:
            self._file.close()
        for service in self._services:
            service.close()


class _TensorBoard:
    def __init__(self, board: Any) -> None:
        self._board = board

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._board.close()


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        self._run.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line cut short by a crash is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _import(package: str, key: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"{key} needs the package {package}: pip install 'arp_jax[{extra}]', or unset it"
        ) from error
