"""The engine: schedules shard workers, on Ray or in this process. The only file that imports ray.

A worker is a plain callable: a task in, a stream of events out. The engine knows nothing else of it,
so it runs any pass over shards. Only tasks and events cross the object store.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Task = TypeVar("Task")
Event = TypeVar("Event")
LOG = logging.getLogger(__name__)
PATIENCE = 60.0
"""Seconds without a single worker after which the run says what it waits for."""
WORKER_ENV = {"MALLOC_ARENA_MAX": "2"}
"""Of worker processes. With a heap for each thread, which is glibc's way, photos that threads hand to each other make
holes in all of them: memory grows by a third over 100,000 instances (benchmarks/memory.md)."""
Worker = Callable[[Task], Iterator[Event]]


@dataclass(frozen=True)
class EngineConfig:
    """Where workers run. None of this changes a byte of the output."""

    name: Literal["ray", "local"] = "ray"
    """ray (a cluster at RAY_ADDRESS, else this machine) or local (one worker in this process)."""
    workers: int = 0
    """Workers at once, at most; 0 = one for each GPU, else one for each CPU of the machine or cluster."""
    min_workers: int = 0
    """So many must find room at once: they share CPUs or GPUs if need be. The others start when nodes join; 0 = all."""
    retries: int = 2
    """How often a shard whose worker died, failed or got stuck is tried again."""
    deadline: float = 900.0
    """Seconds without news of a shard after which its worker is killed and the shard tried elsewhere; Ray only."""

    @property
    def least(self) -> dict[str, tuple[float, float]]:
        """Value and minimum of each number, by name."""
        return {
            "engine.workers": (self.workers, 0),
            "engine.min_workers": (self.min_workers, 0),
            "engine.retries": (self.retries, 0),
            "engine.deadline": (self.deadline, 1),
        }


@dataclass(frozen=True)
class TaskFailed:
    """A task that failed every time; the others go on."""

    task: Any
    error: str


def run(
    make_worker: Callable[[], Worker[Task, Event]],
    tasks: Sequence[Task],
    config: EngineConfig,
    instead: Callable[[Task, Event | None], Task | None] = lambda task, last: None,
) -> Generator[Event | TaskFailed, None, None]:
    """Run every task, yield the events of all workers as they come, and `TaskFailed` for lost tasks.

    make_worker is called once in each worker; it must be picklable for the Ray engine, and so must
    tasks and events. A failed, killed or stuck task starts anew on another worker (or the same, restarted).
    instead: what to try in place of a task that got stuck every time, from the last event it gave; None = nothing.
    What make_worker raises is raised here.
    """
    if not tasks:
        return
    if config.name == "local":
        yield from _run_local(make_worker, tasks, config)
    else:
        yield from _run_ray(make_worker, tasks, config, instead)


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
    make_worker: Callable[[], Worker[Task, Event]],
    tasks: Sequence[Task],
    config: EngineConfig,
    instead: Callable[[Task, Event | None], Task | None],
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
        least = min(config.min_workers or count, count)
        need = {"num_gpus": _share(gpus, least), "num_cpus": 0} if gpus else {"num_cpus": _share(cpus, least)}
        actor = ray.remote(max_restarts=-1, runtime_env={"env_vars": WORKER_ENV}, **need)(_Actor)
        actors = [actor.remote(make_worker) for _ in range(count)]
        yield from _Schedule(actors, deque(tasks), config, instead).events()
    finally:
        if started:
            ray.shutdown()


def _share(total: int, count: int) -> float:
    """What each of `count` workers may ask of `total` units so that all find room: 1, 1/2, 1/3, ...

    Other fractions leave a rest on every unit that nobody fits in.
    """
    return math.floor(10_000 / math.ceil(count / total)) / 10_000


@dataclass
class _Job:
    """A task on a worker. news: when it last gave an event, seconds of the monotonic clock."""

    actor: Any
    task: Any
    news: float
    last: Any = None
    stuck: bool = False


class _Schedule:
    """Keeps every actor that could be made busy with one task, and hands on the events of all as they come."""

    def __init__(
        self, actors: Sequence[Any], waiting: deque[Any], config: EngineConfig, instead: Callable[[Any, Any], Any]
    ) -> None:
        self._config = config
        self._instead = instead
        self._waiting = waiting
        self._starting = {actor.ready.remote(): actor for actor in actors}
        self._running: dict[Any, _Job] = {}
        self._idle: deque[Any] = deque()
        self._broken: list[Exception] = []
        self._tries: dict[Any, int] = {}

    def events(self) -> Iterator[Any]:
        """All of them, `TaskFailed` included, until every task is done or lost."""
        import ray

        patience = min(PATIENCE, self._config.deadline / 2)
        while self._waiting or self._running:
            while self._waiting and self._idle:
                actor, task = self._idle.popleft(), self._waiting.popleft()
                self._running[actor.run.remote(task)] = _Job(actor, task, time.monotonic())
            ready, _ = ray.wait([*self._running, *self._starting], num_returns=1, timeout=patience)
            self._kill_stuck()
            if not ready:
                self._say_silence(patience)
            elif ready[0] in self._starting:
                self._welcome(ready[0])
            else:
                yield from self._advance(ready[0])

    def _advance(self, generator: Any) -> Iterator[Any]:
        """The next event of a job, or its end."""
        import ray

        job = self._running[generator]
        try:
            event = ray.get(next(generator))
        except StopIteration:
            del self._running[generator]
            self._idle.append(job.actor)
        except ray.exceptions.RayError as failure:
            del self._running[generator]
            # a dead actor is restarted by Ray: ask when it is there
            self._starting[job.actor.ready.remote()] = job.actor
            yield from self._again(job, failure)
        else:
            job.last, job.news = event, time.monotonic()
            yield event

    def _again(self, job: _Job, failure: Any) -> Iterator[TaskFailed]:
        """Put the task of a job that failed back, or another in its place, or give up."""
        self._tries[job.task] = self._tries.get(job.task, 0) + 1
        if self._tries[job.task] <= self._config.retries:
            self._waiting.append(job.task)
            return
        other = self._instead(job.task, job.last) if job.stuck else None
        if other is not None:
            self._tries[other] = self._config.retries  # what is stuck there is known: no need to be stuck again
            self._waiting.append(other)
            return
        cause = getattr(failure, "cause", None) or failure
        text = f"no news for {self._config.deadline:g} s" if job.stuck else f"{type(cause).__name__}: {cause}"
        yield TaskFailed(job.task, text)

    def _kill_stuck(self) -> None:
        import ray

        for job in self._running.values():
            if not job.stuck and time.monotonic() - job.news > self._config.deadline:
                job.stuck = True
                LOG.warning("no news of %s for %.0f s: its worker is killed", job.task, self._config.deadline)
                ray.kill(job.actor, no_restart=False)

    def _welcome(self, reference: Any) -> None:
        """A worker is ready, or could not be made. Raises where none could."""
        import ray

        actor = self._starting.pop(reference)
        error = _error_of(reference)
        if isinstance(error, ray.exceptions.ActorUnavailableError):  # it is being restarted: ask again
            time.sleep(1)
            self._starting[actor.ready.remote()] = actor
            return
        if error is None:
            self._idle.append(actor)
        else:
            self._broken.append(error)
        if not (self._idle or self._running or self._starting):
            raise self._broken[-1]
        while self._broken and (self._idle or self._running):
            LOG.warning("a worker could not be made and is left out: %s", self._broken.pop())

    def _say_silence(self, patience: float) -> None:
        if not self._running:
            LOG.warning("waiting for room in the Ray cluster: no worker could start for %.0f s", patience)
            return
        if waited_for := [job for job in self._running.values() if not job.stuck]:
            oldest = min(waited_for, key=lambda job: job.news)
            LOG.warning(
                "no news of %s for %.0f s (%d under way); its worker is killed at %g s (--engine.deadline)",
                oldest.task, time.monotonic() - oldest.news, len(self._running), self._config.deadline,
            )  # fmt: skip


def _error_of(reference: Any) -> Exception | None:
    """What an actor's `ready` raised, as the worker raised it."""
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    except ray.exceptions.ActorUnavailableError as error:
        return error
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
