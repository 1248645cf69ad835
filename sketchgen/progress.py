"""What a person sees while shards are made: rates, rejects by reason, time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from sketchgen.worker import Progress

LINE_SECONDS = 15.0
"""Without a terminal (a log file, CI) a line this often replaces the live bar."""

Totals = tuple[int, int, Counter[str]]


class ProgressDisplay:
    """Adds up the progress of all shards and shows it; use as a context manager."""

    def __init__(
        self,
        console: Console,
        total: int,
        done: int,
        unit: Literal["instances", "queries", "descriptions"] = "instances",
    ) -> None:
        """total: what is planned; done: how much of it was finished before this run.

        unit: what is made. Both count instances; or images, where queries are made or answered: how many
        nobody knows before an image is seen.
        """
        self.unit = unit
        self._counted = "instances" if unit == "instances" else "images"
        self._console = console
        self._total = total
        self._before = done
        self._finished: Totals = (0, 0, Counter())
        self._begun: dict[int, Progress] = {}
        self._start: float | None = None
        self._last_line = time.monotonic()
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(self._counted + " · {task.fields[rates]} · left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rejects]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
        )
        self._refused = "fell back" if unit == "descriptions" else "rejected"
        labels = {"instances": "sketches", "queries": "instructions", "descriptions": "descriptions"}
        self._task = self._bar.add_task(labels[unit], total=total, completed=done, rates="starting workers", rejects="")

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, event: Progress) -> None:
        """Take the newest totals of one shard."""
        if self._start is None:  # rates count from the first worker's start, not from Ray's
            self._start = time.monotonic() - event.elapsed
        if event.done:
            self._begun.pop(event.shard, None)
            self._finished = _sum([self._finished, _totals(event)])
        else:
            self._begun[event.shard] = event
        images, written, rejected = self.totals()
        made = written + sum(rejected.values())
        handled = made if self.unit == "instances" else images
        elapsed = self.elapsed
        rates = f"{images / elapsed:.1f} images/s, {made / elapsed:.1f} {self.unit}/s"
        rejects = f"{self._refused} {sum(rejected.values())}"
        if rejected:
            rejects += ": " + ", ".join(f"{reason} {count}" for reason, count in rejected.most_common(4))
        self._bar.update(self._task, completed=self._before + handled, rates=rates, rejects=rejects)
        if not self._console.is_terminal and time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            left = (self._total - self._before - handled) / max(handled / elapsed, 1e-9)
            self._console.print(
                f"{self._before + handled} of {self._total} {self._counted} · {rates} · {left:.0f} s left · {rejects}",
                soft_wrap=True,
            )

    def totals(self) -> Totals:
        """(images, instances or queries written, rejects by reason) of this run so far."""
        return _sum([self._finished, *map(_totals, self._begun.values())])

    @property
    def elapsed(self) -> float:
        """Seconds since the first worker of this run began."""
        return 0.0 if self._start is None else time.monotonic() - self._start


def _totals(event: Progress) -> Totals:
    return event.images, event.written, Counter(event.rejected)


def _sum(totals: Iterable[Totals]) -> Totals:
    images, written, rejected = zip(*totals, strict=True)
    return sum(images), sum(written), sum(rejected, Counter())
