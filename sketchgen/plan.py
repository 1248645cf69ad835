"""The plan: which images each shard holds, written once to `plan.parquet`, one row group a shard.

Every row of the source is in it with a status, planned or left out with a reason. Workers read their
own row group, so that nothing but a shard number travels, and a resumed run starts at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sketchgen.instance import Instance
from sketchgen.output import PLAN
from sketchgen.source import SourceImage, SourceInstance
from sketchgen.storage import Storage

_INSTANCE = pa.struct(
    [
        ("object_id", pa.string()),
        ("category", pa.string()),
        ("box", pa.list_(pa.float64())),
        ("segmentation", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)
_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("file", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("license", pa.string()),
        ("instances", pa.list_(_INSTANCE)),
    ]
)


@dataclass(frozen=True)
class Plan:
    """What a run has to do. `left_out` counts source rows by the reason that keeps them out."""

    shards: int
    images: int
    instances: int
    left_out: dict[str, int]


def write_plan(images: Iterable[SourceImage], images_per_shard: int, storage: Storage) -> None:
    """Write the plan; images without a planned instance keep their rows but cost no decoding.

    Raises ValueError when the source holds no image with an instance.
    """
    with storage.replacing(PLAN) as path:
        with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
            stream, empty = iter(images), True
            while group := list(islice(stream, images_per_shard)):
                writer.write_table(pa.Table.from_pylist([_to_row(i) for i in group], _SCHEMA))
                empty = False
        if empty:
            raise ValueError("the source has no image with an annotation: nothing to sketch")


def read_plan(storage: Storage) -> Plan:
    """Totals of the plan in the output folder."""
    with storage.open(PLAN) as file:
        table = pq.ParquetFile(file)
        counts: Counter[str] = Counter()
        for batch in table.iter_batches(columns=["instances.list.element.status", "instances.list.element.reason"]):
            rows = batch.column(0).flatten()
            for status, reason in zip(rows.field(0).to_pylist(), rows.field(1).to_pylist(), strict=True):
                counts["" if status == "planned" else reason] += 1
        planned = counts.pop("", 0)
        return Plan(table.num_row_groups, table.metadata.num_rows, planned, dict(counts))


def read_shard_plan(storage: Storage, shard: int) -> Iterator[SourceImage]:
    """The images of one shard."""
    with storage.open(PLAN) as file:
        rows = pq.ParquetFile(file).read_row_group(shard).to_pylist()
    return (_from_row(row) for row in rows)


def _to_row(image: SourceImage) -> dict[str, Any]:
    return {
        "image_id": image.image_id,
        "file": image.file,
        "width": image.width,
        "height": image.height,
        "license": image.license,
        "instances": [
            {
                "object_id": row.instance.object_id,
                "category": row.instance.category,
                "box": list(row.instance.box),
                "segmentation": "" if row.instance.segmentation is None else json.dumps(row.instance.segmentation),
                "status": row.status,
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
                box=tuple(r["box"]),
                segmentation=json.loads(r["segmentation"]) if r["segmentation"] else None,
            ),
            r["status"],
            r["reason"],
        )
        for r in row["instances"]
    )
    return SourceImage(row["image_id"], row["file"], row["width"], row["height"], row["license"], instances)
