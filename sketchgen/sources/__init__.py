"""The sources, and the way to read one: through its index, which is made once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from data_manifests.schema import source_manifest
from sketchgen.index import IMAGES_A_GROUP, VERSION, Index, IndexBuilder, batch_of, images_of, open_index
from sketchgen.shapeworld import CLASSES
from sketchgen.source import SourceConfig, SourceImage, annotation_files
from sketchgen.sources import coco, openimages, pixmo_count, shapeworld, sketchy, vqav2
from sketchgen.store import open_url

LISTED: dict[str, Any] = {"pixmo_count": pixmo_count, "vqav2": vqav2, "sketchy": sketchy}
"""Readers by kind of sources small enough to need no index: each has `read(config)`, which gives every image, and
`fingerprint(config)`."""
LINE_SECONDS = 15.0
"""Without a terminal (a log file, CI) a line this often replaces the live bar."""


def read_source(config: SourceConfig) -> Iterator[SourceImage]:
    """Every image of the source that has an instance, in the source's order.

    Raises ValueError or FileNotFoundError with what was expected and the remedy.
    """
    for batch in read_batches(config):
        yield from (image for image in images_of(batch) if image.instances)


def read_batches(config: SourceConfig, console: Console | None = None) -> Iterator[pa.RecordBatch]:
    """The same, images without an instance included, as rows of `sketchgen.index.SCHEMA`."""
    if (stream := _listed(config)) is not None:
        if config.limit:
            stream = islice(stream, config.limit)
        while images := list(islice(stream, IMAGES_A_GROUP)):
            yield batch_of(images)
        return
    left = config.limit
    for batch in index_of(config, console).batches():
        if config.limit:
            batch = _first_with_instances(batch, left)
            left -= len(batch)
        yield batch
        if config.limit and left <= 0:
            return


def source_fingerprint(config: SourceConfig, console: Console | None = None) -> str:
    """sha256 of the annotations, or of what generates them: two runs with the same one plan the same work."""
    if config.generated:
        return shapeworld.fingerprint(config.world)
    if reader := LISTED.get(source_manifest(config.name)[0].kind):
        return str(reader.fingerprint(config))
    return index_of(config, console).fingerprint


def categories_of(config: SourceConfig) -> Iterable[str]:
    """Every class that the source looked for, in its own spelling, sorted. Raises as `read_source`."""
    if config.generated:
        return CLASSES
    if (stream := _listed(config)) is not None:
        named = {name for image in stream for name in _names_in(image)}
        return sorted(named)
    return index_of(config).categories


def _listed(config: SourceConfig) -> Iterator[SourceImage] | None:
    """The images of a source that has no index; None for one that has."""
    if config.generated:
        return shapeworld.read(config.world)
    reader = LISTED.get(source_manifest(config.name)[0].kind)
    return reader.read(config) if reader else None


def _names_in(image: SourceImage) -> Iterator[str]:
    yield from (row.instance.category for row in image.instances)
    yield from (query.category for query in image.asked if query.category)


def index_of(config: SourceConfig, console: Console | None = None) -> Index:
    """The index of a source that is not generated, made first where it is missing or its files have changed.

    Raises ValueError or FileNotFoundError, with the remedy, for a source that cannot be read.
    """
    urls = [url for url in annotation_files(config) if url]
    folder = Path(config.index or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "sketchgen").expanduser()
    path = folder / f"{config.name}-{_key([VERSION, config.name, [_state(url) for url in urls]])}.parquet"
    if (found := open_index(path)) is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"cannot keep the index in {folder}: {error}; choose another --source.index") from None
    try:
        return _build(config, urls, path, console or Console(quiet=True))
    except ValueError as error:
        raise ValueError(f"{' with '.join(urls)}: {error}") from None
    except duckdb.Error as error:  # of its work files: a full disk, no memory
        raise OSError(f"cannot make the index in {folder}: {error}; choose another --source.index") from None


def _build(config: SourceConfig, urls: list[str], path: Path, console: Console) -> Index:
    kind = source_manifest(config.name)[0].kind
    columns = (TextColumn("indexing {task.fields[name]}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(*columns, console=console, transient=True))
        files = [stack.enter_context(_Hashed(url, bar)) for url in urls]
        builder = stack.enter_context(IndexBuilder(path.parent, relative=kind == "openimages"))
        streams = [cast(IO[bytes], file) for file in files]
        if kind == "openimages":
            openimages.collect(streams[0], streams[1], builder)
        else:
            coco.collect(streams[0], builder, config.packaged)
        mark = "+".join(file.finish() for file in files)
        index = builder.write(path, mark if len(files) == 1 else hashlib.sha256(mark.encode()).hexdigest())
    if not config.packaged:
        _say_size(config, index, console)
    return index


def _say_size(config: SourceConfig, index: Index, console: Console) -> None:
    """What was found, and whether that is what the manifest of a whole dataset expects."""
    name = f"{config.name} ({config.split})"
    rows = sum(index.reasons.values())
    console.print(f"indexed {name}: {index.images:,} images, {rows:,} rows, kept for later runs", soft_wrap=True)
    expected = source_manifest(config.name)[0].splits[config.split].expected.get("images", 0)
    if config.root and abs(index.images - expected) > 0.01 * expected:
        console.print(f"[yellow]its manifest expects {expected:,} images[/]: is the download whole?", soft_wrap=True)


def _first_with_instances(batch: pa.RecordBatch, count: int) -> pa.RecordBatch:
    there = batch.filter(pc.greater(pc.list_value_length(batch["instances"]), 0))
    return there.slice(0, count)


def _state(url: str) -> list[str]:
    """What changes when a file changes: its address, and size and time (or what a store has in their place)."""
    fs, path = open_url(url, "source.annotations")
    try:
        info = fs.info(path)
        # a store's own mark; of a local file it would change with its mode and links as well
        return [url, f"{info['size']} {info['mtime']}" if "mtime" in info else fs.ukey(path)]
    except FileNotFoundError:
        raise FileNotFoundError(f"{url} does not exist: source.annotations must name an annotation file") from None


def _key(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class _Hashed:
    """A file that is read once from start to end, hashed on the way and shown on a bar."""

    def __init__(self, url: str, bar: Progress) -> None:
        fs, path = open_url(url, "source.annotations")
        self._file = fs.open(path, "rb")
        self._hash = hashlib.sha256()
        self._bar, self._task = bar, bar.add_task("", total=fs.size(path), name=url.rpartition("/")[2])
        self._said = time.monotonic()
        self.closed = False

    def __enter__(self) -> _Hashed:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        data = bytes(self._file.read(size))
        self._hash.update(data)
        self._bar.update(self._task, advance=len(data))
        if not self._bar.console.is_terminal and time.monotonic() - self._said > LINE_SECONDS:
            self._said = time.monotonic()
            task = self._bar.tasks[self._task]
            self._bar.console.print(f"indexing {task.fields['name']}: {task.percentage:.0f} %", soft_wrap=True)
        return data

    def readable(self) -> bool:
        return True

    def finish(self) -> str:
        """sha256 of all of it, what no reader asked for included."""
        while self.read(8 * 1024**2):
            pass
        return self._hash.hexdigest()
