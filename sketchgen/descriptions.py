"""One run that describes: finished shards of questions in, the same shards with descriptions of models out."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_manifests.card import card
from data_manifests.schema import SCHEMA_VERSION, Completion
from sketchgen.captioner import (
    CaptionerConfig,
    captioner_name,
    captioner_settings,
    check_captioner,
    least_of,
)
from sketchgen.captioners import build_captioner, check_reach
from sketchgen.config import absolute, check_least
from sketchgen.description import DescribeConfig, Description, check_describe
from sketchgen.description_worker import REFINER, DescriptionWorker, Role
from sketchgen.engine import EngineConfig, TaskFailed
from sketchgen.finished import instruction_settings
from sketchgen.output import PLAN, completions, fingerprint, shard_name
from sketchgen.passes import claimed_folder, listed, make_shards, print_failed
from sketchgen.plan import read_plan
from sketchgen.progress import ProgressDisplay
from sketchgen.run import CARD
from sketchgen.storage import Storage
from sketchgen.tasks.query import TEMPLATE
from sketchgen.worker import pin_threads

GIVE_UP = 3
"""Shards that lose their models one after another until the run stops: each has been tried several times."""


@dataclass(frozen=True)
class DescriptionsConfig:
    """Everything that a run needs."""

    shards: str = "out/instructions/tiny"
    """Folder of `make instructions`, a local path or fsspec URL. Its finished shards are described; when it holds
    more, the same command goes on."""
    captioner: CaptionerConfig = field(default_factory=CaptionerConfig)
    """Sees the photo, and writes the description."""
    refiner: CaptionerConfig = field(default_factory=CaptionerConfig)
    """Reads that, and writes it better; none where its `model` is empty."""
    describe: DescribeConfig = field(default_factory=DescribeConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    samples_per_batch: int = 16
    """Samples whose questions go to a model together, an image has about four; fixed, so that reruns are identical."""
    threads: int = 1
    """Threads of a worker's models; fixed, so that reruns are identical."""
    out: str = "out/describe"
    """Output folder, a local path or fsspec URL."""
    dry_run: bool = False
    """Print the plan and stop."""


@dataclass(frozen=True)
class DescriptionCounts:
    """Totals over all finished shards."""

    samples: int
    by_source: dict[str, int]
    """Questions for a description by who answered them, `template` among them."""
    by_fallback: dict[str, int]
    """Answers of models that were not taken, by reason; reasons of the refiner begin with `refiner-`."""
    other_names: dict[str, int]
    """What was named instead of the object (`wrong-class`), as the ledger has it."""

    @property
    def asked(self) -> int:
        """All questions for a description."""
        return sum(self.by_source.values())

    @property
    def described(self) -> int:
        """Those that a model answered."""
        return self.asked - self.by_source.get(TEMPLATE, 0)


def run_descriptions(config: DescriptionsConfig, console: Console) -> int:
    """Describe all finished shards that are not described yet; returns how many shards could not be.

    Raises ValueError or FileNotFoundError, with the remedy, for settings, shards or models that cannot work, and
    ValueError for a finished run without a single description of a model.
    """
    config = checked(config)
    source, storage = Storage(config.shards), Storage(config.out)
    finished = finished_shards(source, console)
    settings = settings_of(config)
    mark = fingerprint(settings)
    if config.dry_run:
        _print_plan(finished, 0, settings, config, console)
        return 0
    with claimed_folder(storage, settings, partial(_copy_plan, source, storage)):
        done = completions(storage, mark)
        todo = [shard for shard in sorted(finished) if shard not in done]
        _print_plan(finished, len(done), settings, config, console)
        failed: list[TaskFailed] = []
        if todo:
            for part, name in _models(config):
                check_reach(part, name)
            images = sum(record.images for record in finished.values())
            before = sum(record.images for record in done.values())
            with ProgressDisplay(console, images, before, unit="descriptions") as display:
                make = partial(make_worker, config, names_of(config, settings), mark)
                failed = make_shards(make, storage, todo, config.engine, display, give_up=lost_models)
        else:
            console.print("Nothing is left to do: every finished shard is described.")
        counts = count_descriptions(storage, mark)
        storage.write(CARD, _card(config, settings, counts).encode())
        left = len(todo) - (len(completions(storage, mark)) - len(done))
    _print_summary(counts, failed, left, console)
    if counts.asked and not counts.described and not failed:
        raise ValueError(
            f"not one of {counts.asked:,} answers was taken ({listed(counts.by_fallback)}): {config.out} holds "
            "templates only; column `detail` of its ledgers says what the model wrote"
        )
    return left


