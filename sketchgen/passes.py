"""A pass over the shards of a plan: a folder is claimed, and what is missing in it is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.markup import escape

from sketchgen import engine
from sketchgen.engine import EngineConfig, TaskFailed, Worker
from sketchgen.output import append_log, belongs_to, locked, write_settings
from sketchgen.plan import Plan, read_plan, write_plan
from sketchgen.progress import ProgressDisplay
from sketchgen.selection import SelectionConfig
from sketchgen.storage import Storage
from sketchgen.worker import Progress, ShardTask


@contextmanager
def claimed(
    storage: Storage,
    settings: dict[str, Any],
    batches: Callable[[], Iterable[pa.RecordBatch]],
    images_per_shard: int,
    console: Console,
    select: SelectionConfig | None = None,
) -> Iterator[Plan]:
    """The folder, kept from other runs for as long as the block lasts, with a plan in it.

    batches, images_per_shard, select: see `write_plan`.

    Raises ValueError where another run holds the folder, where it was made with other settings, and for
    a source that cannot be read.
    """

    def plan() -> None:
        with console.status("planning"):
            write_plan(batches, images_per_shard, storage, select)

    with claimed_folder(storage, settings, plan):
        yield read_plan(storage)


@contextmanager
def claimed_folder(storage: Storage, settings: dict[str, Any], begin: Callable[[], object]) -> Iterator[None]:
    """The folder, kept from other runs for as long as the block lasts. begin: puts the plan into a new one.

    Raises ValueError where another run holds the folder, and where it was made with other settings.
    """
    with locked(storage):
        storage.prepare()
        if not belongs_to(storage, settings):
            begin()
            write_settings(storage, settings)  # last: a source that cannot be read leaves no claim
        yield
        storage.tidy()


def make_shards(
    make_worker: Callable[[], Worker[ShardTask, Progress]],
    storage: Storage,
    shards: Sequence[int],
    config: EngineConfig,
    display: ProgressDisplay,
    instead: Callable[[ShardTask, Progress | None], ShardTask | None] = lambda task, last: None,
    give_up: Callable[[Sequence[TaskFailed]], bool] = lambda in_a_row: False,
) -> list[TaskFailed]:
    """Make the shards, show how far they are, log the seconds of each; returns those that failed every time.

    instead: see `engine.run`; give_up: whether to stop, from the failures since a shard was last made.
    """
    failed: list[TaskFailed] = []
    in_a_row: list[TaskFailed] = []
    begun = now()
    events = engine.run(make_worker, [ShardTask(shard) for shard in shards], config, instead)
    with closing(events):  # early, where the run is given up: its workers end
        for event in events:
            if isinstance(event, TaskFailed):
                failed.append(event)
                in_a_row.append(event)
                if give_up(in_a_row):
                    break
                continue
            display.update(event)
            if event.done:
                in_a_row = []
                append_log(storage, _log_entry(event, begun, display))
    return failed


def _log_entry(event: Progress, begun: str, display: ProgressDisplay) -> dict[str, Any]:
    return {
        "run": begun,
        "elapsed": round(display.elapsed, 3),
        "shard": event.shard,
        "images": event.images,
        display.unit: event.written + sum(event.rejected.values()),
        "seconds": {stage: round(value, 4) for stage, value in event.seconds.items()},
    }


def print_failed(failed: Sequence[TaskFailed], console: Console) -> None:
    """Name the shards that could not be made, and how to go on."""
    for failure in failed:
        console.print(f"[red]shard {failure.task.shard:06d} failed:[/] {escape(failure.error)}", soft_wrap=True)
    if failed:
        console.print("The other shards are whole; run the same command again to try these once more.")


def listed(counts: dict[str, int]) -> str:
    """`a 1,200, b 7`: most common first."""
    return ", ".join(f"{name} {n:,}" for name, n in Counter(counts).most_common())


def now() -> str:
    """The time of day, UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
