"""Work beside the training: samples decoded by worker processes, batches made ready by a thread.

Both keep the order of what they are given, so that nothing depends on their number.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, Generic, TypeVar, cast

Task = TypeVar("Task")
Result = TypeVar("Result")

SAMPLES_AHEAD = 8
"""Samples that each worker has been given, or has finished, before they are asked for."""
POLL_SECONDS = 0.1


class _Pickled:
    """A function as the data set that torch's DataLoader wants. Results travel as bytes: what cannot is an
    error here, not a queue that waits for ever; and no tensor takes shared memory and file handles.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __getitem__(self, task: Any) -> bytes:
        return pickle.dumps(self._function(task), pickle.HIGHEST_PROTOCOL)


class Workers(Generic[Result]):
    """Results of an endless stream of tasks in their order, from processes of one thread each.

    The processes start at once, by the caller's thread; close it after use.
    """

    def __init__(self, function: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> None:
        import torch
        from torch.utils.data import DataLoader

        loader = DataLoader(
            cast(Any, _Pickled(function)),
            batch_size=None,
            sampler=tasks,
            num_workers=workers,
            prefetch_factor=SAMPLES_AHEAD,
            collate_fn=cast(Any, _as_it_is),
            worker_init_fn=_prepare_worker,
            # a fork is there in milliseconds, where a new interpreter takes seconds to import torch
            multiprocessing_context="fork" if sys.platform == "linux" else None,
            generator=torch.Generator(),  # the global one would advance by a step, and a resumed run differ
        )
        self._results: Iterator[bytes] | None = iter(loader)

    def __iter__(self) -> Workers[Result]:
        return self

    def __next__(self) -> Result:
        """The next result; raises RuntimeError if a worker died."""
        assert self._results is not None, "the workers are closed"
        try:
            return cast(Result, pickle.loads(next(self._results)))
        except RuntimeError as error:
            raise RuntimeError(
                f"a worker of the loader died (too little memory? fewer workers need less): {error}"
            ) from None

    def close(self) -> None:
        """End the processes. DataLoader would end them with its last reference, which an error may hold, and
        takes 5 seconds for each if only the garbage collector finds it.
        """
        end = getattr(self._results, "_shutdown_workers", None)
        self._results = None
        if end is not None:
            end()


def _as_it_is(result: bytes) -> bytes:
    return result


def _prepare_worker(worker: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # else each of them warns that it was forked
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_obey_parent, daemon=True).start()


def _obey_parent() -> None:
    """End when the main process says so. A signal that reaches the whole job is for that one alone: it may
    save first, and would stop at the error of a worker that is gone.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        continue
    os._exit(1)


def in_thread(items: Iterator[Result], ahead: int) -> Generator[Result, None, None]:
    """The same items, up to `ahead` of them made ready by a thread; its errors are raised here, in their turn."""
    ready: Queue[tuple[Result | None, BaseException | None]] = Queue(ahead)
    stop = Event()

    def put(item: Result | None, error: BaseException | None = None) -> None:
        while not stop.is_set():
            try:
                ready.put((item, error), timeout=POLL_SECONDS)
                return
            except Full:
                continue

    def run() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            raise AssertionError("a stream without end has ended")
        except BaseException as error:
            put(None, error)

    thread = Thread(target=run, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            yield cast(Result, item)
    finally:
        stop.set()
        thread.join()


def portable(error: Exception) -> Exception:
    """The error as it can cross to another process, with its traceback as a note."""
    trace = "".join(traceback.format_exception(error))
    try:
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(f"in a worker of the loader:\n{trace}")
    return cast(Exception, copy)
