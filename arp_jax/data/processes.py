"""Jobs in worker processes that end with the process that started them.

In: a picklable function and jobs. Out: its results, in the order in which they come. A parent that
is killed takes its workers along, at once, so nobody writes on behind a run that was restarted.
"""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, wait
from typing import Any


def run_jobs(call: Callable[[Any], Any], jobs: Sequence[Any], workers: int) -> Iterator[Any]:
    """Yields call(job) of every job; with one worker in this process and in order.

    Args:
        call: picklable: a function of a module, or a functools.partial of one.
        jobs: picklable arguments.
        workers: processes at most.

    Raises:
        ValueError: a worker was killed from outside.
        Exception: the first error of a job; the other workers are ended, whatever they do.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from map(call, jobs)
        return
    # Forking a process that runs JAX's threads can hang.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, initializer=_end_with_parent, initargs=(theirs,)
    )
    try:
        futures = [pool.submit(call, job) for job in jobs]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()
    except BaseException as error:
        ours.close()  # the workers end, whatever they do
        if isinstance(error, BrokenProcessPool):
            raise ValueError(
                "a worker process was killed (out of memory?); what is finished is kept: "
                "run the same command again, with fewer --workers"
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


def _end_with_parent(alive: Connection) -> None:
    """Ends this process as soon as the other end of the pipe is closed, by whatever cause."""
    # Ctrl-C reaches all processes of a terminal; the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        wait([alive])
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()
