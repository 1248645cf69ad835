"""The index of a source: one Parquet row an image, with all its instances, cleaned; written once, read by every plan.

Readers hand images, categories and rows over as they meet them, in any order and of any number: what does not fit
into memory is sorted and joined on disk (DuckDB).
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sketchgen.instance import Box, Instance
from sketchgen.source import TWICE, SourceImage, SourceInstance, SourceQuery

VERSION = 3
"""Of the cleaning and the columns: an index of another version is made anew."""
IMAGES_A_GROUP = 16_384
"""Images of a row group: what a reader of the index holds in memory."""
MEMORY = "768MB"
"""What the sorting may hold in memory; the rest of a large source waits on disk."""
PENDING = 100_000
"""Rows that are collected before they go to disk."""
UNKNOWN: Box = (math.nan, math.nan, math.nan, math.nan)

INSTANCE = pa.struct(
    [
        ("object_id", pa.string()),
        ("category", pa.string()),
        ("x1", pa.float64()),
        ("y1", pa.float64()),
        ("x2", pa.float64()),
        ("y2", pa.float64()),
        ("segmentation", pa.string()),
        ("reason", pa.string()),
    ]
)
ASKED = pa.struct(
    [
        ("query_id", pa.string()),
        ("task", pa.string()),
        ("category", pa.string()),
        ("count", pa.int64()),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("reason", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("file", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("relative", pa.bool_()),
        ("license", pa.string()),
        ("asked", pa.list_(ASKED)),
        ("instances", pa.list_(INSTANCE)),
    ]
)
_REPEATING = ("license", "instances.list.element.category", "instances.list.element.reason")
PARQUET: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "write_statistics": False,
    "use_dictionary": list(_REPEATING),  # of the other columns a dictionary only costs time
}
"""How files of this schema are written."""
_IMAGES = pa.schema([*list(SCHEMA)[:-2]])
_ROWS = pa.schema(
    [("image_id", pa.string()), ("category_id", pa.string()), *(f for f in INSTANCE if f.name != "category")]
)
_BOX = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Index:
    """An index on disk. images: with and without instances; reasons: how many rows carry each, "" for the clean."""

    path: Path
    fingerprint: str
    """sha256 of what it was made from."""
    images: int
    reasons: dict[str, int]
    categories: tuple[str, ...]
    """Names of all classes that the source looked for, with a row or without, sorted."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its images in order, columns as SCHEMA, at most IMAGES_A_GROUP at a time."""
        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group).combine_chunks().to_batches()


def open_index(path: Path) -> Index | None:
    """The index in this file; None where there is none that is whole and of this version."""
    try:
        found = pq.read_metadata(path).metadata or {}
        meta = json.loads(found[b"index"])
        if meta.pop("version") != VERSION:
            return None
        return Index(path, **meta | {"categories": tuple(meta["categories"])})
    except (OSError, KeyError, ValueError):  # pyarrow's own errors are ValueErrors
        return None


