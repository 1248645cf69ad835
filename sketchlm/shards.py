"""Shards as the loader sees them: found by their completion records, checked, indexed, read by offset.

A tar without a completion record did not happen. One scan of a tar's headers tells where each sample
lies, so that any sample is one read, whatever was read before: that is what makes resuming instant.
`webdataset` gives the same samples (a test compares), but can only walk through them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from tarfile import BLOCKSIZE

from fsspec.core import url_to_fs

from data_manifests.schema import SCHEMA_VERSION, STRIP_SIDE, Completion, Sample, validate

RECORD = re.compile(r"\d{6,}\.json")
MEMBERS = ("jpg", "sketches.png", "json")
NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
"""Of a member: the key, and what follows the first dot of the base name, as in `webdataset`."""
END = bytes(BLOCKSIZE)
"""What closes a tar."""
REMEDY = "copy or make the shard again, or go on without it with broken='skip'"
PNG_HEAD = struct.Struct(">8sI4sIIBB")
START_OF_FRAME = {0xC0, 0xC1, 0xC2}
"""JPEG markers that carry the size: baseline, extended, progressive."""


class ShardError(ValueError):
    """A shard, or a sample of one, that is not what the contract says. Names it, and the remedy."""


def broken(place: str, what: str) -> ShardError:
    """The error for a place (URL of a shard, with the key of a sample behind it)."""
    return ShardError(f"{place}: {what}; {REMEDY}")


@dataclass(frozen=True)
class Shard:
    """A finished shard: the URL of its tar, and its completion record."""

    url: str
    record: Completion


@dataclass(frozen=True)
class Folder:
    """What a folder of shards holds. unfinished: tars without a completion record, which do not count;
    broken: reasons by URL of completion records that cannot be read.
    """

    url: str
    shards: tuple[Shard, ...]
    unfinished: tuple[str, ...]
    broken: dict[str, ShardError]


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample as stored. url: of its shard; jpg, strip: the files of photo and sketches, not yet decoded."""

    key: str
    url: str
    jpg: bytes = field(repr=False)
    strip: bytes = field(repr=False)
    record: Sample


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a sample lies in its tar. spans: (offset, size) in bytes of its files, by member name."""

    key: str
    spans: dict[str, tuple[int, int]]


def read_folder(url: str) -> Folder:
    """Find the finished shards of a folder (local path or fsspec URL), in the order of their numbers.

    Raises ValueError for a folder that cannot be read or holds no finished shard, and for a shard of
    another schema version.
    """
    url = url.rstrip("/")
    if url.endswith(".tar"):
        raise ValueError(f"{url} is one file of shards: give the folder that holds it, with its records")
    try:
        fs, root = url_to_fs(url)
        names = sorted(name.rstrip("/").rpartition("/")[2] for name in fs.ls(root, detail=False, refresh=True))
        found = [name for name in names if RECORD.fullmatch(name)]
        with ThreadPoolExecutor(16) as pool:  # an object store takes tens of milliseconds for each of thousands
            texts = list(pool.map(lambda name: fs.cat_file(f"{root}/{name}"), found))
    except FileNotFoundError:
        raise ValueError(f"there is no folder of shards {url}: make them first, or give another") from None
    except (ImportError, ValueError, OSError) as error:
        raise ValueError(f"cannot read the shards of {url!r}: {error}; make them first, or give their folder") from None
    shards, bad = [], {}
    for name, text in zip(found, texts, strict=True):
        place = f"{url}/{name}"
        try:
            shards.append(Shard(f"{url}/{name.removesuffix('.json')}.tar", _completion(place, text)))
        except ShardError as error:
            bad[place] = error
    tars = {name.removesuffix(".tar") for name in names if name.endswith(".tar")}
    unfinished = sorted(tars - {name.removesuffix(".json") for name in found})
    if not found:
        half = f" ({len(unfinished)} without a completion record: not finished)" if unfinished else ""
        below = [name for name in names if fs.isdir(f"{root}/{name}")]
        hint = f"give one of its folders, {url}/{below[0]} say" if below else "make some first, or give another folder"
        raise ValueError(f"{url} holds no finished shard{half}: {hint}")
    shards.sort(key=lambda shard: shard.record.shard)
    return Folder(url, tuple(shards), tuple(unfinished), bad)


def _completion(place: str, text: bytes) -> Completion:
    try:
        raw = json.loads(text)
        version = raw["schema"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise broken(place, f"is no completion record ({type(error).__name__}: {error})") from None
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{place}: field `schema` is {version!r}, this sketchlm reads {SCHEMA_VERSION}: "
            "make the shards again with the sketchgen that came with it, or install the version that fits them"
        )
    try:
        record = Completion.model_validate_json(text)
    except ValueError as error:
        raise broken(place, f"is no completion record ({error})") from None
    if record.shard != int(Path(place).stem):
        raise broken(place, f"is the completion record of shard {record.shard}")
    return record


def check_bytes(path: Path, shard: Shard) -> None:
    """Compare a tar's sha256 with its completion record; raises ShardError."""
    with open_tar(path, shard) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != shard.record.tar_sha256:
        raise broken(
            shard.url, f"its bytes have changed: sha256 is {digest}, was {shard.record.tar_sha256} when it was made"
        )


@contextmanager
def open_tar(path: Path, shard: Shard) -> Iterator[BufferedReader]:
    """Open a tar of the right size; raises ShardError, also when the block cannot read on."""
    try:
        size = path.stat().st_size
        if size != shard.record.tar_bytes:
            raise broken(shard.url, f"has {size} bytes, {shard.record.tar_bytes} when it was made")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise broken(shard.url, f"cannot be read ({error})") from None


