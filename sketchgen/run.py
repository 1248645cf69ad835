"""One run of sketchgen: settings in, shards and report out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import islice

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_manifests.card import card
from sketchgen.config import RunConfig, checked, settings_of
from sketchgen.engine import TaskFailed
from sketchgen.output import completions, fingerprint, write_config
from sketchgen.passes import claimed, listed, make_shards, now, print_failed
from sketchgen.plan import Plan, read_shard_plan, write_plan
from sketchgen.progress import ProgressDisplay
from sketchgen.report import Counts, count, write_report
from sketchgen.segmenters import build_segmenter
from sketchgen.selection import mark_small
from sketchgen.sketchers import build_sketcher
from sketchgen.source import ImageFiles
from sketchgen.sources import read_batches
from sketchgen.storage import Storage
from sketchgen.worker import ShardWorker, past_stuck, pin_threads

CARD = "README.md"


def run(config: RunConfig, console: Console) -> int:
    """Make all shards that are not made yet; returns the number of shards that could not be made.

    Raises ValueError or FileNotFoundError, with the remedy, for settings or a source that cannot work,
    and ValueError for a finished run without a single sketch.
    """
    shown = config.out.rstrip("/")
    config = checked(config)
    if config.dry_run:
        return _dry_run(config, console)
    storage = Storage(config.out)
    settings = settings_of(config, console)
    mark = fingerprint(settings)
    with claimed(
        storage, settings, partial(batches_of, config), config.images_per_shard, console, config.select
    ) as plan:
        write_config(storage, config)
        done = completions(storage, mark)
        todo = [shard for shard in range(plan.shards) if shard not in done]
        _print_plan(plan, len(done), config, console)
        failed: list[TaskFailed] = []
        if todo:
            ImageFiles(config.source).check([image.file for image in islice(read_shard_plan(storage, todo[0]), 20)])
            before = sum(record.written + record.rejected for record in done.values())
            with ProgressDisplay(console, plan.instances, before) as display:
                worker = partial(make_worker, config, mark)
                failed = make_shards(worker, storage, todo, config.engine, display, past_stuck)
        else:
            console.print("Nothing is left to do: every shard is there.")
        counts = count(storage, mark)
        storage.write(CARD, _card(config, counts).encode())
        title = f"Sketches · {config.source.called}"
        report = write_report(storage, title, _facts(config), plan, counts, config.report)
    _print_summary(counts, failed, f"{shown}/{report}", console)
    if counts.written == 0 and not failed:
        raise ValueError(
            f"not one sketch was written ({listed(counts.by_reason)}); the report says why: {shown}/{report}"
        )
    return len(failed)


def batches_of(config: RunConfig, console: Console | None = None) -> Iterator[pa.RecordBatch]:
    """The images of the source as the plan wants them; console: see `settings_of`."""
    for batch in read_batches(config.source, console):
        yield mark_small(batch, config.draw.checks.min_side, config.draw.photo.max_side)


def make_worker(config: RunConfig, mark: str) -> ShardWorker:
    """Called once in each worker process."""
    pin_threads(config.threads)
    return ShardWorker(
        Storage(config.out),
        build_segmenter(config.segmenter),
        build_sketcher(config.sketcher),
        config.draw,
        config.source,
        mark,
        config.report.previews,
        config.overlap,
    )


def _dry_run(config: RunConfig, console: Console) -> int:
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        batches = partial(batches_of, config, console)
        _print_plan(write_plan(batches, config.images_per_shard, storage, config.select), 0, config, console)
    return 0


def _print_plan(plan: Plan, done: int, config: RunConfig, console: Console) -> None:
    left_out = sum(plan.left_out.values())
    name = config.source.called
    console.print(
        f"[bold]{escape(name)}[/]: {plan.images:,} images, {plan.instances:,} instances planned"
        + (f" ({left_out:,} left out: {listed(plan.left_out)})" if left_out else "")
        + f", {plan.shards:,} shards, {done:,} done. "
        f"{config.segmenter.name} -> {config.sketcher.name}, engine {config.engine.name}, to {escape(config.out)}",
        soft_wrap=True,
    )


def _print_summary(counts: Counts, failed: list[TaskFailed], report: str, console: Console) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("written", f"{counts.written:,} sketches in {counts.samples:,} samples")
    table.add_row("rejected", f"{counts.rejected:,}" + (f" ({listed(counts.by_reason)})" if counts.rejected else ""))
    console.print(table)
    console.print(f"report    [bold]{escape(report)}[/]", soft_wrap=True)  # in one piece: paths are to be copied
    print_failed(failed, console)


def _facts(config: RunConfig) -> dict[str, str]:
    return {
        "source": config.source.name,
        "segmenter": config.segmenter.name,
        "sketcher": config.sketcher.name,
        "edges": f"outline {config.draw.edges.outline} px, inner edges from {config.draw.edges.inner:g}",
        "stored photo": f"longest side at most {config.draw.photo.max_side} px",
        "written": now(),
    }


def _card(config: RunConfig, counts: Counts) -> str:
    body = (
        f"{counts.written:,} instance sketches of {counts.images:,} photos, made by sketchgen "
        f"({config.segmenter.name} masks, {config.sketcher.name} strokes, morphological edges).\n\n"
        "Each sample is `{key}.jpg` (the photo), `{key}.sketches.png` (its sketches, 256 x 256 each, top to "
        "bottom) and `{key}.json` (objects, sketches, queries). `NNNNNN.parquet` beside each shard is its "
        "ledger: one row for every planned instance, written or rejected with the reason. Every photo keeps "
        "its own licence, named in its json.\n\n"
        "```python\nimport datasets\n"
        'shards = datasets.load_dataset("path/to/this/folder", split="train", streaming=True)\n```'
    )
    return card(f"Sketches of {config.source.name}", body)
