"""The report of a run: `report.html`, self-contained, one look at what was made and what was not."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from sketchgen.output import completions, read_log, shard_name
from sketchgen.plan import Plan
from sketchgen.preview import PANELS, Preview, preview_counts, read_previews
from sketchgen.storage import Storage
from sketchgen.template import template

REPORT = "report.html"


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows. None of this changes a byte of the shards."""

    previews: int = 24
    """Instances a shard that are kept as pictures."""
    per_page: int = 60
    """Instances a page; further pages are report-2.html, ..."""
    pages: int = 20
    """Pages at most; with more previews than they hold, shards are picked evenly."""


@dataclass(frozen=True)
class Counts:
    """Totals over all finished shards."""

    images: int
    samples: int
    written: int
    rejected: int
    by_reason: dict[str, int]
    by_category: dict[str, tuple[int, int]]
    """Category: (written, rejected)."""
    examples: dict[str, str]
    """Reason: one detail as seen."""


def count(storage: Storage, mark: str) -> Counts:
    """Add up completion records and ledgers."""
    records = completions(storage, mark)
    reasons: Counter[str] = Counter()
    written: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for shard in records:
        with storage.open(shard_name(shard, "parquet")) as file:
            table = pq.read_table(file, columns=["category", "reason", "detail"])
        kept = table.filter(pc.equal(table["reason"], ""))
        lost = table.filter(pc.not_equal(table["reason"], ""))
        written.update(kept["category"].to_pylist())
        rejected.update(lost["category"].to_pylist())
        for reason, detail in zip(lost["reason"].to_pylist(), lost["detail"].to_pylist(), strict=True):
            reasons[reason] += 1
            examples.setdefault(reason, detail)
    totals = {
        name: sum(getattr(record, name) for record in records.values())
        for name in ("images", "samples", "written", "rejected")
    }
    by_category = {name: (written[name], rejected[name]) for name in sorted(written.keys() | rejected.keys())}
    return Counts(**totals, by_reason=dict(reasons.most_common()), by_category=by_category, examples=examples)


def write_report(
    storage: Storage, title: str, facts: dict[str, str], plan: Plan, counts: Counts, config: ReportConfig
) -> str:
    """Write report.html (and its further pages) and return the name of the first.

    facts: what was run, shown as label and value.
    """
    taken = _spread(preview_counts(storage), config.per_page * config.pages)
    total = sum(taken.values())
    names = [
        REPORT if number == 0 else f"report-{number + 1}.html" for number in range(max(1, -(-total // config.per_page)))
    ]
    pages = chain(_pages(read_previews(storage, taken), config.per_page), [[]])
    for number, (name, page) in enumerate(zip(names, pages, strict=False)):
        html = template("report.html.j2").render(
            title=title,
            facts=facts,
            plan=plan,
            counts=counts,
            speed=_speed(storage),
            panels=PANELS,
            previews=page,
            names=names,
            number=number,
        )
        storage.write(name, html.encode())
    for name in storage.names():  # of an earlier report with more pages
        if name.startswith("report-") and name.endswith(".html") and name not in names:
            storage.remove(name)
    return REPORT


def _pages(previews: Iterable[Preview], per_page: int) -> Iterable[list[dict[str, Any]]]:
    page: list[dict[str, Any]] = []
    for preview in previews:
        data = base64.b64encode(preview.jpeg).decode("ascii")
        page.append({"preview": preview, "src": f"data:image/jpeg;base64,{data}"})
        if len(page) == per_page:
            yield page
            page = []
    if page:
        yield page


def _spread(numbers: dict[str, int], budget: int) -> dict[str, int]:
    """How many previews to take of each shard's file, so that at most `budget` come from all over the run."""
    if sum(numbers.values()) <= budget:
        return numbers
    step = -(-len(numbers) // budget)
    chosen = list(numbers)[::step]
    return {name: min(budget // len(chosen), numbers[name]) for name in chosen}


def _speed(storage: Storage) -> dict[str, Any]:
    """Where the time of all workers went, from the run's log."""
    seconds: Counter[str] = Counter()
    walls: dict[str, float] = {}
    instances = 0
    for entry in read_log(storage):
        seconds.update(entry["seconds"])
        instances += entry["instances"]
        walls[entry["run"]] = entry["elapsed"]
    total = sum(seconds.values())
    shares = {stage: value / total for stage, value in seconds.items()} if total else {}
    return {"instances": instances, "wall": sum(walls.values()), "worker": total, "shares": shares}