def finished_shards(source: Storage, console: Console) -> dict[int, Completion]:
    """Completion records of the input, by shard number; says so where it holds less than was planned.

    Raises ValueError for a folder that is no output of `make instructions`, or has no shard with such questions.
    """
    settings = instruction_settings(source)
    if "describe" not in settings["tasks"]["names"]:
        raise ValueError(
            f"{source.url} holds no question for a description (tasks {', '.join(settings['tasks']['names'])}): make "
            "instructions with --tasks.names describe ..."
        )
    finished = completions(source, fingerprint(settings))
    planned = read_plan(source).shards
    if not finished:
        raise ValueError(f"{source.url} has none of its {planned:,} shards finished: run `make instructions` first")
    if len(finished) < planned:
        console.print(
            f"[yellow]{escape(source.url)} is not finished:[/] {len(finished):,} of {planned:,} shards are. They are "
            "described now; finish it and run the same command again for the others.",
            soft_wrap=True,
        )
    return finished


def make_worker(config: DescriptionsConfig, names: tuple[str, str], mark: str) -> DescriptionWorker:
    """Called once in each worker process. names: what the shards call captioner and refiner."""
    pin_threads(config.threads)
    schema = Description.model_json_schema()
    refiner = Role(build_captioner(config.refiner, schema, sees=False), names[1]) if config.refiner.model else None
    return DescriptionWorker(
        Storage(config.shards),
        Storage(config.out),
        Role(build_captioner(config.captioner, schema), names[0]),
        refiner,
        config.describe,
        config.samples_per_batch,
        mark,
    )


def settings_of(config: DescriptionsConfig) -> dict[str, Any]:
    """The settings that decide the bytes of the output; paths, servers' addresses and the engine are not among them.

    Raises ValueError for an input that is no output of `make instructions`.
    """
    describe = asdict(config.describe)
    if not config.refiner.model:
        del describe["refine_prompt"]
    return {
        "schema": SCHEMA_VERSION,
        "input": fingerprint(instruction_settings(Storage(config.shards))),
        "captioner": captioner_settings(config.captioner),
        "refiner": captioner_settings(config.refiner),
        "describe": describe,
        "samples_per_batch": config.samples_per_batch,
        "threads": config.threads,
    }


def names_of(config: DescriptionsConfig, settings: dict[str, Any]) -> tuple[str, str]:
    """What the shards call captioner and refiner, "" for none. settings: of `settings_of`."""
    refiner = captioner_name(config.refiner, settings["refiner"]) if config.refiner.model else ""
    return captioner_name(config.captioner, settings["captioner"]), refiner


def checked(config: DescriptionsConfig) -> DescriptionsConfig:
    """The config with local paths made absolute: workers may run elsewhere.

    Raises ValueError for settings that mean nothing, with the flag and what it must be.
    """
    least: dict[str, tuple[float, float]] = {
        "samples_per_batch": (config.samples_per_batch, 1),
        "threads": (config.threads, 1),
        "describe.tries": (config.describe.tries, 1),
        "describe.context": (config.describe.context, 0),
        **config.engine.least,
    }
    for part, name in _models(config):
        check_captioner(part, name)
        least |= least_of(part, name)
    check_least(least)
    check_describe(config.describe)
    config = replace(
        config,
        shards=absolute(config.shards),
        out=absolute(config.out),
        captioner=_absolute_model(config.captioner),
        refiner=_absolute_model(config.refiner),
    )
    if config.out == config.shards:
        raise ValueError(f"out and shards are both {config.out}: the input stays as it is, choose another --out")
    return config


def lost_models(in_a_row: Sequence[TaskFailed]) -> bool:
    """Whether so many shards found no model that the others need not try. A shard that is damaged tells nothing of
    the others."""
    return len(in_a_row) >= GIVE_UP and all(f.error.startswith("ConnectionError") for f in in_a_row[-GIVE_UP:])


