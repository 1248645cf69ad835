"""Verification of an output: every file against its record, every sample against the contract, and all that was planned
and asked against the ledgers."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from typing import IO, Any, cast

import pyarrow as pa
from PIL import Image
from pydantic import ValidationError

from data_manifests.schema import MAX_ROWS, STRIP_SIDE, Completion, Query, Sample, validate
from sketchgen.ledger import LedgerRow, QueryRow, read_ledger, read_query_ledger
from sketchgen.output import RECORD, SETTINGS, fingerprint, shard_name
from sketchgen.plan import planned_ids, planned_images
from sketchgen.storage import Storage

MEMBERS = ("jpg", "json", "sketches.png")
AGAIN = "remove the shard's .json and run the same command to make it again"


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of the output."""

    file: str
    what: str


@dataclass(frozen=True)
class Kind:
    """What shards of sketches and those of queries do not have in common."""

    planned: Callable[[Storage], Iterator[tuple[int, list[str]]]]
    """(shard, ids of what its ledger has to tell of)."""
    read: Callable[[object], Sequence[Any]]
    """The rows of an open ledger."""
    check_ledger: Callable[[Sequence[Any], Completion, list[str]], Iterator[str]]
    """What is wrong with the rows of a shard, given its record and the planned ids."""
    note: Callable[[Sample], Any]
    """What of a sample is compared with the ledger."""
    check_samples: Callable[[dict[str, Any], Sequence[Any]], Iterator[str]]
    """What is wrong with the samples of a shard (notes by key), given the rows of its ledger."""


def verify(storage: Storage) -> Iterator[tuple[int, list[Problem]]]:
    """(shard, its problems) of every shard of the plan, in order; at last (-1, those of files that no plan knows).

    A shard that was not made yet is a problem as well. Raises ValueError for a folder without settings and a plan that
    can be read, and OSError for a disk or network that fails.
    """
    sizes = storage.sizes()
    settings = read_settings(storage)
    kind, mark = (QUERIES if holds_queries(settings) else SKETCHES), fingerprint(settings)
    known = set()
    for shard, ids in kind.planned(storage):
        known.add(shard)
        yield shard, list(_check_shard(storage, shard, ids, sizes, kind, mark))
    strays = [name for name in sizes if RECORD.fullmatch(name) and int(name.removesuffix(".json")) not in known]
    yield -1, [Problem(name, "belongs to no shard of the plan") for name in strays]


def read_settings(storage: Storage) -> dict[str, Any]:
    """The settings that a folder was made with. Raises ValueError where there are none that can be read."""
    try:
        settings = json.loads(storage.read(SETTINGS))
    except FileNotFoundError:
        raise ValueError(f"{storage.url} holds no {SETTINGS}: it is no output of sketchgen") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{storage.url}/{SETTINGS} is damaged ({error}): copy it again") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{storage.url}/{SETTINGS} is damaged (it holds {settings!r:.40}): copy it again")
    return settings


def holds_queries(settings: dict[str, Any]) -> bool:
    """Whether they are of `make instructions` or `make describe`; else of `make sketches`."""
    return "tasks" in settings or "captioner" in settings


def _check_shard(
    storage: Storage, shard: int, ids: list[str], sizes: dict[str, int], kind: Kind, mark: str
) -> Iterator[Problem]:
    names = {suffix: shard_name(shard, suffix) for suffix in ("json", "tar", "parquet")}
    absent = [name for name in names.values() if name not in sizes]
    if names["json"] in absent:
        yield Problem(names["json"], "is missing: this shard is not made yet, run the same command to make it")
        return
    for name in absent:
        yield Problem(name, f"is missing: {AGAIN}")
    try:
        record = Completion.model_validate_json(storage.read(names["json"]))
    except ValidationError as error:
        yield Problem(names["json"], f"is no completion record ({error.errors()[0]['msg']})")
        return
    if record.shard != shard:
        yield Problem(names["json"], f"is the record of shard {record.shard}")
    if record.fingerprint != mark:
        yield Problem(names["json"], f"was made with settings {record.fingerprint}, those of the folder are {mark}")
    rows: Sequence[Any] | None = None
    if names["parquet"] not in absent:
        rows, problems = _check_ledger(storage, names["parquet"], record, ids, kind)
        yield from problems
    if names["tar"] in absent:
        return
    if sizes[names["tar"]] != record.tar_bytes:
        yield Problem(names["tar"], f"has {sizes[names['tar']]:,} bytes, had {record.tar_bytes:,} when it was made")
        return
    yield from _check_tar(storage, names["tar"], record, rows, kind)