class IndexBuilder:
    """Collects a source, then writes its index. Use as a context manager: its work files go with it."""

    def __init__(self, folder: Path, relative: bool = False) -> None:
        """folder: where the work files lie while it is built; relative: boxes are shares of width and height."""
        self._place = tempfile.TemporaryDirectory(dir=folder, prefix=".index-")
        self._relative = relative
        self._db = duckdb.connect(os.path.join(self._place.name, "work.db"))
        self._db.execute(f"SET memory_limit = '{MEMORY}'; SET threads = 2; SET enable_progress_bar = false")
        self._db.execute(
            """CREATE TABLE images (n BIGINT, image_id VARCHAR, file VARCHAR, width INTEGER, height INTEGER,
                                    relative BOOLEAN, license VARCHAR);
               CREATE TABLE licenses (id VARCHAR, name VARCHAR);
               CREATE TABLE categories (id VARCHAR, name VARCHAR);
               CREATE TABLE rows (n BIGINT, image_id VARCHAR, category_id VARCHAR, object_id VARCHAR,
                                  x1 DOUBLE, y1 DOUBLE, x2 DOUBLE, y2 DOUBLE, segmentation VARCHAR, reason VARCHAR)"""
        )
        self._counts = {"images": 0, "rows": 0}
        self._pending: dict[str, list[Any]] = {"images": [], "rows": []}

    def __enter__(self) -> IndexBuilder:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()
        self._place.cleanup()

    def image(self, image_id: str, file: str, width: int, height: int, license_id: str) -> None:
        """Add an image; width and height in pixels as annotated, 0 where unknown."""
        self._pending["images"].append((image_id, file, width, height, self._relative, license_id))
        if len(self._pending["images"]) >= PENDING:
            self._flush("images", _IMAGES)

    def category(self, category_id: str, name: str) -> None:
        """Add the name of a class; the last of several for one id counts."""
        self._db.execute("INSERT INTO categories VALUES (?, ?)", [category_id, name])

    def license(self, license_id: str, name: str) -> None:
        """Add the name of a licence; the last of several for one id counts."""
        self._db.execute("INSERT INTO licenses VALUES (?, ?)", [license_id, name])

    def row(
        self, image_id: str, category_id: str, object_id: str, box: Box, segmentation: str = "", reason: str = ""
    ) -> None:
        """Add an instance. segmentation: as JSON; reason: why the source itself leaves it out."""
        self._pending["rows"].append((image_id, category_id, object_id, *box, segmentation, reason))
        if len(self._pending["rows"]) >= PENDING:
            self._flush("rows", _ROWS)

    def rows(self, columns: dict[str, pa.Array]) -> None:
        """Add many instances at once: image_id, category_id, x1, y1, x2, y2 and reason; they are numbered within
        their image, `IMAGE/0` on, in the order in which they come."""
        size = len(columns["image_id"])
        filled = columns | {name: pa.repeat("", size) for name in ("object_id", "segmentation")}
        self._insert("rows", pa.table([filled[field.name] for field in _ROWS], schema=_ROWS))

    def images_of_rows(self, suffix: str) -> None:
        """Add the images that the rows name, in the order of their first rows; file: their id and `suffix`."""
        self._flush("rows", _ROWS)
        self._db.execute(
            """INSERT INTO images
               SELECT row_number() OVER (ORDER BY first) - 1, image_id, image_id || ?, 0, 0, ?, ''
               FROM (SELECT image_id, min(n) AS first FROM rows GROUP BY image_id)""",
            [suffix, self._relative],
        )
        self._counts["images"] = self._number("SELECT count(*) FROM images")

    def write(self, path: Path, fingerprint: str) -> Index:
        """Join, sort, clean, and write the index to `path` in one step.

        Raises ValueError for an image or object id that appears twice, and for rows whose image nobody listed.
        """
        self._flush("images", _IMAGES)
        self._flush("rows", _ROWS)
        self._check()
        self._db.execute(
            """CREATE TABLE sorted AS
               SELECT i.n AS image, r.n, object_id, coalesce(c.name, '') AS category, x1, y1, x2, y2, segmentation,
                      CASE WHEN reason <> '' THEN reason WHEN coalesce(c.name, '') = '' THEN 'category-unknown'
                           ELSE '' END AS reason
               FROM rows r JOIN images i USING (image_id)
               LEFT JOIN (SELECT id, last(name ORDER BY rowid) AS name FROM categories GROUP BY id) c
                    ON c.id = r.category_id
               ORDER BY image, r.n"""
        )
        reasons: dict[str, int] = {}
        partial = Path(self._place.name) / "index.parquet"
        with pq.ParquetWriter(partial, SCHEMA, **PARQUET) as writer:
            for start in range(0, self._counts["images"], IMAGES_A_GROUP):
                group = self._group(start)
                writer.write_table(group)
                for entry in pc.value_counts(pc.list_flatten(group["instances"]).combine_chunks().field("reason")):
                    reason = entry["values"].as_py()
                    reasons[reason] = reasons.get(reason, 0) + entry["counts"].as_py()
            index = Index(path, fingerprint, self._counts["images"], reasons, self._names())
            meta = {name: value for name, value in vars(index).items() if name != "path"}
            writer.add_key_value_metadata({"index": json.dumps({"version": VERSION} | meta)})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        return index

    def _names(self) -> tuple[str, ...]:
        names = self._db.execute(
            "SELECT DISTINCT name FROM (SELECT last(name ORDER BY rowid) AS name FROM categories GROUP BY id)"
        ).fetchall()
        return tuple(sorted(name for (name,) in names if name))

    def _group(self, start: int) -> pa.Table:
        """Images start to start + IMAGES_A_GROUP with their instances, cleaned."""
        span = [start, start + IMAGES_A_GROUP]
        select = """SELECT image_id, file, width, height, relative, coalesce(l.name, '') AS license
                    FROM images i LEFT JOIN (SELECT id, last(name ORDER BY rowid) AS name FROM licenses GROUP BY id) l
                         ON l.id = i.license
                    WHERE n >= ? AND n < ? ORDER BY n"""
        images = self._db.sql(select, params=span).to_arrow_table()
        select = "SELECT * FROM sorted WHERE image >= ? AND image < ? ORDER BY image, n"
        rows = self._db.sql(select, params=span).to_arrow_table().combine_chunks()
        owner = rows["image"].to_numpy() - start
        counts = np.bincount(owner, minlength=len(images))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        ids = rows["object_id"]
        if pc.any(pc.equal(ids, "")).as_py():
            number = pa.array(np.arange(len(rows)) - offsets[owner]).cast(pa.string())
            named = pc.binary_join_element_wise(images["image_id"].take(pa.array(owner)), number, "/")
            ids = pc.if_else(pc.equal(ids, ""), named, ids)
        columns = {name: rows[name] for name in INSTANCE.names} | {"object_id": ids}
        columns["reason"] = clean(rows, owner, images)
        parts = [_one(columns[field.name]).cast(field.type) for field in INSTANCE]
        nested = pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(parts, fields=list(INSTANCE)))
        asked = pa.array([[]] * len(images), SCHEMA.field("asked").type)
        return pa.table([*(images[field.name].cast(field.type) for field in _IMAGES), asked, nested], schema=SCHEMA)

    def _check(self) -> None:
        for table, name in (("images", "image"), ("rows", "annotation")):
            key = "image_id" if table == "images" else "object_id"
            twice = f"SELECT {key} FROM {table} WHERE {key} <> '' GROUP BY {key} HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
            if found := self._db.execute(twice).fetchone():
                raise ValueError(f"{name} id {found[0]} appears twice; ids must be unique")
        strays = "FROM rows WHERE image_id NOT IN (SELECT image_id FROM images)"
        if count := self._number(f"SELECT count(*) {strays}"):
            first = self._db.execute(f"SELECT image_id {strays} ORDER BY n LIMIT 1").fetchone()
            raise ValueError(
                f"{count} annotations name images that the file does not list "
                f"(first image_id: {first[0] if first else ''}); the file is incomplete"
            )

    def _flush(self, name: str, schema: pa.Schema) -> None:
        if pending := self._pending[name]:
            columns = zip(*pending, strict=True)
            self._insert(name, pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema))
            pending.clear()

    def _insert(self, name: str, table: pa.Table) -> None:
        start = self._counts[name]
        numbered = table.add_column(0, "n", pa.array(np.arange(start, start + len(table))))
        self._db.register("batch", numbered)
        self._db.execute(f"INSERT INTO {name} SELECT * FROM batch")
        self._db.unregister("batch")
        self._counts[name] += len(table)

    def _number(self, query: str) -> int:
        found = self._db.execute(query).fetchone()
        return int(found[0]) if found else 0


