"""`python -m benchmarks.loop`: what the training loop costs, as a dated table in benchmarks/loop.md.

The loop (rates, reductions, NaN guard, log, TensorBoard, progress) against forward, clipped backward and step in a
bare loop: the same batches, from memory, with two models of the same weights. Both take turns step by step, so that
a noisy machine disturbs both alike. What a plan assumes of a CPU (`CPU_SHARE`) is measured here as well.
"""

from __future__ import annotations

import io
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
import tyro
from rich.console import Console

from pipelines import instructions, pretrain
from pipelines.commit import commit
from pipelines.stages import texts
from sketchgen.shapeworld import CLASSES
from sketchlm import estimate
from sketchlm.checkpoint import save
from sketchlm.collator import Batch
from sketchlm.loader import Loader
from sketchlm.loop import Course, hush
from sketchlm.optimizer import build_optimizers, groups_of
from sketchlm.parallel import build_accelerator
from sketchlm.progress import TrainingDisplay
from sketchlm.threads import pin_threads
from sketchlm.training import TrainConfig, build_loader, build_parts

TABLE = Path(__file__).parent / "loop.md"
LIMIT = 1.05


@dataclass(frozen=True)
class Options:
    """What to measure on: stage I of the recipe `tiny`."""

    steps: int = 16
    """Steps of each loop; they alternate."""
    batch_size: int = 16
    """Half of the recipe's: the cost of a loop shows more where steps are short."""


class InMemory:
    """A loader's batches, made beforehand."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        yield from self._batches


@dataclass(frozen=True)
class Times:
    """Seconds of each step, on the clock and of the processor."""

    clock: list[float]
    processor: list[float]


def bare_steps(objective: Any, optimizers: list[Any], batches: list[Batch], clip: float) -> Iterator[None]:
    """Forward, backward, clip, step, and nothing else."""
    trained = [p for p in objective.parameters() if p.requires_grad]
    objective.train()
    for batch in batches:
        found = objective(batch)
        (found.total / found.weight + found.auxiliary).backward()
        torch.nn.utils.clip_grad_norm_(trained, clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        yield


def loop_steps(config: TrainConfig, batches: list[Batch]) -> Iterator[None]:
    """The same in the loop, with its log and tracker and a progress bar on a terminal."""
    accelerator = build_accelerator(config)
    parts = build_parts(config, texts(), CLASSES)
    optimizers = build_optimizers(groups_of(parts.objective, config.optimizer), config.optimizer)
    loader = cast(Loader[Any, Batch], InMemory(batches))
    course = Course(config, accelerator, parts.objective, optimizers, loader)
    terminal = Console(file=io.StringIO(), force_terminal=True)
    with TrainingDisplay(config, parts.objective, accelerator, terminal, 0) as display:
        for step in course.steps(0):
            display.update(step)
            yield


def in_turns(loops: dict[str, Iterator[None]], steps: int) -> dict[str, Times]:
    """Time every loop's steps, one of each after the other; the first of each is left out."""
    times = {name: Times([], []) for name in loops}
    for step in range(steps):
        order = list(loops) if step % 2 else list(reversed(loops))
        for name in order:
            clock, processor = time.perf_counter(), time.process_time()
            next(loops[name])
            if step:
                times[name].clock.append(time.perf_counter() - clock)
                times[name].processor.append(time.process_time() - processor)
    return times


def main() -> None:
    """Measure and write the table."""
    options = tyro.cli(Options, description=__doc__)
    hush()
    pin_threads(1)
    console = Console(highlight=False)
    shards = instructions.ensure("tiny", console)
    base = pretrain.tiny()
    with tempfile.TemporaryDirectory() as folder:
        config = replace(
            base,
            loader=replace(base.loader, shards=shards, batch_size=options.batch_size),
            steps=options.steps + 1,
            threads=1,
            device="cpu",
            log_every=1,
            out=folder,
        )
        parts = build_parts(config, texts(), CLASSES)
        with closing(iter(build_loader(config, parts))) as stream:
            batches = list(islice(stream, options.steps + 1))
        optimizers = build_optimizers(groups_of(parts.objective, config.optimizer), config.optimizer)
        loops = {
            "bare": bare_steps(parts.objective, optimizers, batches, config.optimizer.clip),
            "loop": loop_steps(config, batches),
        }
        times = in_turns(loops, options.steps)
        saving = _seconds(lambda: save(Path(folder), 1, parts.objective, optimizers, {}))
    write(options, times, saving, share_of_product(config, parts.objective, batches, times["bare"]), batches)
    print(TABLE.read_text())


def share_of_product(config: TrainConfig, objective: Any, batches: list[Batch], times: Times) -> float:
    """Operations of a step, as `estimate` counts them, of those that a matrix product would have done meanwhile."""
    tokens = statistics.mean(batch.num_tokens for batch in batches)
    rows = config.loader.batch_size
    operations = estimate.step_flops(objective) * tokens + rows * 2 * 3 * estimate.tower_cost(objective)[0]
    return operations / statistics.median(times.processor) / (estimate.matrix_flops() / torch.get_num_threads())


def write(options: Options, times: dict[str, Times], saving: float, share: float, batches: list[Batch]) -> None:
    """The page."""
    bare, loop = times["bare"], times["loop"]
    rows = [
        ("clock, median of a step, ms", *(f"{1000 * statistics.median(t.clock):.1f}" for t in (bare, loop))),
        ("processor, median of a step, ms", *(f"{1000 * statistics.median(t.processor):.1f}" for t in (bare, loop))),
        ("processor, sum, s", *(f"{sum(t.processor):.2f}" for t in (bare, loop))),
    ]
    ratios = [
        statistics.median(loop.clock) / statistics.median(bare.clock),
        statistics.median(loop.processor) / statistics.median(bare.processor),
        sum(loop.processor) / sum(bare.processor),
    ]
    tokens = statistics.mean(batch.num_tokens for batch in batches)
    lines = [
        "# The training loop",
        "",
        f"`python -m benchmarks.loop` · {date.today()} · commit {commit()} ·",
        f"{platform.machine()}, torch {torch.__version__.split('+')[0]}, one thread, stage I of the "
        f"recipe `tiny` with {options.batch_size} sketches a step ({tokens:,.0f} tokens),",
        f"{options.steps - 1} steps of each loop in turns.",
        "",
        "Against a bare loop of forward, clipped backward and step on the same batches. The side of the loop includes",
        "rates, reductions, the NaN guard, `log.jsonl`, TensorBoard at every step and a progress bar "
        f"(limit of the ratio: {LIMIT:.2f}).",
        "",
        "| | bare | loop | ratio |",
        "|---|---|---|---|",
        *(f"| {name} | {a} | {b} | {ratio:.3f} |" for (name, a, b), ratio in zip(rows, ratios, strict=True)),
        "",
        f"A checkpoint of it (everything is trained) takes {1000 * saving:.0f} ms.",
        "",
        f"Operations of a step, as a plan counts them, are {share:.0%} of what a matrix product would do in the same",
        f"time on one thread; plans assume {estimate.CPU_SHARE:.0%} (`CPU_SHARE`).",
    ]
    TABLE.write_text("\n".join(lines) + "\n")


def _seconds(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
