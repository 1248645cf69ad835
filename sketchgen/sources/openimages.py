"""Reader of Open Images boxes (`oidv6-train-annotations-bbox.csv`, `class-descriptions-boxable.csv`).

Columns used, by name: `ImageID, LabelName, XMin, XMax, YMin, YMax` in [0, 1], and the flags `IsGroupOf, IsDepiction,
IsInside` (1, 0, or -1 for unknown). The file has no image sizes: boxes stay shares of the image.
"""

from __future__ import annotations

import csv
import io
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sketchgen.index import IndexBuilder

BOX = {"x1": "XMin", "y1": "YMin", "x2": "XMax", "y2": "YMax"}
FLAGS = {"group": "IsGroupOf", "depiction": "IsDepiction", "inside": "IsInside"}
"""Reason and column, the first that is 1 counts."""
NEEDED = ("ImageID", "LabelName", *BOX.values())
BLOCK = 8 * 1024**2
"""Bytes of the file that are parsed at once."""


def collect(boxes: IO[bytes], classes: IO[bytes], builder: IndexBuilder) -> None:
    """Hand every class, row and image to the index. Raises ValueError, without the names of the files."""
    for mid, name in read_classes(classes):
        builder.category(mid, name)
    try:
        reader = pyarrow.csv.open_csv(
            boxes,
            read_options=pyarrow.csv.ReadOptions(block_size=BLOCK),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys((*NEEDED, *FLAGS.values()), pa.string()), strings_can_be_null=False
            ),
        )
        lacking = [name for name in NEEDED if name not in reader.schema.names]
        if lacking:
            raise ValueError(f"has no column {' and '.join(lacking)} (seen: {', '.join(reader.schema.names)[:200]})")
        for batch in reader:
            builder.rows(_rows(batch))
    except pa.ArrowInvalid as error:
        raise ValueError(f"is no table of boxes: {error}") from None
    builder.images_of_rows(".jpg")


def read_classes(file: IO[bytes]) -> list[tuple[str, str]]:
    """(id, name) of each class; the header of the V7 file is seen by its `LabelName`."""
    rows = list(csv.reader(io.StringIO(file.read().decode("utf-8-sig"), newline="")))
    found = [(row[0], row[1]) for row in rows if len(row) >= 2 and row[0] != "LabelName"]
    if not found:
        raise ValueError(f"holds no class: rows of id and name were expected, seen {rows[:2]}")
    return found


def _rows(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    columns = {"image_id": batch["ImageID"], "category_id": batch["LabelName"]}
    columns |= {ours: _numbers(batch[theirs]) for ours, theirs in BOX.items()}
    reason = pa.repeat("", len(batch))
    for why, column in reversed(FLAGS.items()):
        if column in batch.schema.names:
            reason = pc.if_else(pc.equal(pc.utf8_trim_whitespace(batch[column]), "1"), why, reason)
    return columns | {"reason": reason}


def _numbers(column: pa.Array) -> pa.Array:
    """As float64, nan where there is no number: the index says why such a row is left out."""
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        return pa.array([_number(text) for text in column.to_pylist()], pa.float64())


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