def clean(rows: pa.Table, owner: NDArray[np.int64], images: pa.Table) -> pa.Array:
    """The reason of each row: its own, or `box-invalid`, `box-empty`, `box-outside` (where the size of the image is
    known), `duplicate` (class and box as of an earlier clean row of its image), in this order; "" for a clean row.

    rows: [n] columns of INSTANCE; owner: [n] row of `images` that each belongs to.
    """
    box = np.stack([rows[name].to_numpy() for name in _BOX], axis=1)
    reason = _one(rows["reason"]).to_numpy(zero_copy_only=False).astype(object)
    free = reason == ""

    def refuse(which: NDArray[np.bool_], why: str) -> None:
        reason[free & which] = why
        free[which] = False

    with np.errstate(invalid="ignore"):
        refuse(~np.isfinite(box).all(axis=1), "box-invalid")
        refuse((box[:, 2] <= box[:, 0]) | (box[:, 3] <= box[:, 1]), "box-empty")
        relative = images["relative"].to_numpy()[owner]
        width = np.where(relative, 1, images["width"].to_numpy()[owner])
        height = np.where(relative, 1, images["height"].to_numpy()[owner])
        outside = (box[:, 0] >= width) | (box[:, 1] >= height) | (box[:, 2] <= 0) | (box[:, 3] <= 0)
        refuse(outside & (width > 0) & (height > 0), "box-outside")
    category = pc.dictionary_encode(_one(rows["category"])).indices.to_numpy(zero_copy_only=False)
    refuse(_repeats(np.column_stack([owner, category, box])[free], free), TWICE)
    return pa.array(reason, pa.string())


