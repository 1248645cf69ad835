"""The ledgers of instruction shards, of one folder or several, as one table that is asked in SQL."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from data_manifests.schema import Completion
from sketchgen.ledger import QueryRow, schema_of
from sketchgen.output import PLAN, SETTINGS, completions, fingerprint, shard_name
from sketchgen.storage import Storage
from sketchgen.tasks.config import TASK_NAMES

MEMORY = "768MB"
"""What the table may hold in memory; the rest of a large mixture waits on disk."""
AT_ONCE = 64
"""Ledgers that are put into the table together: each time the work file is flushed to disk."""
COLUMNS = tuple(field.name for field in fields(QueryRow))
_SQL = {"str": "VARCHAR", "int": "BIGINT", "float": "DOUBLE"}


@dataclass(frozen=True)
class CardPart:
    """One folder of instruction shards that a data card tells of: a run, or what a mixture takes from one."""

    name: str
    """What the card calls it; no two parts share it."""
    storage: Storage
    image_source: str
    """Source of its photos, as the vocabulary knows it: its class names are read so."""
    weight: float = 1.0
    """Its share of the mixture, in [0, 1]."""
    target: int = 0
    """Queries that were wanted of it; 0: as many as there are."""


class QueryTable:
    """All rows of the finished shards of the parts. Use as a context manager: its work files go with it.

    `rows` holds the columns of QueryRow, with the name of the part (`part`) and its `image_source` in front; `queries`
    the same of what was written, `refused` of what was not asked.
    """

    def __init__(self, parts: Sequence[CardPart]) -> None:
        """Raises ValueError for two parts of one name, a folder without instruction shards, one whose shards were made
        with other settings than it says, and a ledger that cannot be read or is of another form."""
        check_parts(parts)
        self.records: dict[str, dict[int, Completion]] = {}
        """Completion records by part and shard; what is not in it is not done, and not in the table."""
        self._place = tempfile.TemporaryDirectory(prefix="card-")
        self._db = duckdb.connect(os.path.join(self._place.name, "work.db"))
        self._db.execute(f"SET memory_limit = '{MEMORY}'; SET threads = 2; SET enable_progress_bar = false")
        columns = ", ".join(f'"{field.name}" {_SQL[str(field.type)]}' for field in fields(QueryRow))
        self._db.execute(f"CREATE TABLE rows (part VARCHAR, image_source VARCHAR, {columns})")
        self._db.execute("CREATE VIEW queries AS SELECT * FROM rows WHERE status = 'written'")
        self._db.execute("CREATE VIEW refused AS SELECT * FROM rows WHERE status <> 'written'")
        try:
            for part in parts:
                self.records[part.name] = completions(part.storage, mark_of(part.storage))
                self._add(part, sorted(self.records[part.name]))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> QueryTable:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()
        self._place.cleanup()

    def ask(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of an answer; values: of the question marks."""
        return list(self._db.execute(sql, list(values)).fetchall())

    def counts(self, column: str, where: str = "true") -> dict[Any, int]:
        """How many queries have each value of a column (or expression), most common first, then by value."""
        sql = f"SELECT {column} AS value, count(*) AS n FROM queries WHERE {where}"
        return dict(self.ask(f"{sql} GROUP BY value ORDER BY n DESC, value"))

    def _add(self, part: CardPart, shards: Iterable[int]) -> None:
        named = ", ".join(f'"{name}"' for name in COLUMNS)
        tables = (_read(part.storage, shard_name(shard, "parquet")) for shard in shards)
        while some := list(islice(tables, AT_ONCE)):
            self._db.register("ledgers", pa.concat_tables(some))
            self._db.execute(f"INSERT INTO rows SELECT ?, ?, {named} FROM ledgers", [part.name, part.image_source])
            self._db.unregister("ledgers")


def check_parts(parts: Sequence[CardPart]) -> None:
    """Raises ValueError for parts that no card can tell apart, or numbers that mean nothing."""
    names = [part.name for part in parts]
    if not names:
        raise ValueError("a data card needs one part at least: the folder of a run")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two parts of the data card are called {twice[0]!r}: give each a name of its own")
    for part in parts:
        if part.target < 0 or not 0 <= part.weight <= 1:
            raise ValueError(
                f"part {part.name!r} has target {part.target} and weight {part.weight}: a target is a number of "
                "queries, 0 for none, a weight lies from 0 to 1"
            )


def mark_of(storage: Storage) -> str:
    """Fingerprint of the settings of a folder. Raises ValueError where no run has begun in it."""
    for name in (SETTINGS, PLAN):
        if not storage.exists(name):
            raise ValueError(f"{storage.url} holds no instruction shards (it lacks {name}): make them first")
    return fingerprint(json.loads(storage.read(SETTINGS)))


def task_order(task: str) -> int:
    """Where a task stands in tables."""
    return (*TASK_NAMES, task).index(task)


def _read(storage: Storage, name: str) -> pa.Table:
    """A ledger, checked to be one of queries."""
    again = f"remove {name.replace('parquet', 'json')} and run the same command to make the shard again"
    try:
        with storage.open(name) as file:
            ledger = pq.ParquetFile(file)
            found = {field.name: str(field.type) for field in ledger.schema_arrow}
            lacks = [column for column in COLUMNS if column not in found]
            odd = [field.name for field in schema_of(QueryRow) if found.get(field.name) not in (None, str(field.type))]
            if not lacks and not odd:
                return ledger.read(columns=list(COLUMNS), use_threads=False)  # threads cost more than they save here
    except pa.ArrowException as error:
        raise ValueError(f"{storage.url}/{name} is no ledger that can be read ({error}): {again}") from None
    if "query_id" in lacks:
        raise ValueError(f"{storage.url}/{name} is no ledger of queries (of make sketches?): name instruction shards")
    what = f"it lacks {', '.join(lacks)}" if lacks else f"its {odd[0]} are {found[odd[0]]}"
    raise ValueError(f"{storage.url}/{name} was made by another version, {what}: {again}")
