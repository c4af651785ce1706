"""Pictures of recorded episodes, drawn by MuJoCo in several processes.

In: a model, items such as episodes, and a function that draws what it wants of one item. Out: the
function's results, in the order of the items. Rendering comes after simulating, so that failures
cost none; a process holds one OpenGL context for each size of picture. What becomes of the pictures
(bytes, a file) is the function's choice: only its result travels between processes.
"""

import contextlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import mujoco
import numpy as np

from arp_jax.sim.render import OffscreenRenderer
from arp_jax.sim.task import Start
from arp_jax.specs import CameraSpec

# (qpos [nq], camera, start) -> uint8 [h, w, 3].
Draw = Callable[[np.ndarray, CameraSpec, Start], np.ndarray]
Item = TypeVar("Item")
Result = TypeVar("Result")

# The model that a process draws; sent once, not with every item.
_MODEL: mujoco.MjModel | None = None


class RenderPool:
    """Processes that draw; a context manager.

    Args:
        model: of the task.
        workers: processes; 0 for one a core, 1 for none besides this one.
    """

    def __init__(self, model: mujoco.MjModel, workers: int = 0) -> None:
        self._workers = workers or os.cpu_count() or 1
        self._model, self._pool = model, None
        if self._workers > 1:
            # A forked child must not use the parent's OpenGL context or its XLA threads.
            self._pool = ProcessPoolExecutor(
                self._workers, multiprocessing.get_context("spawn"), _keep_model, (model,)
            )

    def __enter__(self) -> "RenderPool":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, work: Callable[[Draw, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yields `work(draw, item)` for each item in order, computed in the processes.

        Only a few items are taken ahead, so `items` may be endless or costly.

        Args:
            work: a function at the top level of a module, or a `functools.partial` of one.
            items: what it is called with; must be picklable.

        Raises:
            RuntimeError: a process died; errors of `work` pass as they are.
        """
        if self._pool is None:
            for item in items:
                yield _work(self._model, work, item)
            return
        waiting: deque[Future] = deque()
        for item in items:
            waiting.append(self._pool.submit(_work_in_process, work, item))
            if len(waiting) > self._workers + 1:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(job: Future) -> Any:
    try:
        return job.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a rendering process died (out of memory, or OpenGL crashed); use fewer --threads"
        ) from error


def _keep_model(model: mujoco.MjModel) -> None:
    global _MODEL
    _MODEL = model


def _work_in_process(work: Callable[[Draw, Item], Result], item: Item) -> Result:
    assert _MODEL is not None  # the pool's initializer has run
    return _work(_MODEL, work, item)


def _work(model: mujoco.MjModel, work: Callable[[Draw, Item], Result], item: Item) -> Result:
    with contextlib.ExitStack() as stack:
        renderers: dict[tuple[int, int], OffscreenRenderer] = {}

        def draw(qpos: np.ndarray, camera: CameraSpec, start: Start) -> np.ndarray:
            size = (camera.height, camera.width)
            if size not in renderers:
                renderers[size] = stack.enter_context(OffscreenRenderer(model, *size))
            return np.asarray(renderers[size].render(qpos, camera.name, start=start))

        return work(draw, item)