def _repeats(keys: NDArray[np.float64], among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows have the key of an earlier one. keys: [m, k] of the rows that `among` [n] marks; result: [n]."""
    found = np.zeros(len(among), np.bool_)
    if len(keys) > 1:
        order = np.lexsort(keys.T[::-1])  # stable: the earlier row of two comes first
        same = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
        found[np.flatnonzero(among)[order[1:][same]]] = True
    return found


def _one(column: pa.ChunkedArray) -> pa.Array:
    """As one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def with_reasons(batch: pa.RecordBatch, reasons: pa.Array) -> pa.RecordBatch:
    """The same images, their rows with these reasons."""
    rows = pc.list_flatten(batch["instances"])
    columns = [reasons if name == "reason" else pc.struct_field(rows, name) for name in INSTANCE.names]
    lengths = pc.list_value_length(batch["instances"]).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    nested = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=list(INSTANCE)))
    return pa.RecordBatch.from_arrays([*batch.columns[:-1], nested], schema=SCHEMA)


def batch_of(images: Sequence[SourceImage]) -> pa.RecordBatch:
    """These images as rows of SCHEMA."""
    return pa.RecordBatch.from_pylist([_to_row(image) for image in images], SCHEMA)


def images_of(batch: pa.RecordBatch | pa.Table) -> Iterable[SourceImage]:
    """The images in rows of SCHEMA."""
    return (_from_row(row) for row in batch.to_pylist())


def _to_row(image: SourceImage) -> dict[str, Any]:
    return {
        "image_id": image.image_id,
        "file": image.file,
        "width": image.width,
        "height": image.height,
        "relative": image.relative,
        "license": image.license,
        "asked": [asdict(query) | {"answers": list(query.answers)} for query in image.asked],
        "instances": [
            {
                "object_id": row.instance.object_id,
                "category": row.instance.category,
                **dict(zip(_BOX, row.instance.box, strict=True)),
                "segmentation": "" if row.instance.segmentation is None else json.dumps(row.instance.segmentation),
                "reason": row.reason,
            }
            for row in image.instances
        ],
    }


def _from_row(row: dict[str, Any]) -> SourceImage:
    instances = tuple(
        SourceInstance(
            Instance(
                object_id=r["object_id"],
                category=r["category"],
                box=(r["x1"], r["y1"], r["x2"], r["y2"]),
                segmentation=json.loads(r["segmentation"]) if r["segmentation"] else None,
            ),
            r["reason"],
        )
        for r in row["instances"]
    )
    asked = tuple(SourceQuery(**query | {"answers": tuple(query["answers"])}) for query in row["asked"])
    return SourceImage(**{name: row[name] for name in _IMAGES.names}, instances=instances, asked=asked)
