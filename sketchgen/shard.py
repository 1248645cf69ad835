"""The shard writer: tar, ledger and completion record, byte-identical for the same input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import webdataset as wds
from numpy.typing import NDArray

from data_manifests.schema import SCHEMA_VERSION, Completion, validate
from sketchgen.ledger import LedgerRow, QueryRow, write_ledger
from sketchgen.output import sha256_of, shard_name
from sketchgen.png import opencv_png
from sketchgen.preview import Preview, write_previews
from sketchgen.storage import Storage


class ShardWriter:
    """Adds samples to an open tar, and collects the rows of the ledger."""

    def __init__(self, tar: Any, shard: int) -> None:
        self._tar = tar
        self._shard = shard
        self.rows: list[Any] = []
        """Of the kind that `shard_writer` was told."""
        self.previews: list[Preview] = []
        self.images = 0
        self.samples = 0

    def add(
        self,
        jpeg: bytes,
        sketches: Sequence[NDArray[np.uint8]],
        record: bytes,
        encode: Callable[[NDArray[np.uint8]], bytes] = opencv_png,
    ) -> str:
        """Write one sample and return its key.

        jpeg: the photo; sketches: [STRIP_SIDE, STRIP_SIDE] uint8 each, one at least; record: the json
        as `data_manifests.schema.Sample` reads it; encode: the strip to PNG.
        """
        key = f"{self._shard:06d}-{self.samples:05d}"
        self.samples += 1
        strip = np.concatenate(sketches)
        validate(record, strip_height=strip.shape[0])  # our promise: what is written can be read
        self._tar.write({"__key__": key, "jpg": jpeg, "sketches.png": encode(strip), "json": record})
        return key

    def copy(self, key: str, jpeg: bytes, strip: bytes, record: bytes) -> None:
        """Write a sample of a finished shard under its own key, photo and strip as they were stored."""
        self.samples += 1
        validate(record)
        self._tar.write({"__key__": key, "jpg": jpeg, "sketches.png": strip, "json": record})


@contextmanager
def shard_writer(
    storage: Storage, shard: int, mark: str, kind: type[LedgerRow] | type[QueryRow] = LedgerRow
) -> Iterator[ShardWriter]:
    """A writer for one shard. Nothing is visible before the block ends cleanly; then the tar, the
    ledger, the previews and, last, the completion record appear. `mark` is the settings' fingerprint,
    `kind` what a row of the ledger is.
    """
    tar_name, ledger_name = shard_name(shard, "tar"), shard_name(shard, "parquet")
    with storage.replacing(tar_name) as tar_path, storage.replacing(ledger_name) as ledger_path:
        # encoder off: values are bytes already; mtime 0: the same input gives the same bytes
        with closing(wds.TarWriter(str(tar_path), encoder=False, mtime=0)) as tar:
            writer = ShardWriter(tar, shard)
            yield writer
        write_ledger(writer.rows, ledger_path, kind)
        written = sum(row.status == "written" for row in writer.rows)
        record = Completion(
            schema_=SCHEMA_VERSION,
            shard=shard,
            images=writer.images,
            samples=writer.samples,
            written=written,
            rejected=len(writer.rows) - written,
            tar_bytes=tar_path.stat().st_size,
            tar_sha256=sha256_of(tar_path),
            ledger_sha256=sha256_of(ledger_path),
            fingerprint=mark,
        )
    write_previews(storage, shard, writer.previews)
    text = json.dumps(record.model_dump(by_alias=True), indent=1) + "\n"
    storage.write(shard_name(shard, "json"), text.encode())
