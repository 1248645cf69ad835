"""The plan: which images each shard holds, written once to `plan.parquet`.

Every row of the source is in it, planned or left out with a reason: images with a planned row in the row groups of the
shards, the others in groups of their own. Workers read the rows of their shard, so that nothing but a shard number
travels, and a resumed run starts at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sketchgen.index import PARQUET, SCHEMA, images_of, with_reasons
from sketchgen.output import PLAN
from sketchgen.selection import Selection, SelectionConfig
from sketchgen.source import SourceImage
from sketchgen.storage import Storage

IMAGES_A_GROUP = 4096
"""Images of a row group, about: a row group holds whole shards, and a worker reads one to find its own."""


@dataclass(frozen=True)
class Plan:
    """What a run has to do. `left_out` counts source rows by the reason that keeps them out."""

    shards: int
    images: int
    """With a planned instance, or a question of their source: those of the shards."""
    instances: int
    left_out: dict[str, int]
    images_per_shard: int
    spare: int
    """Images without a planned instance: in the file, in no shard."""
    groups: tuple[int, ...]
    """Row groups of the file that hold the shards, in order."""
    asked: int = 0
    """Questions that the source itself asks."""


def write_plan(
    batches: Callable[[], Iterable[pa.RecordBatch]],
    images_per_shard: int,
    storage: Storage,
    select: SelectionConfig | None = None,
) -> Plan:
    """Write the plan of a source and return its totals.

    batches: gives the images of the source from the first, each time it is called, as rows of `sketchgen.index.SCHEMA`.
    Raises ValueError when the source holds no image with an instance or a question that is planned.
    """
    selection = Selection(select or SelectionConfig(), batches)
    group = images_per_shard * max(1, IMAGES_A_GROUP // images_per_shard)
    reasons: Counter[str] = Counter()
    with storage.replacing(PLAN) as path, pq.ParquetWriter(path, SCHEMA, **PARQUET) as writer:
        shards, spare = _Groups(writer, group), _Groups(writer, IMAGES_A_GROUP)
        written = 0
        mine: list[int] = []
        asked = 0
        for batch in batches():
            found, planned = selection.apply(batch)
            questions = pc.struct_field(pc.list_flatten(batch["asked"]), "reason")
            asked += pc.sum(pc.equal(questions, "")).as_py() or 0
            for entry in pc.value_counts(questions.filter(pc.not_equal(questions, ""))).to_pylist():
                reasons[entry["values"]] += entry["counts"]
            for entry in pc.value_counts(found).to_pylist():
                reasons[entry["values"]] += entry["counts"]
            batch = with_reasons(batch, found)
            for groups, taken in ((shards, planned), (spare, ~planned)):
                new = groups.add(batch.filter(pa.array(taken)))
                mine += range(written, written + new) if groups is shards else ()
                written += new
        new = shards.end()
        mine += range(written, written + new)
        spare.end()
        planned_rows = reasons.pop("", 0)
        plan = Plan(
            shards=-(-shards.images // images_per_shard),
            images=shards.images,
            instances=planned_rows,
            left_out=dict(reasons),
            images_per_shard=images_per_shard,
            spare=spare.images,
            groups=tuple(mine),
            asked=asked,
        )
        if not shards.images:
            left = f" ({sum(reasons.values()):,} rows, all left out: {dict(reasons)})" if reasons else ""
            raise ValueError(f"the source has no image with an annotation{left}: nothing to work on")
        writer.add_key_value_metadata({"plan": json.dumps(asdict(plan))})
    return plan


def read_plan(storage: Storage) -> Plan:
    """Totals of the plan in the output folder."""
    with storage.open(PLAN) as file:
        return _totals(pq.ParquetFile(file), storage)


def read_shard_plan(storage: Storage, shard: int) -> Iterator[SourceImage]:
    """The images of one shard."""
    with storage.open(PLAN) as file:
        table = pq.ParquetFile(file)
        plan = _totals(table, storage)
        shards_a_group = max(1, IMAGES_A_GROUP // plan.images_per_shard)
        rows = table.read_row_group(plan.groups[shard // shards_a_group])
    start = shard % shards_a_group * plan.images_per_shard
    return iter(images_of(rows.slice(start, plan.images_per_shard)))


def planned_ids(storage: Storage) -> Iterator[tuple[int, list[str]]]:
    """(shard, ids of its planned objects) of every shard, in order."""
    for shard, column in _by_shard(storage, "instances"):
        part = pc.list_flatten(column).combine_chunks()
        kept = part.filter(pc.equal(pc.struct_field(part, "reason"), ""))
        yield shard, pc.struct_field(kept, "object_id").to_pylist()


def planned_images(storage: Storage) -> Iterator[tuple[int, list[str]]]:
    """(shard, ids of its images) of every shard, in order."""
    for shard, column in _by_shard(storage, "image_id"):
        yield shard, column.to_pylist()


def _by_shard(storage: Storage, name: str) -> Iterator[tuple[int, pa.ChunkedArray]]:
    """(shard, a column of the images of it) of every shard, in order."""
    with storage.open(PLAN) as file:
        table = pq.ParquetFile(file)
        plan = _totals(table, storage)
        shard = 0
        for group in plan.groups:
            column = table.read_row_group(group, columns=[name])[name]
            for start in range(0, len(column), plan.images_per_shard):
                yield shard, column.slice(start, plan.images_per_shard)
                shard += 1


def _totals(table: pq.ParquetFile, storage: Storage) -> Plan:
    try:
        fields = json.loads(table.metadata.metadata[b"plan"])
        return Plan(**fields | {"groups": tuple(fields["groups"])})
    except (KeyError, TypeError):
        raise ValueError(f"{storage.url}/{PLAN} was made by another version: choose another --out") from None


class _Groups:
    """Images that become row groups of one size, as they come."""

    def __init__(self, writer: pq.ParquetWriter, size: int) -> None:
        self._writer, self._size = writer, size
        self._held: list[pa.RecordBatch] = []
        self.images = 0

    def add(self, batch: pa.RecordBatch) -> int:
        """Take images; returns how many row groups were written."""
        self.images += len(batch)
        self._held.append(batch)
        if sum(map(len, self._held)) < self._size:
            return 0
        table = pa.Table.from_batches(self._held, SCHEMA)
        whole = len(table) // self._size
        for number in range(whole):
            self._writer.write_table(table.slice(number * self._size, self._size))
        rest = table.slice(whole * self._size)
        self._held = rest.combine_chunks().to_batches() if len(rest) else []
        return whole

    def end(self) -> int:
        """Write what is left, as a smaller group."""
        table = pa.Table.from_batches(self._held, SCHEMA)
        self._held = []
        if len(table):
            self._writer.write_table(table)
        return int(len(table) > 0)