def count_descriptions(storage: Storage, mark: str) -> DescriptionCounts:
    """Add up completion records and ledgers."""
    records = completions(storage, mark)
    sources: Counter[str] = Counter()
    fallbacks: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for shard in records:
        with storage.open(shard_name(shard, "parquet")) as file:
            table = pq.read_table(file, columns=["task", "answer_source", "fallback", "detail"])
        for row in table.to_pylist():
            if row["task"] == "describe":
                sources[row["answer_source"]] += 1
                fallbacks[row["fallback"]] += bool(row["fallback"])
                names[row["detail"]] += row["fallback"] == "wrong-class"
    return DescriptionCounts(
        samples=sum(record.samples for record in records.values()),
        by_source=dict(sources.most_common()),
        by_fallback=dict((+fallbacks).most_common()),
        other_names=dict((+names).most_common()),
    )


def _models(config: DescriptionsConfig) -> list[tuple[CaptionerConfig, str]]:
    """The models of a run, each with the name of its field."""
    return [(config.captioner, "captioner"), *([(config.refiner, "refiner")] if config.refiner.model else [])]


def _absolute_model(config: CaptionerConfig) -> CaptionerConfig:
    """A folder made absolute; a hub id looks like a relative path."""
    there = config.backend == "hf" and config.model and Path(config.model).expanduser().exists()
    return replace(config, model=absolute(config.model)) if there else config


def _copy_plan(source: Storage, storage: Storage) -> None:
    """What was planned, and left out with which reason, is true of the described shards as well."""
    with source.open(PLAN) as there, storage.replacing(PLAN) as path, path.open("wb") as here:
        shutil.copyfileobj(there, here)


def _print_plan(
    finished: dict[int, Completion], done: int, settings: dict[str, Any], config: DescriptionsConfig, console: Console
) -> None:
    images, samples = (sum(getattr(r, name) for r in finished.values()) for name in ("images", "samples"))
    captioner, refiner = names_of(config, settings)
    console.print(
        f"[bold]{escape(config.shards)}[/]: {len(finished):,} shards, {images:,} images, {samples:,} samples, "
        f"{done:,} shards done. Captioner {escape(captioner)}, refiner {escape(refiner or 'none')}, engine "
        f"{config.engine.name}, to {escape(config.out)}",
        soft_wrap=True,
    )


def _print_summary(counts: DescriptionCounts, failed: list[TaskFailed], left: int, console: Console) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    share = counts.described / max(1, counts.asked)
    table.add_row("described", f"{counts.described:,} of {counts.asked:,} ({share:.1%}) in {counts.samples:,} samples")
    table.add_row("by", escape(listed(counts.by_source)))
    fell, unrefined = (
        {reason: n for reason, n in counts.by_fallback.items() if reason.startswith(REFINER) == refiner}
        for refiner in (False, True)
    )
    if fell:
        table.add_row("template kept", listed(fell))
    if unrefined:
        table.add_row("not refined", listed(unrefined))
    if counts.other_names:
        first = dict(list(counts.other_names.items())[:5])
        table.add_row("named instead", escape(listed(first)) + ", ..." * (len(counts.other_names) > 5))
    console.print(table)
    print_failed(failed, console)
    if left > len(failed):
        console.print(
            f"[red]stopped:[/] {GIVE_UP} shards lost their models one after another; {left:,} are left to do",
            soft_wrap=True,
        )


def _card(config: DescriptionsConfig, settings: dict[str, Any], counts: DescriptionCounts) -> str:
    captioner, refiner = names_of(config, settings)
    body = (
        f"Shards of `make instructions`, with {counts.described:,} of {counts.asked:,} descriptions written by "
        f"{captioner}" + (f" and refined by {refiner}" if refiner else "") + ", made by sketchgen. The others keep the "
        f"text of the template ({listed(counts.by_fallback) or 'none'}): `answer_source` of a query says which.\n\n"
        "Each sample is `{key}.jpg` (the photo), `{key}.sketches.png` (its sketches, 256 x 256 each, top to "
        "bottom) and `{key}.json` (objects, sketches, queries). `NNNNNN.parquet` beside each shard is its ledger: "
        "one row for every query; `fallback` and `detail` say why an answer of a model was not taken. Models may be "
        "wrong in what nobody checked: class and box are compared with the annotations, the rest of a text is not."
    )
    return card("Described instructions", body)
