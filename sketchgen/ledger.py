"""The ledger: one row for every planned instance, or query, written or rejected with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}


@dataclass
class LedgerRow:
    """What became of one planned instance. Unknown is "", -1 or nan (box as the source gave it)."""

    shard: int
    image_id: str
    object_id: str
    category: str
    status: str = "rejected"
    """`written` or `rejected`."""
    reason: str = ""
    """Slug of the check that refused it, "" if written."""
    detail: str = ""
    """The value seen, for a person."""
    key: str = ""
    """Sample that holds it, "" if rejected."""
    row: int = -1
    """Row of its strip."""
    x1: float = math.nan
    y1: float = math.nan
    x2: float = math.nan
    y2: float = math.nan
    mask_score: float = -1.0
    """The segmenter's confidence in [0, 1]."""
    mask_area: int = -1
    """Pixels of the stored photo."""
    mask_fill: float = -1.0
    """Mask area / box area."""
    mask_agreement: float = -1.0
    """IoU of the mask's bounding box and the annotated box."""
    ink: float = -1.0
    """Share of dark pixels of the sketch."""


@dataclass
class QueryRow:
    """What became of one query of an instruction shard; a row without `query_id` says what was not asked.

    Unknown is "" or -1.
    """

    shard: int
    image_id: str
    query_id: str = ""
    """Unique within its sample."""
    task: str = ""
    category: str = ""
    key: str = ""
    """Sample that holds it, "" if rejected."""
    row: int = -1
    """Row of its strip."""
    sketch_id: str = ""
    sketch_source: str = ""
    """Bank that the sketch is of."""
    count: int = -1
    match: int = -1
    """1 where the answer is yes, 0 where it is no: of `sbir`, and of a question that is answered so."""
    boxes: int = -1
    """Boxes of the answer."""
    box_area: float = -1.0
    """Of the first of them, pixels of the stored photo."""
    words: int = -1
    """Of the answer."""
    answer_source: str = ""
    """`template`, `annotation`, or the model that wrote the answer."""
    fallback: str = ""
    """Why a model's answer was not taken, "" where none was asked or it was."""
    status: str = "rejected"
    """`written` or `rejected`."""
    reason: str = ""
    """Why an image or a class of it was not asked about, "" if written."""
    detail: str = ""
    """The value seen, for a person."""


Row = TypeVar("Row", LedgerRow, QueryRow)


def write_ledger(rows: Sequence[Row], path: Path, kind: type[Row]) -> None:
    """Write `NNNNNN.parquet`; the same rows give the same bytes. kind: of the rows, which may be none."""
    table = pa.Table.from_pylist([vars(row) for row in rows], schema_of(kind))  # flat: asdict would copy for nothing
    pq.write_table(table, path, compression="zstd")


def read_ledger(file: object) -> list[LedgerRow]:
    """Read a ledger of instances back (path or open binary file)."""
    return [LedgerRow(**row) for row in pq.read_table(file).to_pylist()]


def read_query_ledger(file: object) -> list[QueryRow]:
    """Read a ledger of queries back (path or open binary file)."""
    return [QueryRow(**row) for row in pq.read_table(file).to_pylist()]


def schema_of(kind: type[LedgerRow] | type[QueryRow]) -> pa.Schema:
    """Columns of a ledger, and their types."""
    return pa.schema([(field.name, _TYPES[str(field.type)]) for field in fields(kind)])
