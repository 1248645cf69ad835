"""What a person sees of a training run: the plan before it, rates and losses during it, curves beside it."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sketchlm.estimate import peak_flops, step_flops
from sketchlm.optimizer import Group

if TYPE_CHECKING:
    from sketchlm.loop import Step
    from sketchlm.training import Parts, TrainConfig

LINE_SECONDS = 15.0
"""Without a terminal (a log file, CI) a line this often replaces the live bar."""
LOG = "log.jsonl"


def print_plan(
    config: TrainConfig, parts: Parts, groups: Sequence[Group], samples: int, accelerator: Any, console: Console
) -> None:
    """What the run will do: data, steps, and each parameter group with its size and rate."""
    world = accelerator.num_processes
    where = f"{accelerator.device.type}" + (f" x {world}" if world > 1 else "")
    console.print(
        f"[bold]{config.stage}[/] {escape(config.recipe)}: {config.steps:,} steps on {samples:,} samples "
        f"({', '.join(config.processor.tasks)}), base {escape(config.model.base)}, {where}, to {escape(config.out)}",
        soft_wrap=True,
    )
    table = Table("trained", "optimizer", "values", "rate", "decay", box=None, pad_edge=False)
    for group in groups:
        table.add_row(group.name, group.optimizer, f"{group.size:,}", f"{group.lr:g}", f"{group.weight_decay:g}")
    total = sum(p.numel() for p in parts.objective.parameters())
    trained = sum(group.size for group in groups)
    table.add_row("all", "", f"{trained:,} of {total:,}", "", "")
    console.print(table)


class TrainingDisplay:
    """Progress on the terminal, one JSON line a step in `log.jsonl`, and the trackers."""

    def __init__(self, config: TrainConfig, parts: Parts, accelerator: Any, console: Console, start: int) -> None:
        self._config = config
        self._accelerator = accelerator
        self._console = console
        self._main = accelerator.is_main_process
        self._recent: deque[tuple[float, int, int]] = deque(maxlen=50)
        self._peak = peak_flops(accelerator.device) * accelerator.num_processes
        self._flops_per_token = step_flops(parts.objective)
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps · {task.fields[figures]} · left"),
            TimeRemainingColumn(),
            console=console,
            disable=not (console.is_terminal and self._main),
        )
        self._task = self._bar.add_task(config.stage, total=config.steps, completed=start, figures="starting")
        self._log: Any = None
        self._smooth: float | None = None

    def __enter__(self) -> TrainingDisplay:
        if self._main:
            self._log = (Path(self._config.out) / LOG).open("a", buffering=1)
        if self._config.trackers:
            self._accelerator.init_trackers("tracker")
        self._recent.append((time.perf_counter(), 0, 0))
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._log:
            self._log.close()

    def update(self, step: Step) -> None:
        """Take the figures of one step."""
        _, queries, tokens = self._recent[-1]
        self._recent.append((time.perf_counter(), queries + step.queries, tokens + step.tokens))
        (t0, q0, n0), (t1, q1, n1) = self._recent[0], self._recent[-1]
        elapsed = max(t1 - t0, 1e-9)
        rates = {"queries_s": (q1 - q0) / elapsed, "tokens_s": (n1 - n0) / elapsed}
        if self._peak:
            rates["mfu"] = self._flops_per_token * rates["tokens_s"] / self._peak
        self._smooth = step.loss if self._smooth is None else 0.95 * self._smooth + 0.05 * step.loss
        if not self._main:
            return
        figures = {"loss": step.loss, "tower": step.tower, "norm": step.norm, "rate": step.factor}
        figures |= {f"loss_{task}": value for task, value in step.by_task.items()}
        line = {"step": step.step, **figures, "queries": step.queries, "tokens": step.tokens, **rates}
        self._log.write(json.dumps(line) + "\n")
        if self._config.trackers and step.step % self._config.log_every == 0:
            self._accelerator.log({**figures, **rates}, step=step.step)
        shown = f"loss {self._smooth:.3f} · {rates['queries_s']:.1f} queries/s · {rates['tokens_s']:,.0f} tokens/s"
        if "mfu" in rates:
            shown += f" · MFU {rates['mfu']:.0%}"
        self._bar.update(self._task, completed=step.step + 1, figures=shown)
        if not self._console.is_terminal and time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            left = (self._config.steps - step.step - 1) * elapsed / max(1, len(self._recent) - 1)
            self._console.print(
                f"{self._config.stage} {step.step + 1} of {self._config.steps} steps · {shown} · {left:.0f} s left",
                soft_wrap=True,
            )
