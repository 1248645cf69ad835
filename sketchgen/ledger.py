"""The ledger: one row for every planned instance, written or rejected with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


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


_SCHEMA = pa.schema(
    [
        (name, _TYPES[{"str": str, "int": int, "float": float}[str(field.type)]])
        for name, field in LedgerRow.__dataclass_fields__.items()
    ]
)


def write_ledger(rows: Sequence[LedgerRow], path: Path) -> None:
    """Write `NNNNNN.parquet`; the same rows give the same bytes."""
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], _SCHEMA), path, compression="zstd")


def read_ledger(file: object) -> list[LedgerRow]:
    """Read a ledger back (path or open binary file)."""
    return [LedgerRow(**row) for row in pq.read_table(file).to_pylist()]
