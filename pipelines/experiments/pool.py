"""Jobs in processes of their own, some at once; when the run is stopped none is begun, and none is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
LOOK = 1.0
"""Seconds between looks of a worker for the process that began it."""


def side_by_side(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, after: Mapping[int, int] | None = None
) -> Iterator[tuple[Job, Result]]:
    """Each job with its result, in the order in which they are done. work, jobs and results must be picklable.

    after: places of jobs that are begun when another is done, with its place, which is before theirs.

    Raises what a job raises, at once; ValueError where a process died; KeyboardInterrupt also for SIGTERM. Those under
    way end by themselves (training saves first), those that wait are not begun.
    """
    if not jobs:
        return
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    count = min(workers, len(jobs))
    pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_follow, initargs=(os.getpid(),))
    try:
        with terminated_as_interrupted():
            after = after or {}
            under_way = {pool.submit(_run, work, job): place for place, job in enumerate(jobs) if place not in after}
            while under_way:
                for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                    place, result = under_way.pop(done), done.result()
                    ready = (other for other, first in after.items() if first == place)
                    under_way |= {pool.submit(_run, work, jobs[other]): other for other in ready}
                    yield jobs[place], result
    except BrokenProcessPool:
        raise ValueError(
            f"one of {count} processes died, of too little memory perhaps: run the same command again, with --workers 1"
        ) from None
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM is as Ctrl-C is, in the main thread; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


_parent = 0
"""In a worker: the process that began it."""
_stopped = False
"""In a worker: whether it was asked to stop. What waits in its queue by then cannot be called back."""


def _run(work: Callable[[Job], Result], job: Job) -> Result:
    """In a worker: a job, unless one before it was stopped."""
    global _stopped
    if _stopped:
        raise KeyboardInterrupt
    try:
        return work(job)
    except KeyboardInterrupt:
        _stopped = True
        raise
    finally:
        if os.getppid() != _parent:  # nobody takes the result, and the worker would wait for its next job for ever
            signal.raise_signal(signal.SIGTERM)


def _follow(parent: int) -> None:
    """In a worker: end as on SIGTERM when the process that began it is gone, however it went."""
    global _parent
    _parent = parent

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()
