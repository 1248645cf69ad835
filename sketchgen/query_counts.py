"""What the finished shards of `make instructions` or `make describe` hold, and what they do not and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from sketchgen.output import completions, shard_name
from sketchgen.storage import Storage
from sketchgen.tasks.config import TASK_NAMES


@dataclass(frozen=True)
class Reasons:
    """How often each reason was given, most common first, with one detail as seen, "" where none has any."""

    counts: dict[str, int]
    examples: dict[str, str]


@dataclass(frozen=True)
class QueryCounts:
    """Totals over all finished shards."""

    samples: int
    by_task: dict[str, int]
    """Queries, in the order of the tasks."""
    refused: Reasons
    """What was not asked: images, or classes of an image."""
    fallbacks: Reasons
    """Answers of models that were not taken."""

    @property
    def written(self) -> int:
        """All queries."""
        return sum(self.by_task.values())


def count_rows(storage: Storage, mark: str) -> QueryCounts:
    """Add up completion records and ledgers. mark: the settings' fingerprint. ValueError for a damaged ledger."""
    records = completions(storage, mark)
    tasks: Counter[str] = Counter()
    refused, fallen = (Counter[str](), dict[str, str]()), (Counter[str](), dict[str, str]())
    for shard in sorted(records):
        table = _read(storage, shard_name(shard, "parquet"))
        tasks.update(filter(None, table["task"].to_pylist()))
        details = table["detail"].to_pylist()
        for column, (counts, examples) in (("reason", refused), ("fallback", fallen)):
            _add(zip(table[column].to_pylist(), details, strict=True), counts, examples)
    return QueryCounts(
        samples=sum(record.samples for record in records.values()),
        by_task={name: tasks[name] for name in TASK_NAMES if tasks[name]},
        refused=Reasons(dict(refused[0].most_common()), refused[1]),
        fallbacks=Reasons(dict(fallen[0].most_common()), fallen[1]),
    )


def _read(storage: Storage, name: str) -> pa.Table:
    try:
        with storage.open(name) as file:
            return pq.read_table(file).select(["task", "reason", "fallback", "detail"])
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(
            f"{storage.url}/{name} is no ledger of queries that can be read ({error}): `sketchgen verify` says more"
        ) from None


def _add(rows: Iterable[tuple[str, str]], counts: Counter[str], examples: dict[str, str]) -> None:
    """rows: (reason, detail) each, the reason "" where there was none."""
    for reason, detail in rows:
        if reason:
            counts[reason] += 1
            examples[reason] = examples.get(reason) or detail
