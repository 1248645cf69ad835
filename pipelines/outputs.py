"""`sketchgen verify | stats | retry OUT`: look after an output folder of `make sketches`."""

from __future__ import annotations

import json
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
from sketchgen.config import RunConfig
from sketchgen.instructions import InstructionsConfig, run_instructions
from sketchgen.output import SETTINGS, completions, fingerprint, locked, read_config, shard_name
from sketchgen.passes import listed
from sketchgen.plan import read_plan
from sketchgen.report import count
from sketchgen.run import run
from sketchgen.storage import Storage
from sketchgen.verify import verify

Folder = Annotated[str, tyro.conf.Positional]


@dataclass(frozen=True)
class Verify:
    """Compare every file with its checksum, every sample with the contract, every ledger with the plan."""

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
        {"verify": Verify, "stats": Stats, "retry": Retry}, prog="sketchgen", description=__doc__
    )
    console = Console(highlight=False)
    with clean_exit("finished shards are kept, run the same command to go on"):
        if isinstance(command, Verify):
            bad = run_verify(command, console)
        elif isinstance(command, Stats):
            bad = run_stats(command, console)
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
    planned, out = f"{plan.instances:,} planned", sum(plan.left_out.values())
    if problems:
        console.print(f"{problems:,} problems in {plan.shards:,} shards")
    else:
        console.print(
            f"all is well: {plan.shards:,} shards, every instance of {planned} in a ledger once, {out:,} rows of the "
            "source left out by the plan",
            soft_wrap=True,
        )
    return problems


def run_stats(command: Stats, console: Console) -> int:
    """Print totals; returns 0."""
    storage = Storage(command.out)
    plan = read_plan(storage)
    mark = fingerprint(json.loads(storage.read(SETTINGS)))
    done = completions(storage, mark)
    counts = count(storage, mark)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")  # paths are to be copied
    table.add_row("shards", f"{len(done):,} of {plan.shards:,} done")
    table.add_row("planned", f"{plan.instances:,} instances of {plan.images:,} images")
    table.add_row("left out", f"{sum(plan.left_out.values()):,} ({listed(plan.left_out)})" if plan.left_out else "0")
    table.add_row("written", f"{counts.written:,} sketches in {counts.samples:,} samples")
    table.add_row("rejected", f"{counts.rejected:,}")
    for reason, number in counts.by_reason.items():
        table.add_row(f"  {reason}", f"{number:,}, e.g. {escape(counts.examples[reason])}")
    table.add_row("bytes", f"{sum(record.tar_bytes for record in done.values()):,} of shards")
    common = sorted(counts.by_category.items(), key=lambda pair: -pair[1][0])[:10]
    table.add_row(
        "classes", f"{len(counts.by_category):,}: " + ", ".join(f"{n} {w:,}" for n, (w, _) in common) + ", ..."
    )
    console.print(table)
    return 0


def run_retry(command: Retry, console: Console) -> int:
    """Forget the shards that hold such rows, and make them again; returns the number that could not be made."""
    storage = Storage(command.out)
    again = _same_run(storage, console)
    mark = fingerprint(json.loads(storage.read(SETTINGS)))
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
    """The last run into this folder, of whatever kind."""
    if storage.exists(SETTINGS) and "bank" in json.loads(storage.read(SETTINGS)):
        return partial(run_instructions, read_config(storage, InstructionsConfig), console)
    return partial(run, read_config(storage, RunConfig), console)


def _holds(storage: Storage, shard: int, reasons: tuple[str, ...]) -> bool:
    import pyarrow.parquet as pq

    with storage.open(shard_name(shard, "parquet")) as file:
        return bool(set(reasons) & set(pq.read_table(file, columns=["reason"])["reason"].to_pylist()))


if __name__ == "__main__":
    main()