def index_tar(path: Path, shard: Shard) -> list[Entry]:
    """Where each sample of a tar lies, in the order of the tar, from one scan of its headers.

    A sample may lack a file (reading it then says so); everything else that is not as it was written
    raises ShardError: damaged headers, a cut, samples whose files are apart, another number of samples.
    """
    entries: dict[str, Entry] = {}
    last = ""
    for name, span in _members(path, shard):
        match = NAME.fullmatch(name)
        if match is None:
            continue  # no file of a sample, to `webdataset` as to us
        key, extension = match.groups()
        if key != last and key in entries:
            raise broken(shard.url, f"the files of sample {key!r} do not lie together")
        entry = entries.setdefault(key, Entry(key, {}))
        last = key
        if extension in entry.spans:
            raise broken(shard.url, f"holds {name!r} twice")
        if extension in MEMBERS:
            entry.spans[extension] = span
    if len(entries) != shard.record.samples:
        raise broken(shard.url, f"holds {len(entries)} samples, its completion record counts {shard.record.samples}")
    return list(entries.values())


def _members(path: Path, shard: Shard) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name and (offset, size) of each file of a tar. Strict where `tarfile` ends quietly at damage."""
    with open_tar(path, shard) as file:
        offset = 0
        while (block := os.pread(file.fileno(), BLOCKSIZE, offset)) != END:
            try:
                name, size = _header(block)
            except ValueError as error:
                raise broken(shard.url, f"is no sound tar at byte {offset} ({error})") from None
            end = offset + BLOCKSIZE + size
            if not offset + BLOCKSIZE <= end <= shard.record.tar_bytes:
                raise broken(shard.url, f"ends within {name!r}")
            yield name, (offset + BLOCKSIZE, size)
            offset = -(-end // BLOCKSIZE) * BLOCKSIZE


def _header(block: bytes) -> tuple[str, int]:
    """Name and size of the plain file whose ustar header this is; ValueError if it is anything else.

    A third of the time of `tarfile.TarInfo.frombuf`, which was half of what a shard's index costs.
    """
    if len(block) != BLOCKSIZE:
        raise ValueError(f"the header has {len(block)} bytes")
    if _octal(block[148:156]) != sum(block[:148]) + sum(b" " * 8) + sum(block[156:]):
        raise ValueError("the header's checksum is wrong")
    name, prefix = (field.partition(b"\0")[0].decode(errors="replace") for field in (block[:100], block[345:500]))
    if block[156:157] not in (b"0", b"\0"):
        raise ValueError(f"{name!r} is no plain file (type {block[156:157]!r})")
    return f"{prefix}/{name}" if prefix else name, _octal(block[124:136])


def _octal(field: bytes) -> int:
    return int(field.partition(b"\0")[0].strip(), 8)


def read_sample(path: Path, url: str, entry: Entry) -> RawSample:
    """Read one sample and check it against the contract; raises ShardError that names file and sample."""
    place = f"{url}: sample {entry.key}"
    if absent := [name for name in MEMBERS if name not in entry.spans]:
        raise broken(place, f"has no {' and no '.join(absent)}")
    spans = [entry.spans[name] for name in MEMBERS]
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            jpg, strip, text = (os.pread(handle, size, offset) for offset, size in spans)
        finally:
            os.close(handle)
    except OSError as error:
        raise broken(place, f"cannot be read ({error})") from None
    try:
        record = validate(text, strip_height=_strip_height(strip))
        size = _jpeg_size(jpg)
    except ValueError as error:
        raise broken(place, str(error)) from None
    if size != (record.image.width, record.image.height):
        raise broken(place, f"its photo is {size} (w, h), image.width and image.height say otherwise: {record.image}")
    return RawSample(entry.key, url, jpg, strip, record)


def read_samples(url: str) -> Iterator[RawSample]:
    """Every sample of a local folder of shards, in order, once: for evaluation. Raises ShardError at a broken one."""
    for shard in read_folder(url).shards:
        path = Path(shard.url)
        check_bytes(path, shard)
        for entry in index_tar(path, shard):
            yield read_sample(path, shard.url, entry)


def _strip_height(png: bytes) -> int:
    """Height of a strip in pixels, from its header; raises ValueError if it is no 8-bit grey PNG of STRIP_SIDE."""
    if len(png) < PNG_HEAD.size:
        raise ValueError(f"the strip has {len(png)} bytes: no PNG")
    magic, _, kind, width, height, depth, colour = PNG_HEAD.unpack_from(png)
    if magic != b"\x89PNG\r\n\x1a\n" or kind != b"IHDR":
        raise ValueError("the strip is no PNG")
    if (width, depth, colour) != (STRIP_SIDE, 8, 0):
        seen = f"{width} px wide, {depth} bit, colour type {colour}"
        raise ValueError(f"the strip is {seen}; must be {STRIP_SIDE} px wide, 8 bit, grey (type 0)")
    return int(height)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a JPEG from its headers; raises ValueError if there is none."""
    offset = 2
    while data[:2] == b"\xff\xd8" and offset + 9 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker in START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return width, height
        if marker == 0xFF:  # padding before a marker
            offset += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # stand alone
            offset += 2
        else:
            offset += 2 + int.from_bytes(data[offset + 2 : offset + 4])
    raise ValueError("the photo is no JPEG whose size can be told")
