"""What a person sees of a training run: the plan before it, rates and losses during it, curves beside it."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sketchlm.estimate import Estimate, peak_flops, step_flops
from sketchlm.optimizer import Group

if TYPE_CHECKING:
    from sketchlm.loop import Step
    from sketchlm.training import TrainConfig

LINE_SECONDS = 15.0
"""Without a terminal (a log file, CI) a line this often replaces the live bar."""
NARROW = 110
"""Columns of a terminal below which the bar and some figures are left out."""
RATE_STEPS = 50
"""Steps over which rates are means."""
LOG = "log.jsonl"


def print_plan(
    config: TrainConfig,
    groups: Sequence[Group],
    total: int,
    cost: Estimate,
    where: str,
    samples: int,
    console: Console,
) -> None:
    """What the run will do, and what it will cost. total: values of the model; where: devices, in words; samples: in
    its shards, -1 where there are none yet."""
    taught = "what patches and sketches show" if config.stage == "tower" else ", ".join(config.processor.tasks)
    stock = "no shards there yet, their length assumed" if samples < 0 else f"{samples:,} samples"
    console.print(
        f"[bold]{config.stage}[/] {escape(config.recipe)}: {taught} from {escape(config.loader.shards)} ({stock}), "
        f"base {escape(config.model.base)}, on {where}, to {escape(config.out)}",
        soft_wrap=True,
    )
    table = Table("trained", "optimizer", "values", "rate", "decay", box=None, pad_edge=False)
    for group in groups:
        table.add_row(group.name, group.optimizer, f"{group.size:,}", f"{group.lr:g}", f"{group.weight_decay:g}")
    table.add_row("all", "", f"{sum(group.size for group in groups):,} of {total:,}", "", "")
    console.print(table)
    memory = cost.memory
    console.print(
        f"{config.steps:,} steps of {cost.items:,} sketches ({config.steps * cost.items:,} in all), some "
        f"{cost.row.tokens:,} tokens each, questions included: {cost.tokens:,} tokens a step\n"
        f"operations: about {cost.size.flops / 1e9:,.1f} GFLOP a sketch, by {cost.size.parameters:,} parameters\n"
        f"memory: about {_bytes(memory.total)} a process (weights {_bytes(memory.weights)}, gradients and moments "
        f"{_bytes(memory.training)}, activations {_bytes(memory.activations)})\n"
        f"time: about {duration(3600 * cost.hours)}, {cost.speed:,.0f} tokens/s, at {cost.assumed}",
        soft_wrap=True,
    )


def cut_log(path: Path, step: int) -> None:
    """Drop the lines of steps from `step` on: a run that goes on from a checkpoint makes them again."""
    if not path.is_file():
        return
    kept = [line for line in path.read_text().splitlines() if _step_of(line) < step]
    begun = path.with_name(f".tmp-{path.name}")
    begun.write_text("".join(f"{line}\n" for line in kept))
    os.replace(begun, path)


def _step_of(line: str) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the line that a killed run was writing
        return float("inf")


class TrainingDisplay:
    """Progress on the terminal, one JSON line a step in `log.jsonl`, and the trackers; use as a context manager."""

    def __init__(self, config: TrainConfig, objective: Any, accelerator: Any, console: Console, start: int) -> None:
        self._config = config
        self._accelerator = accelerator
        self._console = console
        self._main = accelerator.is_main_process
        self._start = start
        self._recent: deque[tuple[float, int, int]] = deque(maxlen=RATE_STEPS)
        self._peak = peak_flops(accelerator.device) * accelerator.num_processes
        self._flops_per_token = step_flops(objective)
        self._began = self._last_line = time.monotonic()
        self._narrow = console.width < NARROW
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            *([] if self._narrow else [BarColumn()]),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]} · left"),
            TimeRemainingColumn(),
            console=console,
            disable=not (console.is_terminal and self._main),
        )
        self._task = self._bar.add_task(config.stage, total=config.steps, completed=start, figures="starting")
        self._path = Path(config.out) / LOG
        self._log: Any = None
        self._smooth: float | None = None

    def __enter__(self) -> TrainingDisplay:
        if self._main:
            cut_log(self._path, self._start)
            self._log = self._path.open("a", buffering=1)
            if self._start:
                self._console.print(f"goes on after step {self._start:,} of {self._config.steps:,}")
        if self._config.trackers:
            again = {"purge_step": self._start} if self._start else {}  # curves go on where the run does
            self._accelerator.init_trackers("tracker", init_kwargs={"tensorboard": again})
        self._recent.append((time.perf_counter(), 0, 0))
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        with suppress(OSError):  # a full disk has been told of, closing tries to write once more
            if self._log:
                self._log.close()
            for tracker in self._accelerator.trackers:
                tracker.finish()
        if self._main and self._smooth is not None and kind is None:
            seconds = time.monotonic() - self._began
            self._console.print(
                f"{self._config.stage} done: {self._config.steps - self._start:,} steps in {duration(seconds)}, "
                f"loss {self._smooth:.3f} at the end"
            )

    def update(self, step: Step) -> None:
        """Take the figures of one step.

        Raises ValueError where the log cannot be written (a full disk).
        """
        _, queries, tokens = self._recent[-1]
        self._recent.append((time.perf_counter(), queries + step.queries, tokens + step.tokens))
        if not self._main:
            return
        (t0, q0, n0), (t1, q1, n1) = self._recent[0], self._recent[-1]
        elapsed = max(t1 - t0, 1e-9)
        rates = {"queries_s": (q1 - q0) / elapsed, "tokens_s": (n1 - n0) / elapsed}
        if self._peak:
            rates["mfu"] = self._flops_per_token * rates["tokens_s"] / self._peak
        figures = {"loss": step.loss, "auxiliary": step.auxiliary, "norm": step.norm, "rate": step.factor}
        figures |= {"contrastive": step.contrastive} if self._config.loss.contrastive > 0 else {}
        figures |= {f"loss_{task}": value for task, value in step.by_task.items()}
        self._record(step, figures, rates)
        self._smooth = step.loss if self._smooth is None else 0.95 * self._smooth + 0.05 * step.loss
        self._show(step, rates, elapsed)

    def _record(self, step: Step, figures: dict[str, float], rates: dict[str, float]) -> None:
        line = {"step": step.step, **figures, "queries": step.queries, "tokens": step.tokens, **rates}
        try:
            self._log.write(json.dumps(line) + "\n")
            if self._config.trackers and step.step % self._config.log_every == 0:
                self._accelerator.log({**figures, **rates}, step=step.step)
        except OSError as error:
            raise ValueError(
                f"cannot write {self._path} or its tracker: {error.strerror}; make room there, then run the same "
                "command: it goes on from the last checkpoint"
            ) from None

    def _show(self, step: Step, rates: dict[str, float], elapsed: float) -> None:
        shown = [
            f"loss {self._smooth:.3f}",
            f"{rates['queries_s']:.1f} queries/s",
            f"{rates['tokens_s']:,.0f} tokens/s",
        ]
        shown += [f"MFU {rates['mfu']:.0%}"] if "mfu" in rates else []
        fits = [shown[0], shown[-1]] if self._narrow else ["steps", *shown]
        self._bar.update(self._task, completed=step.step + 1, figures=" · ".join(fits))
        if not self._console.is_terminal and time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            left = (self._config.steps - step.step - 1) * elapsed / (len(self._recent) - 1)
            self._console.print(
                f"{self._config.stage} {step.step + 1} of {self._config.steps} steps · {' · '.join(shown)} · "
                f"{duration(left)} left",
                soft_wrap=True,
            )


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """In the unit that suits: `40 s`, `2.9 minutes`."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
