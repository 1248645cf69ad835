"""`make bench-sketches`: what the sketch pipeline costs, as a dated table in benchmarks/sketches.md.

Everything is measured in one run on the same photos, so that ratios hold on a noisy machine.
"""

from __future__ import annotations

import math
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
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console

from pipelines.commit import commit
from pipelines.sketches import sample
from sketchgen import engine
from sketchgen.checks import ChecksConfig
from sketchgen.config import RunConfig, checked
from sketchgen.engine import EngineConfig, TaskFailed
from sketchgen.instance import Instance, Mask
from sketchgen.plan import read_plan, write_plan
from sketchgen.report import ReportConfig
from sketchgen.run import batches_of, make_worker
from sketchgen.segmenter import SegmenterConfig
from sketchgen.segmenters import build_segmenter
from sketchgen.segmenters.sam2_common import RELEASES
from sketchgen.sketcher import SketcherConfig
from sketchgen.sketchers import build_sketcher
from sketchgen.sketchers.blank import BlankSketcher
from sketchgen.sketchers.photo_sketching import PhotoSketchingGenerator
from sketchgen.source import SourceConfig
from sketchgen.storage import Storage
from sketchgen.worker import ShardTask, ShardWorker, pin_threads

TABLE = Path(__file__).parent / "sketches.md"
MODELS = ("segment", "sketch")
STAGES = ("read", "segment", "draw", "sketch", "write")
WAYS = {"1": (1, False), "2": (2, False), "overlapped": (1, True)}
"""Workers, and whether their stages overlap."""
TARGET = 33_000_000
"""Instances of the paper's data."""


@dataclass
class Options:
    """What to measure on."""

    annotations: str = ""
    """COCO json; empty = the embedded sample."""
    images: str = ""
    """Folder of its images."""
    rounds: int = 3
    """Repetitions; the table gives the best, which is the least disturbed."""
    heavy: int = 16
    """Images for SAM 2.1 with Photo-Sketching, which take ten seconds each on one core; once."""


@dataclass(frozen=True)
class Setup:
    """A segmenter and a sketcher to measure. null: neither, in place of those that `config` names."""

    name: str
    config: RunConfig
    null: bool = False


@dataclass
class Cost:
    """CPU of one worker, milliseconds an instance (rejected ones count too), and its peak memory."""

    handled: int
    written: int
    cpu: float
    stages: dict[str, float]
    resident_mib: float
    kilobytes: float
    """Of shards, a written instance."""

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


def measure_cost(setup: Setup) -> Cost:
    """One worker over all shards, in a process of its own (call it in one), its stages one after the other."""
    config = setup.config
    pin_threads(1)
    segmenter = EllipseSegmenter() if setup.null else build_segmenter(config.segmenter)
    sketcher = BlankSketcher() if setup.null else build_sketcher(config.sketcher)
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        write_plan(partial(batches_of, config), config.images_per_shard, storage)
        worker = ShardWorker(storage, segmenter, sketcher, config.draw, config.source, "bench", 0, overlap=False)
        seconds: Counter[str] = Counter()
        written = handled = 0
        start = time.process_time()
        for shard in range(read_plan(storage).shards):
            *_, last = worker(ShardTask(shard))
            seconds.update(last.seconds)
            written += last.written
            handled += last.written + sum(last.rejected.values())
        cpu = time.process_time() - start
        size = sum(size for name, size in storage.sizes().items() if name.endswith(".tar"))
    stages = {stage: 1000 * seconds[stage] / handled for stage in STAGES}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(handled, written, 1000 * cpu / handled, stages, peak, size / max(written, 1) / 1000)


def measure_rate(config: RunConfig, workers: int, overlap: bool = False) -> float:
    """Instances a second of a Ray run from the start of its first shard to its last event: start-up is not the work."""
    with tempfile.TemporaryDirectory() as folder:
        # stages overlap from one group of images to the next: a shard of one group would have none
        images = 8 * config.draw.images_per_batch if overlap else config.images_per_shard
        engine_config = EngineConfig("ray", workers)
        config = replace(config, out=folder, engine=engine_config, overlap=overlap, images_per_shard=images)
        storage = Storage(folder)
        write_plan(partial(batches_of, config), config.images_per_shard, storage)
        totals: dict[int, int] = {}
        begin = end = math.inf
        tasks = [ShardTask(shard) for shard in range(read_plan(storage).shards)]
        for event in engine.run(partial(make_worker, config, "bench"), tasks, config.engine):
            if isinstance(event, TaskFailed):
                raise RuntimeError(event.error)
            totals[event.shard] = event.written + sum(event.rejected.values())
            end = time.monotonic()
            begin = min(begin, end - event.elapsed)
    return sum(totals.values()) / (end - begin)


def best_cost(setup: Setup, rounds: int) -> Cost:
    """The cheapest of `rounds` measurements, each in a fresh process."""
    found = []
    for _ in range(rounds):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(measure_cost, setup).result())
    return min(found, key=lambda cost: cost.cpu)


def heavy_setup(config: RunConfig, images: int, folder: Path) -> Setup:
    """The paper's models, the smallest SAM 2.1, at random weights written into `folder`. What random masks draw passes
    all checks, so that every instance is sketched."""
    from sam2.build_sam import build_sam2

    torch.manual_seed(0)
    model = build_sam2(RELEASES["tiny"].config, ckpt_path=None, device="cpu")
    torch.save({"model": model.state_dict()}, folder / "sam2.pt")
    torch.save(PhotoSketchingGenerator().state_dict(), folder / "photo.pth")
    checks = ChecksConfig(min_score=0, min_fill=0, min_agreement=0, min_ink=0, max_ink=1)
    return Setup(
        "sam2 tiny, photo-sketching (random weights)",
        replace(
            config,
            source=replace(config.source, limit=images),
            segmenter=SegmenterConfig("sam2", checkpoint=str(folder / "sam2.pt"), size="tiny"),
            sketcher=SketcherConfig("photo-sketching", checkpoint=str(folder / "photo.pth")),
            draw=replace(config.draw, checks=checks),
        ),
    )


