"""Verification of an output: every file against its record, every sample against the contract, every planned instance
against the ledgers."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import IO, Any, cast

from PIL import Image
from pydantic import ValidationError

from data_manifests.schema import MAX_ROWS, STRIP_SIDE, Completion, validate
from sketchgen.ledger import LedgerRow, read_ledger
from sketchgen.output import RECORD, shard_name
from sketchgen.plan import planned_ids
from sketchgen.storage import Storage

MEMBERS = ("jpg", "json", "sketches.png")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of the output."""

    file: str
    what: str


def verify(storage: Storage) -> Iterator[tuple[int, list[Problem]]]:
    """(shard, its problems) of every shard of the plan, in order; at last (-1, those of files that no plan knows).

    A shard that was not made yet is a problem as well. Raises ValueError for a folder without a plan that can be read,
    and OSError for a disk or network that fails.
    """
    sizes = storage.sizes()
    known = set()
    for shard, ids in planned_ids(storage):
        known.add(shard)
        yield shard, list(_check_shard(storage, shard, ids, sizes))
    strays = [name for name in sizes if RECORD.fullmatch(name) and int(name.removesuffix(".json")) not in known]
    yield -1, [Problem(name, "belongs to no shard of the plan") for name in strays]


def _check_shard(storage: Storage, shard: int, ids: list[str], sizes: dict[str, int]) -> Iterator[Problem]:
    names = {kind: shard_name(shard, kind) for kind in ("json", "tar", "parquet")}
    absent = [name for name in names.values() if name not in sizes]
    if names["json"] in absent:
        yield Problem(names["json"], "is missing: this shard is not made yet, run the same command to make it")
        return
    for name in absent:
        yield Problem(name, "is missing: remove the shard's .json and run the same command to make it again")
    try:
        record = Completion.model_validate_json(storage.read(names["json"]))
    except ValidationError as error:
        yield Problem(names["json"], f"is no completion record ({error.errors()[0]['msg']})")
        return
    if record.shard != shard:
        yield Problem(names["json"], f"is the record of shard {record.shard}")
    rows: list[LedgerRow] | None = None
    if names["parquet"] not in absent:
        rows, problems = _check_ledger(storage, names["parquet"], record, ids)
        yield from problems
    if names["tar"] in absent:
        return
    if sizes[names["tar"]] != record.tar_bytes:
        yield Problem(names["tar"], f"has {sizes[names['tar']]:,} bytes, had {record.tar_bytes:,} when it was made")
        return
    yield from _check_tar(storage, names["tar"], record, rows)


def _check_ledger(
    storage: Storage, name: str, record: Completion, ids: list[str]
) -> tuple[list[LedgerRow] | None, list[Problem]]:
    data = storage.read(name)
    if (seen := hashlib.sha256(data).hexdigest()) != record.ledger_sha256:
        return None, [Problem(name, f"its bytes have changed: sha256 {seen}, was {record.ledger_sha256}")]
    rows = read_ledger(io.BytesIO(data))
    problems = []
    listed, planned = Counter(row.object_id for row in rows), Counter(ids)
    if lost := planned - listed:
        problems.append(Problem(name, f"lacks {lost.total():,} planned instances, the first is {next(iter(lost))}"))
    if extra := listed - planned:
        problems.append(
            Problem(name, f"has {extra.total():,} rows that are not planned, the first is {next(iter(extra))}")
        )
    written = sum(row.status == "written" for row in rows)
    if (written, len(rows) - written) != (record.written, record.rejected):
        problems.append(
            Problem(
                name,
                f"has {written:,} written and {len(rows) - written:,} rejected rows, the record counts "
                f"{record.written:,} and {record.rejected:,}",
            )
        )
    return rows, problems


def _check_tar(storage: Storage, name: str, record: Completion, rows: list[LedgerRow] | None) -> Iterator[Problem]:
    with storage.open(name) as file:
        if (seen := hashlib.file_digest(cast(BufferedReader, file), "sha256").hexdigest()) != record.tar_sha256:
            yield Problem(name, f"its bytes have changed: sha256 {seen}, was {record.tar_sha256} when it was made")
            return
        file.seek(0)
        drawn: dict[str, int] = {}
        for key, members in _samples(file):
            try:
                drawn[key] = _check_sample(members)
            except (ValueError, OSError) as error:
                yield Problem(name, f"sample {key}: {error}")
    if len(drawn) != record.samples:
        yield Problem(name, f"holds {len(drawn):,} sound samples, the record counts {record.samples:,}")
    if rows is not None:
        claimed = Counter(row.key for row in rows if row.status == "written")
        if claimed != Counter(drawn):
            odd = next(key for key in {**claimed, **drawn} if claimed.get(key) != drawn.get(key))
            yield Problem(
                name, f"sample {odd} holds {drawn.get(odd, 0)} sketches, the ledger says {claimed.get(odd, 0)}"
            )


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


def _check_sample(members: dict[str, bytes]) -> int:
    """The number of its sketches. Raises ValueError for what is not as the contract says."""
    if tuple(sorted(members)) != MEMBERS:
        raise ValueError(f"holds {', '.join(sorted(members))}; must be {', '.join(MEMBERS)}")
    strip = _opened(members["sketches.png"], "PNG", STRIP_SIDE * STRIP_SIDE * MAX_ROWS)
    record = validate(members["json"], strip_height=strip.height)
    photo = _opened(members["jpg"], "JPEG", 1 << 30)
    if photo.size != (record.image.width, record.image.height):
        raise ValueError(f"its photo is {photo.size} (w, h), the json says {record.image.width}, {record.image.height}")
    return len(record.sketches)


def _opened(data: bytes, kind: str, pixels: int) -> Any:
    """The picture, its header read."""
    image = Image.open(io.BytesIO(data), formats=(kind,))
    if image.width * image.height > pixels:
        raise ValueError(f"its {kind} claims {image.width}x{image.height} pixels")
    return image
