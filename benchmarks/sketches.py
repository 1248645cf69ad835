"""`make bench-sketches`: what the sketch pipeline costs, as a dated table in benchmarks/sketches.md.

Everything is measured in one run on the same photos, so that ratios hold on a noisy machine.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.commit import commit
from pipelines.sketches import sample
from sketchgen import engine
from sketchgen.config import RunConfig, checked
from sketchgen.engine import EngineConfig, TaskFailed
from sketchgen.instance import Instance, Mask
from sketchgen.plan import read_plan, write_plan
from sketchgen.report import ReportConfig
from sketchgen.run import make_worker
from sketchgen.segmenters import build_segmenter
from sketchgen.sketchers import build_sketcher
from sketchgen.sketchers.blank import BlankSketcher
from sketchgen.source import SourceConfig
from sketchgen.sources import read_batches
from sketchgen.storage import Storage
from sketchgen.worker import DrawConfig, ShardTask, ShardWorker, pin_threads

TABLE = Path(__file__).parent / "sketches.md"
MODELS = ("segment", "sketch")
STAGES = ("read", "segment", "draw", "sketch", "write")


@dataclass
class Options:
    """What to measure on."""

    annotations: str = ""
    """COCO json; empty = the embedded sample."""
    images: str = ""
    """Folder of its images."""
    rounds: int = 3
    """Repetitions; the table gives the best, which is the least disturbed."""


@dataclass
class Cost:
    """CPU of one worker, milliseconds an instance (rejected ones count too), and its peak memory."""

    handled: int
    written: int
    cpu: float
    stages: dict[str, float]
    resident_mib: float

    @property
    def outside(self) -> float:
        """Share of the time outside the two model calls."""
        return 1 - sum(self.stages[stage] for stage in MODELS) / sum(self.stages.values())


class EllipseSegmenter:
    """The null segmenter: the ellipse that fits the box."""

    def segment(self, images: Sequence[NDArray[np.uint8]], instances: Sequence[Sequence[Instance]]) -> list[list[Mask]]:
        """See `sketchgen.segmenter.Segmenter`."""
        return [[_ellipse(instance) for instance in group] for group in instances]


def _ellipse(instance: Instance) -> Mask:
    x1, y1, x2, y2 = (int(value) for value in instance.box)
    height, width = max(1, y2 - y1), max(1, x2 - x1)
    rows = (np.arange(height) - height / 2 + 0.5) / (height / 2)
    cols = (np.arange(width) - width / 2 + 0.5) / (width / 2)
    return Mask(x1, y1, rows[:, None] ** 2 + cols[None, :] ** 2 <= 1)


def measure_cost(config: RunConfig, null: bool) -> Cost:
    """One worker over all shards, in a process of its own (call it in one)."""
    pin_threads(1)
    segmenter = EllipseSegmenter() if null else build_segmenter(config.segmenter)
    sketcher = BlankSketcher() if null else build_sketcher(config.sketcher)
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        write_plan(partial(read_batches, config.source), config.images_per_shard, storage)
        worker = ShardWorker(storage, segmenter, sketcher, DrawConfig(), config.source, "bench", previews=0)
        seconds: Counter[str] = Counter()
        written = handled = 0
        start = time.process_time()
        for shard in range(read_plan(storage).shards):
            *_, last = worker(ShardTask(shard))
            seconds.update(last.seconds)
            written += last.written
            handled += last.written + sum(last.rejected.values())
        cpu = time.process_time() - start
    stages = {stage: 1000 * seconds[stage] / handled for stage in STAGES}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(handled, written, 1000 * cpu / handled, stages, peak)


def measure_rate(config: RunConfig, workers: int) -> float:
    """Instances a second of a Ray run between its first and its last event: start-up is not the work."""
    with tempfile.TemporaryDirectory() as folder:
        config = replace(config, out=folder, engine=EngineConfig("ray", workers))
        storage = Storage(folder)
        write_plan(partial(read_batches, config.source), config.images_per_shard, storage)
        totals: dict[int, int] = {}
        times = []
        tasks = [ShardTask(shard) for shard in range(read_plan(storage).shards)]
        for event in engine.run(partial(make_worker, config, "bench"), tasks, config.engine):
            if isinstance(event, TaskFailed):
                raise RuntimeError(event.error)
            totals[event.shard] = event.written + sum(event.rejected.values())
            times.append((time.monotonic(), sum(totals.values())))
    (first, before), (last, after) = times[0], times[-1]
    return (after - before) / (last - first)


def best_cost(config: RunConfig, null: bool, rounds: int) -> Cost:
    """The cheapest of `rounds` measurements, each in a fresh process."""
    found = []
    for _ in range(rounds):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(measure_cost, config, null).result())
    return min(found, key=lambda cost: cost.cpu)


def table(config: RunConfig, nothing: Cost, default: Cost, rates: dict[int, float]) -> str:
    """The page as Markdown."""
    heads = "".join(f" {stage} |" for stage in STAGES)
    rows = "".join(
        f"| {name} | {cost.cpu:.1f} |"
        + "".join(f" {cost.stages[stage]:.1f} |" for stage in STAGES)
        + f" {cost.outside:.0%} | {cost.resident_mib:.0f} |\n"
        for name, cost in (("null segmenter, no sketcher", nothing), ("boxseg, pix2pix (default)", default))
    )
    return f"""# The sketch pipeline

`make bench-sketches ARGS="--annotations FILE --images DIR"` · {date.today()} · commit {commit()} ·
{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()} · \
source `{config.source.name}`, {default.handled} instances ({default.written} written), one thread a worker.

Milliseconds an instance in one worker; the rejected count as instances too. `outside` is the share of
the worker's time outside the two model calls (limit: 15 % with the default models), `CPU` everything
(limit with null models: 5 ms).

| models | CPU |{heads} outside | peak memory, MiB |
|---|---|{"---|" * len(STAGES)}---|---|
{rows}
Ray engine, default models, instances/s between the first and the last event:

| workers | instances/s | ratio (limit for 2: 1.7) |
|---|---|---|
""" + "".join(f"| {n} | {rate:.1f} | {rate / rates[1]:.2f} |\n" for n, rate in rates.items())


def main() -> None:
    """Measure, print, and rewrite the page."""
    options = tyro.cli(Options, description=__doc__)
    name = "coco" if options.annotations else "sample"
    source = SourceConfig(name, annotations=options.annotations, images=options.images)
    config = checked(replace(sample(), source=source, images_per_shard=8, report=ReportConfig(previews=0)))
    console = Console()
    with console.status("one worker, null models"):
        nothing = best_cost(config, True, options.rounds)
    with console.status("one worker, default models"):
        default = best_cost(config, False, options.rounds)
    rates: dict[int, float] = {}
    for _ in range(options.rounds):
        for workers in (1, 2):
            with console.status(f"Ray, {workers} workers"):
                rates[workers] = max(rates.get(workers, 0.0), measure_rate(config, workers))
    text = table(config, nothing, default, rates)
    TABLE.write_text(text)
    console.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