def table(config: RunConfig, costs: dict[str, Cost], rates: dict[str, dict[str, float]]) -> str:
    """The page as Markdown."""
    first = next(iter(costs.values()))
    return f"""# The sketch pipeline

`make bench-sketches ARGS="--annotations FILE --images DIR"` · {date.today()} · commit {commit()} ·
{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()} · source `{config.source.name}`, \
one thread a worker.

Milliseconds an instance in one worker, stages one after the other; the rejected count as instances too. `outside` is
the share of the worker's time outside the two model calls (limit: 15 % with the default models), `CPU` everything
(limit with null models: 5 ms).

| models | instances (written) | CPU |{"".join(f" {stage} |" for stage in STAGES)} outside | peak memory, MiB |
|---|---|---|{"---|" * len(STAGES)}---|---|
{"".join(_cost_row(name, cost) for name, cost in costs.items())}
The share of time in each stage:

| models |{"".join(f" {stage} |" for stage in STAGES)}
|---|{"---|" * len(STAGES)}
{"".join(_share_row(name, cost) for name, cost in costs.items())}
Ray engine, instances/s from the start of the first shard to the end of the last:

| models | 1 worker | 2 workers | ratio (limit: 1.7) | 1 worker whose stages overlap | ratio |
|---|---|---|---|---|---|
{"".join(_rate_row(name, rate) for name, rate in rates.items())}
A worker whose stages overlap (the default, for the sake of GPUs) uses cores that are free; with a worker for each core
there are none.

## 33 million instances

What the paper's data would take from these numbers: core-hours are {TARGET:,} x CPU, days those of 100 such cores, size
that of the shards.

| models | core-hours | days on 100 cores | shards, TB |
|---|---|---|---|
{"".join(_projection_row(name, cost) for name, cost in costs.items())}
Assumed: photos, boxes and rejects as in the source measured ({first.written / first.handled:.0%} of its instances are
written with null models); cores like these; photos read at the speed of this disk; linear scaling, of which 1 to 2
workers is what was measured. A GPU replaces the two model stages, not the others: beside it those cost
{sum(first.stages.values()):.1f} ms an instance, {TARGET * sum(first.stages.values()) / 3.6e6:,.0f} core-hours in all.
Images/s of SAM 2.1 on a GPU: `python -m benchmarks.sam2_gpu`, where one is at hand. Size of the last row: of the few
images that it was measured on, with all their instances drawn, however small.
"""


def _cost_row(name: str, cost: Cost) -> str:
    stages = "".join(f" {cost.stages[stage]:.1f} |" for stage in STAGES)
    count = f"{cost.handled} ({cost.written})"
    return f"| {name} | {count} | {cost.cpu:.1f} |{stages} {cost.outside:.0%} | {cost.resident_mib:.0f} |\n"


def _share_row(name: str, cost: Cost) -> str:
    total = sum(cost.stages.values())
    return f"| {name} |" + "".join(f" {cost.stages[stage] / total:.0%} |" for stage in STAGES) + "\n"


def _rate_row(name: str, rate: dict[str, float]) -> str:
    one, two, overlapped = (rate[way] for way in WAYS)
    last = f"{overlapped:.1f} | {overlapped / one:.2f}" if overlapped else "- | -"
    return f"| {name} | {one:.1f} | {two:.1f} | {two / one:.2f} | {last} |\n"


def _projection_row(name: str, cost: Cost) -> str:
    hours = TARGET * cost.cpu / 3.6e6
    size = TARGET * cost.written / cost.handled * cost.kilobytes / 1e9
    return f"| {name} | {hours:,.0f} | {hours / 100 / 24:.1f} | {size:.1f} |\n"


def main() -> None:
    """Measure, print, and rewrite the page."""
    options = tyro.cli(Options, description=__doc__)
    name = "coco" if options.annotations else "sample"
    source = SourceConfig(name, annotations=options.annotations, images=options.images)
    default = checked(replace(sample(), source=source, images_per_shard=8, report=ReportConfig(previews=0)))
    grabcut = replace(default, segmenter=SegmenterConfig("grabcut"))
    setups = [
        Setup("null segmenter, no sketcher", default, null=True),
        Setup("boxseg, pix2pix (default)", default),
        Setup("grabcut, pix2pix", grabcut),
    ]
    console = Console()
    costs: dict[str, Cost] = {}
    rates: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        heavy = heavy_setup(replace(default, images_per_shard=4), options.heavy, Path(folder))
        for setup in (*setups, heavy):
            with console.status(f"one worker, {setup.name}"):
                costs[setup.name] = best_cost(setup, 1 if setup is heavy else options.rounds)
        for setup in (*setups[1:], heavy):
            best = rates.setdefault(setup.name, dict.fromkeys(WAYS, 0.0))
            for _ in range(options.rounds if setup is setups[1] else 1):
                # the few images of the heavy one are a single group or two
                for way, (workers, overlap) in WAYS.items() if setup is not heavy else list(WAYS.items())[:2]:
                    with console.status(f"Ray, {setup.name}, {way}"):
                        best[way] = max(best[way], measure_rate(setup.config, workers, overlap))
    text = table(default, costs, rates)
    TABLE.write_text(text)
    console.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
