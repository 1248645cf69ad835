"""`sketchgen verify | stats | retry OUT`: look after the output of `make sketches`, `make instructions` or
`make describe`; `sketchgen gap A B`: how far two ways of drawing are apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipelines.exits import clean_exit
from pipelines.gaps import Measure, run_gap
from sketchgen.config import RunConfig
from sketchgen.instructions import InstructionsConfig, run_instructions
from sketchgen.output import SETTINGS, completions, fingerprint, locked, read_config, shard_name
from sketchgen.passes import listed
from sketchgen.plan import Plan, read_plan
from sketchgen.query_counts import count_rows
from sketchgen.report import count
from sketchgen.run import run
from sketchgen.storage import Storage
from sketchgen.verify import holds_queries, read_settings, verify

Folder = Annotated[str, tyro.conf.Positional]


@dataclass(frozen=True)
class Verify:
    """Compare every file with its checksum, every sample with the contract, every ledger with plan and samples."""

    out: Folder
    """Output folder, a local path or fsspec URL."""


@dataclass(frozen=True)
class Stats:
    """What is done, what was left out and refused, and why."""

    out: Folder
    """Output folder, a local path or fsspec URL."""


@dataclass(frozen=True)
class Retry:
    """Make the shards anew that hold rows refused for these reasons, whole, with the settings of the last run."""

    out: Folder
    """Output folder, a local path or fsspec URL."""
    reason: tuple[str, ...]
    """Reasons as the ledger has them: image-missing, deadline, ..."""
    dry_run: bool = False
    """Say which shards, and stop."""


def main() -> None:
    """The command line."""
    command = tyro.extras.subcommand_cli_from_dict(
        {"verify": Verify, "stats": Stats, "retry": Retry, "gap": Measure}, prog="sketchgen", description=__doc__
    )
    console = Console(highlight=False)
    with clean_exit("finished shards are kept, run the same command to go on"):
        if isinstance(command, Verify):
            bad = run_verify(command, console)
        elif isinstance(command, Stats):
            bad = run_stats(command, console)
        elif isinstance(command, Measure):
            bad = run_gap(command, console)
        else:
            bad = run_retry(command, console)
    sys.exit(1 if bad else 0)


def run_verify(command: Verify, console: Console) -> int:
    """Print what is wrong; returns how many problems there are."""
    storage = Storage(command.out)
    plan = read_plan(storage)
    problems = 0
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=plan.shards)
        for _, found in verify(storage):
            for problem in found:
                console.print(f"[red]{escape(problem.file)}[/] {escape(problem.what)}", soft_wrap=True)
            problems += len(found)
            bar.advance(task)
    if problems:
        console.print(f"{problems:,} problems in {plan.shards:,} shards")
    else:
        what = f"every instance of {plan.instances:,} planned in a ledger once"
        if holds_queries(read_settings(storage)):
            what = f"every image of {plan.images:,} planned in a ledger, every query in sample and ledger once"
        out = sum(plan.left_out.values())
        console.print(
            f"all is well: {plan.shards:,} shards, {what}, {out:,} rows of the source left out by the plan",
            soft_wrap=True,
        )
    return problems


def run_stats(command: Stats, console: Console) -> int:
    """Print totals; returns 0."""
    storage = Storage(command.out)
    plan = read_plan(storage)
    settings = read_settings(storage)
    mark = fingerprint(settings)
    done = completions(storage, mark)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")  # paths are to be copied
    table.add_row("shards", f"{len(done):,} of {plan.shards:,} done")
    table.add_row("planned", f"{_planned(plan)} of {plan.images:,} images")
    table.add_row("left out", f"{sum(plan.left_out.values()):,} ({listed(plan.left_out)})" if plan.left_out else "0")
    for label, text in (_query_rows if holds_queries(settings) else _sketch_rows)(storage, mark):
        table.add_row(label, text)
    table.add_row("bytes", f"{sum(record.tar_bytes for record in done.values()):,} of shards")
    console.print(table)
    return 0


def _planned(plan: Plan) -> str:
    return " and ".join(
        f"{number:,} {what}" for number, what in ((plan.instances, "instances"), (plan.asked, "questions")) if number
    )


def _sketch_rows(storage: Storage, mark: str) -> list[tuple[str, str]]:
    """(label, text) of what shards of sketches hold."""
    counts = count(storage, mark)
    rows = [
        ("written", f"{counts.written:,} sketches in {counts.samples:,} samples"),
        ("rejected", f"{counts.rejected:,}"),
    ]
    rows += [
        (f"  {reason}", f"{number:,}, e.g. {escape(counts.examples[reason])}")
        for reason, number in counts.by_reason.items()
    ]
    common = sorted(counts.by_category.items(), key=lambda pair: -pair[1][0])[:10]
    classes = ", ".join(f"{escape(name)} {written:,}" for name, (written, _) in common)
    return [*rows, ("classes", f"{len(counts.by_category):,}: {classes}, ...")]


def _query_rows(storage: Storage, mark: str) -> list[tuple[str, str]]:
    """(label, text) of what shards of queries hold."""
    counts = count_rows(storage, mark)
    rows = [("written", f"{sum(counts.by_task.values()):,} queries in {counts.samples:,} samples")]
    rows += [(f"  {task}", f"{number:,}") for task, number in counts.by_task.items()]
    for label, found in (("not asked", counts.refused), ("answer not taken", counts.fallbacks)):
        if found.counts or label == "not asked":
            rows.append((label, f"{sum(found.counts.values()):,}"))
        rows += [
            (
                f"  {reason}",
                f"{number:,}" + (f", e.g. {escape(found.examples[reason])}" if found.examples[reason] else ""),
            )
            for reason, number in found.counts.items()
        ]
    return rows


def run_retry(command: Retry, console: Console) -> int:
    """Forget the shards that hold such rows, and make them again; returns the number that could not be made."""
    storage = Storage(command.out)
    again = _same_run(storage, console)
    mark = fingerprint(read_settings(storage))
    with locked(storage):
        shards = [shard for shard in sorted(completions(storage, mark)) if _holds(storage, shard, command.reason)]
        named = ", ".join(f"{shard:06d}" for shard in shards[:10]) + (", ..." if len(shards) > 10 else "")
        console.print(f"{len(shards):,} shards hold such rows" + (f": {named}" if shards else ""))
        if command.dry_run or not shards:
            return 0
        for shard in shards:
            storage.remove(shard_name(shard, "json"))
    return again()


def _same_run(storage: Storage, console: Console) -> Callable[[], int]:
    """The last run into this folder, of `make sketches` or `make instructions`. Raises ValueError for any other."""
    settings = read_settings(storage) if storage.exists(SETTINGS) else {}
    if "captioner" in settings:
        raise ValueError(
            f"{storage.url} is of `make describe`, which refuses nothing: remove the .json of shards that it is to "
            "describe anew, and run the same command"
        )
    if "bank" in settings:
        return partial(run_instructions, read_config(storage, InstructionsConfig), console)
    return partial(run, read_config(storage, RunConfig), console)


def _holds(storage: Storage, shard: int, reasons: tuple[str, ...]) -> bool:
    import pyarrow.parquet as pq

    with storage.open(shard_name(shard, "parquet")) as file:
        return bool(set(reasons) & set(pq.read_table(file, columns=["reason"])["reason"].to_pylist()))


if __name__ == "__main__":
    main()
