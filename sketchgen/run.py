"""One run of sketchgen: settings in, shards and report out."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_manifests.card import card
from data_manifests.schema import SCHEMA_VERSION
from sketchgen import engine
from sketchgen.engine import EngineConfig, TaskFailed
from sketchgen.output import append_log, check_settings, completions, fingerprint, locked, write_settings
from sketchgen.plan import Plan, read_plan, write_plan
from sketchgen.progress import ProgressDisplay
from sketchgen.report import Counts, ReportConfig, count, write_report
from sketchgen.segmenter import SegmenterConfig, build_segmenter, segmenter_weights
from sketchgen.sketcher import SketcherConfig, build_sketcher, sketcher_weights
from sketchgen.source import SourceConfig, read_source, source_fingerprint
from sketchgen.storage import Storage
from sketchgen.worker import DrawConfig, ShardWorker, pin_threads

CARD = "README.md"


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run of sketchgen needs."""

    source: SourceConfig = field(default_factory=SourceConfig)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    sketcher: SketcherConfig = field(default_factory=SketcherConfig)
    draw: DrawConfig = field(default_factory=DrawConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    images_per_shard: int = 256
    """Images a shard: the unit of work, and of what a kill can cost."""
    threads: int = 1
    """Threads of a worker's models; fixed, so that reruns are identical."""
    out: str = "out/sketches"
    """Output folder, a local path or fsspec URL."""
    dry_run: bool = False
    """Print the plan and stop."""


def settings_of(config: RunConfig) -> dict[str, Any]:
    """The settings that decide the bytes of the output; paths and the engine are not among them."""
    segmenter = asdict(config.segmenter) | {"checkpoint": segmenter_weights(config.segmenter)}
    sketcher = asdict(config.sketcher) | {"checkpoint": sketcher_weights(config.sketcher)}
    for part in (segmenter, sketcher):
        del part["device"]
    return {
        "schema": SCHEMA_VERSION,
        "source": {
            "name": config.source.name,
            "limit": config.source.limit,
            "annotations": source_fingerprint(config.source),
        },
        "segmenter": segmenter,
        "sketcher": sketcher,
        "draw": asdict(config.draw),
        "images_per_shard": config.images_per_shard,
        "threads": config.threads,
    }


def run(config: RunConfig, console: Console) -> int:
    """Make all shards that are not made yet; returns the number of shards that could not be made.

    Raises ValueError or FileNotFoundError, with the remedy, for settings or a source that cannot work.
    """
    if config.dry_run:
        return _dry_run(config, console)
    storage = Storage(config.out)
    settings = settings_of(config)
    mark = fingerprint(settings)
    with locked(storage):
        storage.prepare()
        if not check_settings(storage, settings):
            with console.status("reading the source"):
                write_plan(read_source(config.source), config.images_per_shard, storage)
            write_settings(storage, settings)  # last: a source that cannot be read leaves no claim
        plan = read_plan(storage)
        done = completions(storage, mark)
        todo = [shard for shard in range(plan.shards) if shard not in done]
        _print_plan(plan, len(done), config, console)
        failed: list[TaskFailed] = []
        if todo:
            before = sum(record.written + record.rejected for record in done.values())
            with ProgressDisplay(console, plan.instances, before) as display:
                failed = _make_shards(config, storage, mark, todo, display)
                append_log(storage, {"event": "run", "seconds": display.elapsed, "time": _now()})
        else:
            console.print("Nothing is left to do: every shard is there.")
        counts = count(storage, mark)
        storage.write(CARD, _card(config, counts).encode())
        report = write_report(storage, f"Sketches · {config.source.name}", _facts(config), plan, counts, config.report)
    _print_summary(counts, failed, f"{config.out.rstrip('/')}/{report}", console)
    return len(failed)


def _make_shards(
    config: RunConfig, storage: Storage, mark: str, todo: list[int], display: ProgressDisplay
) -> list[TaskFailed]:
    worker = partial(make_worker, config, mark)
    failed = []
    for event in engine.run(worker, todo, config.engine):
        if isinstance(event, TaskFailed):
            failed.append(event)
            continue
        display.update(event)
        if event.done:
            append_log(
                storage,
                {
                    "event": "shard",
                    "shard": event.shard,
                    "images": event.images,
                    "instances": event.written + sum(event.rejected.values()),
                    "seconds": {stage: round(value, 4) for stage, value in event.seconds.items()},
                    "time": _now(),
                },
            )
    return failed


def make_worker(config: RunConfig, mark: str) -> ShardWorker:
    """Called once in each worker process."""
    pin_threads(config.threads)
    return ShardWorker(
        Storage(config.out),
        build_segmenter(config.segmenter),
        build_sketcher(config.sketcher),
        config.draw,
        config.source.name,
        mark,
        config.report.previews,
    )


def _dry_run(config: RunConfig, console: Console) -> int:
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        write_plan(read_source(config.source), config.images_per_shard, storage)
        _print_plan(read_plan(storage), 0, config, console)
    return 0


def _print_plan(plan: Plan, done: int, config: RunConfig, console: Console) -> None:
    left_out = sum(plan.left_out.values())
    console.print(
        f"[bold]{config.source.name}[/]: {plan.images:,} images, {plan.instances:,} instances planned"
        + (f" ({left_out:,} left out: {_listed(plan.left_out)})" if left_out else "")
        + f", {plan.shards:,} shards, {done:,} done. "
        f"{config.segmenter.name} -> {config.sketcher.name}, engine {config.engine.name}, to {config.out}",
        soft_wrap=True,
    )


def _print_summary(counts: Counts, failed: list[TaskFailed], report: str, console: Console) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("written", f"{counts.written:,} sketches in {counts.samples:,} samples")
    table.add_row("rejected", f"{counts.rejected:,}" + (f" ({_listed(counts.by_reason)})" if counts.rejected else ""))
    table.add_row("report", f"[bold]{report}[/]")
    console.print(table)
    for failure in failed:
        console.print(f"[red]shard {failure.task:06d} failed:[/] {escape(failure.error)}", soft_wrap=True)
    if failed:
        console.print("The other shards are whole; run the same command again to try these once more.")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in Counter(counts).most_common())


def _facts(config: RunConfig) -> dict[str, str]:
    return {
        "source": config.source.name,
        "segmenter": config.segmenter.name,
        "sketcher": config.sketcher.name,
        "edges": f"outline {config.draw.edges.outline} px, inner edges from {config.draw.edges.inner:g}",
        "stored photo": f"longest side at most {config.draw.photo.max_side} px",
        "written": _now(),
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