def _check_ledger(
    storage: Storage, name: str, record: Completion, ids: list[str], kind: Kind
) -> tuple[Sequence[Any] | None, list[Problem]]:
    data = storage.read(name)
    if (seen := hashlib.sha256(data).hexdigest()) != record.ledger_sha256:
        return None, [Problem(name, f"its bytes have changed: sha256 {seen}, was {record.ledger_sha256}")]
    try:
        rows = kind.read(io.BytesIO(data))
    except (TypeError, pa.ArrowException) as error:
        return None, [Problem(name, f"is no ledger of such shards ({error}): {AGAIN}")]
    problems = list(kind.check_ledger(rows, record, ids))
    written = sum(row.status == "written" for row in rows)
    if (written, len(rows) - written) != (record.written, record.rejected):
        problems.append(
            f"has {written:,} written and {len(rows) - written:,} rejected rows, the record counts "
            f"{record.written:,} and {record.rejected:,}"
        )
    return rows, [Problem(name, what) for what in problems]


def _check_tar(
    storage: Storage, name: str, record: Completion, rows: Sequence[Any] | None, kind: Kind
) -> Iterator[Problem]:
    with storage.open(name) as file:
        if (seen := hashlib.file_digest(cast(BufferedReader, file), "sha256").hexdigest()) != record.tar_sha256:
            yield Problem(name, f"its bytes have changed: sha256 {seen}, was {record.tar_sha256} when it was made")
            return
        file.seek(0)
        notes: dict[str, Any] = {}
        try:
            for key, members in _samples(file):
                try:
                    notes[key] = kind.note(_check_sample(members))
                except (ValueError, OSError, Image.DecompressionBombError) as error:
                    yield Problem(name, f"sample {key}: {error}")
        except tarfile.TarError as error:
            yield Problem(name, f"cannot be read to its end ({error}): {AGAIN}")
    if len(notes) != record.samples:
        yield Problem(name, f"holds {len(notes):,} sound samples, the record counts {record.samples:,}")
    if rows is not None:
        for what in kind.check_samples(notes, rows):
            yield Problem(name, what)


