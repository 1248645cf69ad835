"""The engine: schedules shard workers, on Ray or in this process. The only file that imports ray.

A worker is a plain callable: a task in, a stream of events out. The engine knows nothing else of it,
so it runs any pass over shards. Only tasks and events cross the object store.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Task = TypeVar("Task")
Event = TypeVar("Event")
LOG = logging.getLogger(__name__)
PATIENCE = 60.0
"""Seconds without a single worker after which the run says what it waits for."""
Worker = Callable[[Task], Iterator[Event]]


@dataclass(frozen=True)
class EngineConfig:
    """Where workers run. None of this changes a byte of the output."""

    name: Literal["ray", "local"] = "ray"
    """ray (a cluster at RAY_ADDRESS, else this machine) or local (one worker in this process)."""
    workers: int = 0
    """Workers at once; 0 = one for each GPU, else one for each CPU of the machine or cluster."""
    retries: int = 2
    """How often a shard whose worker died or failed is tried again."""


@dataclass(frozen=True)
class TaskFailed:
    """A task that failed every time; the others go on."""

    task: Any
    error: str


def run(
    make_worker: Callable[[], Worker[Task, Event]], tasks: Sequence[Task], config: EngineConfig
) -> Iterator[Event | TaskFailed]:
    """Run every task, yield the events of all workers as they come, and `TaskFailed` for lost tasks.

    make_worker is called once in each worker; it must be picklable for the Ray engine, and so must
    tasks and events. A failed or killed task starts anew on another worker (or the same, restarted).
    What make_worker raises is raised here.
    """
    if not tasks:
        return
    yield from (_run_local if config.name == "local" else _run_ray)(make_worker, tasks, config)


def _run_local(
    make_worker: Callable[[], Worker[Task, Event]], tasks: Sequence[Task], config: EngineConfig
) -> Iterator[Event | TaskFailed]:
    worker = make_worker()
    for task in tasks:
        for attempt in range(config.retries + 1):
            try:
                yield from worker(task)
                break
            except Exception as error:  # any bug in one shard: the others go on, the run says so
                if attempt == config.retries:
                    yield TaskFailed(task, f"{type(error).__name__}: {error}")


def _run_ray(
    make_worker: Callable[[], Worker[Task, Event]], tasks: Sequence[Task], config: EngineConfig
) -> Iterator[Event | TaskFailed]:
    import ray

    started = not ray.is_initialized()
    if started:
        init_ray()
    try:
        cluster = ray.cluster_resources()
        cpus, gpus = int(cluster.get("CPU", 1)), int(cluster.get("GPU", 0))
        count = min(config.workers or gpus or cpus, len(tasks))
        # more workers than the cluster has room for share it: one that can never start would hang the run
        need = {"num_gpus": _share(gpus, count), "num_cpus": 0} if gpus else {"num_cpus": _share(cpus, count)}
        actor = ray.remote(max_restarts=-1, **need)(_Actor)
        yield from _schedule([actor.remote(make_worker) for _ in range(count)], deque(tasks), config.retries)
    finally:
        if started:
            ray.shutdown()


def _share(total: int, count: int) -> float:
    """What each of `count` workers may ask of `total` units so that all find room: 1, 1/2, 1/3, ...

    Other fractions leave a rest on every unit that nobody fits in.
    """
    return math.floor(10_000 / math.ceil(count / total)) / 10_000


def _schedule(actors: list[Any], waiting: deque[Any], retries: int) -> Iterator[Any]:
    """Keep every actor that could be made busy with one task, and hand on the events of all as they come."""
    import ray

    starting = {actor.ready.remote(): actor for actor in actors}
    running: dict[Any, tuple[Any, Any]] = {}
    idle: deque[Any] = deque()
    broken: list[Exception] = []
    tries: dict[Any, int] = {}
    while waiting or running:
        while waiting and idle:
            actor, task = idle.popleft(), waiting.popleft()
            running[actor.run.remote(task)] = (actor, task)
        ready, _ = ray.wait([*running, *starting], num_returns=1, timeout=None if running else PATIENCE)
        if not ready:
            LOG.warning("waiting for room in the Ray cluster: no worker could start for %.0f s", PATIENCE)
            continue
        if ready[0] in starting:
            actor = starting.pop(ready[0])
            error = _error_of(ready[0])
            if error is None:
                idle.append(actor)
            else:
                broken.append(error)
            if not (idle or running or starting):
                raise broken[-1]
            while broken and (idle or running):
                LOG.warning("a worker could not be made and is left out: %s", broken.pop())
            continue
        actor, task = running[ready[0]]
        try:
            yield ray.get(next(ready[0]))
        except StopIteration:
            del running[ready[0]]
            idle.append(actor)
        except ray.exceptions.RayError as failure:
            del running[ready[0]]
            starting[actor.ready.remote()] = actor  # a dead actor is restarted by Ray: ask when it is there
            tries[task] = tries.get(task, 0) + 1
            if tries[task] <= retries:
                waiting.append(task)
            else:
                cause = getattr(failure, "cause", None) or failure
                yield TaskFailed(task, f"{type(cause).__name__}: {cause}")


def _error_of(reference: Any) -> Exception | None:
    """What an actor's `ready` raised, as the worker raised it."""
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    except ray.exceptions.RayError as error:
        return RuntimeError(f"a Ray worker died while it was started: {error}")
    return None


class _Actor:
    """What lives in a Ray worker process."""

    def __init__(self, make_worker: Callable[[], Worker[Any, Any]]) -> None:
        self._error: Exception | None = None
        try:
            self._worker = make_worker()
        except Exception as error:  # raised from here it would reach the driver as text inside Ray's own
            self._error = error

    def ready(self) -> None:
        if self._error is not None:
            raise self._error

    def run(self, task: Any) -> Iterator[Any]:
        yield from self._worker(task)


def init_ray() -> None:
    """Start Ray on this machine, or join the cluster at RAY_ADDRESS; quiet, no dashboard, no telemetry."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_LOG_LEVEL": "ERROR", "RAY_DEDUP_LOGS": "1"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not os.environ.get("RAY_ADDRESS"):
        # on this machine only: loopback, and a small object store, since nothing big goes through it
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": 256 * 1024**2,
            "_node_ip_address": "127.0.0.1",
        }
    ray.init(**options)