def _samples(file: IO[bytes]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, its files by extension), in the order of the tar."""
    members: dict[str, bytes] = {}
    last = ""
    with tarfile.open(fileobj=file, mode="r|") as tar:
        for entry in tar:
            key, _, extension = entry.name.partition(".")
            if key != last and members:
                yield last, members
                members = {}
            last = key
            content = tar.extractfile(entry)
            members[extension] = content.read() if content else b""
    if members:
        yield last, members


def _check_sample(members: dict[str, bytes]) -> Sample:
    """The sample. Raises ValueError for what is not as the contract says."""
    if tuple(sorted(members)) != MEMBERS:
        raise ValueError(f"holds {', '.join(sorted(members))}; must be {', '.join(MEMBERS)}")
    strip = _opened(members["sketches.png"], "PNG", STRIP_SIDE * STRIP_SIDE * MAX_ROWS)
    record = validate(members["json"], strip_height=strip.height)
    photo = _opened(members["jpg"], "JPEG", 1 << 30)
    if photo.size != (record.image.width, record.image.height):
        raise ValueError(f"its photo is {photo.size} (w, h), the json says {record.image.width}, {record.image.height}")
    return record


def _opened(data: bytes, kind: str, pixels: int) -> Any:
    """The picture, its header read."""
    image = Image.open(io.BytesIO(data), formats=(kind,))
    if image.width * image.height > pixels:
        raise ValueError(f"its {kind} claims {image.width}x{image.height} pixels")
    return image


# --- shards of sketches: a row of the ledger for every planned instance


def _check_instances(rows: Sequence[LedgerRow], record: Completion, ids: list[str]) -> Iterator[str]:
    listed, planned = Counter(row.object_id for row in rows), Counter(ids)
    if lost := planned - listed:
        yield f"lacks {lost.total():,} planned instances, the first is {next(iter(lost))}"
    if extra := listed - planned:
        yield f"has {extra.total():,} rows that are not planned, the first is {next(iter(extra))}"


def _check_drawn(drawn: dict[str, int], rows: Sequence[LedgerRow]) -> Iterator[str]:
    """drawn: sketches of each sample."""
    claimed = Counter(row.key for row in rows if row.status == "written")
    if claimed != Counter(drawn):
        odd = next(key for key in {**claimed, **drawn} if claimed.get(key) != drawn.get(key))
        yield f"sample {odd} holds {drawn.get(odd, 0)} sketches, the ledger says {claimed.get(odd, 0)}"


SKETCHES = Kind(planned_ids, read_ledger, _check_instances, lambda sample: len(sample.sketches), _check_drawn)


# --- shards of queries: a row for every query, and a row that says why for every image without one


def _check_images(rows: Sequence[QueryRow], record: Completion, ids: list[str]) -> Iterator[str]:
    listed, planned = dict.fromkeys(row.image_id for row in rows), dict.fromkeys(ids)
    if lost := [image for image in planned if image not in listed]:
        yield f"lacks {len(lost):,} planned images, the first is {lost[0]}"
    if extra := [image for image in listed if image not in planned]:
        yield f"has rows of {len(extra):,} images that are not planned, the first is {extra[0]}"
    if record.images != len(ids):
        yield f"is of {len(ids):,} images, the record counts {record.images:,}"
    if odd := [row for row in rows if not _is_sound(row, record.shard)]:
        yield (
            f"has {len(odd):,} rows that contradict themselves, the first of image {odd[0].image_id}: shard "
            f"{odd[0].shard}, {odd[0].status!r}, reason {odd[0].reason!r}, key {odd[0].key!r}, query_id "
            f"{odd[0].query_id!r}"
        )


def _is_sound(row: QueryRow, shard: int) -> bool:
    """Whether it tells of a query in a sample, or why there is none."""
    told = (bool(row.key), bool(row.query_id), bool(row.task), not row.reason)
    return row.shard == shard and told == {"written": (True,) * 4, "rejected": (False,) * 4}.get(row.status)


def _facts_of(sample: Sample) -> list[tuple[str, dict[str, Any]]]:
    """(query_id, what the ledger says of it as well) of each query."""
    return [(query.query_id, _facts(sample, query)) for query in sample.queries]


def _facts(sample: Sample, query: Query) -> dict[str, Any]:
    sketch = sample.sketches[query.row] if query.row >= 0 else None
    facts = {
        "image_id": sample.image.id,
        "task": query.task,
        "category": query.category,
        "row": query.row,
        "sketch_id": sketch.sketch_id if sketch else "",
        "sketch_source": sketch.source if sketch else "",
        "count": query.count,
        "boxes": len(query.boxes),
        "words": len(query.answers[0].split()),
        "answer_source": query.answer_source,
    }
    return facts | ({"match": query.match} if query.task == "sbir" else {})  # of others the ledger reads the answer


def _check_asked(asked: dict[str, list[tuple[str, dict[str, Any]]]], rows: Sequence[QueryRow]) -> Iterator[str]:
    """asked: queries of each sample."""
    if silent := [key for key, queries in asked.items() if not queries]:
        yield f"holds {len(silent):,} samples without a query, the first is {silent[0]}"
    there = Counter((key, query_id) for key, queries in asked.items() for query_id, _ in queries)
    claimed = Counter((row.key, row.query_id) for row in rows if row.status == "written")
    for what, places in (
        ("queries that the ledger lacks", there - claimed),
        ("queries too few: the ledger has more", claimed - there),
        ("queries whose id their sample has twice", Counter({place: n - 1 for place, n in there.items() if n > 1})),
    ):
        if places:
            key, query_id = next(iter(places))
            yield f"has {places.total():,} {what}, the first is {query_id} of sample {key}"
    told = {(row.key, row.query_id): row for row in rows if row.status == "written"}
    differ = [
        f"{query_id} of sample {key}: {name} is {value!r}, the ledger says {getattr(told[key, query_id], name)!r}"
        for key, queries in asked.items()
        for query_id, facts in queries
        for name, value in facts.items()
        if (key, query_id) in told and getattr(told[key, query_id], name) != value
    ]
    if differ:
        yield f"differs from the ledger in {len(differ):,} facts, the first is of query {differ[0]}"


QUERIES = Kind(planned_images, read_query_ledger, _check_images, _facts_of, _check_asked)
