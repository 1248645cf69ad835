"""The shard writer: tar, ledger and completion record, byte-identical for the same input."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import cv2
import numpy as np
import webdataset as wds

from data_manifests.schema import MAX_ROWS, SCHEMA_VERSION, Completion, validate
from sketchgen.checks import Reject, clip_box
from sketchgen.ledger import LedgerRow, write_ledger
from sketchgen.output import sha256_of, shard_name
from sketchgen.picture import Item, Picture
from sketchgen.preview import Preview, write_previews
from sketchgen.segmentation import encode, rescale
from sketchgen.storage import Storage

NO_MASK = {"size": [0, 0], "counts": ""}


class ShardWriter:
    """Adds samples to an open tar, and collects the ledger."""

    def __init__(self, tar: Any, shard: int, source: str, style: str, generator: str) -> None:
        self._tar = tar
        self._shard = shard
        self._source = source
        self._style = style
        self._generator = generator
        self.rows: list[LedgerRow] = []
        self.previews: list[Preview] = []
        self.images = 0
        self.samples = 0

    def add(self, picture: Picture) -> None:
        """Write the samples of one image (one for each MAX_ROWS sketches) and its ledger rows."""
        self.images += 1
        alive = [item for item in picture.items if item.alive]
        for item in alive:
            item.row.status = "written"
        objects = _objects(picture) if alive else []
        for start in range(0, len(alive), MAX_ROWS):
            self._add_sample(picture, objects, alive[start : start + MAX_ROWS])
        self.rows += [item.row for item in picture.items]

    def _add_sample(self, picture: Picture, objects: list[dict[str, Any]], items: Sequence[Item]) -> None:
        assert picture.photo is not None
        key = f"{self._shard:06d}-{self.samples:05d}"
        self.samples += 1
        for number, item in enumerate(items):
            item.row.key, item.row.row = key, number
        strip = np.concatenate([item.sketch for item in items if item.sketch is not None])
        height, width = picture.photo.rgb.shape[:2]
        record = {
            "schema": SCHEMA_VERSION,
            "image": {
                "source": self._source,
                "id": picture.source.image_id,
                "width": width,
                "height": height,
                "license": picture.source.license,
            },
            "objects": objects,
            "sketches": [
                {
                    "row": number,
                    "sketch_id": f"{self._source}/{item.instance.object_id}",
                    "category": item.instance.category,
                    "source": f"sketchvcl-{self._source}",
                    "style": self._style,
                    "object_id": item.instance.object_id,
                    "generator": self._generator,
                }
                for number, item in enumerate(items)
            ],
            "queries": [],
        }
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
        validate(text, strip_height=strip.shape[0])  # our promise: what is written can be read
        ok, png = cv2.imencode(".png", strip)
        assert ok, f"OpenCV could not encode a strip of shape {strip.shape}"
        self._tar.write({"__key__": key, "jpg": picture.photo.jpeg, "sketches.png": png.tobytes(), "json": text})


def _objects(picture: Picture) -> list[dict[str, Any]]:
    """Facts of every object of the image whose box means something, planned or not."""
    assert picture.photo is not None
    height, width = picture.photo.rgb.shape[:2]
    items = {item.instance.object_id: item for item in picture.items}
    objects = []
    for row in picture.source.instances:
        item = items.get(row.instance.object_id)
        box = clip_box(rescale(row.instance, picture.photo.scale).box, width, height, 0)
        if isinstance(box, Reject):
            continue
        corners = [round(value, 2) for value in box]
        if corners[0] == corners[2] or corners[1] == corners[3]:  # thinner than what is stored
            continue
        mask = item.mask if item is not None and item.alive else None
        objects.append(
            {
                "object_id": row.instance.object_id,
                "category": row.instance.category,
                "box": corners,
                "mask": NO_MASK if mask is None else encode(mask, width, height),
                "status": item.row.status if item is not None else row.status,
            }
        )
    return objects


@contextmanager
def shard_writer(
    storage: Storage, shard: int, source: str, style: str, generator: str, mark: str
) -> Iterator[ShardWriter]:
    """A writer for one shard. Nothing is visible before the block ends cleanly; then the tar, the
    ledger, the previews and, last, the completion record appear. `mark` is the settings' fingerprint.
    """
    tar_name, ledger_name = shard_name(shard, "tar"), shard_name(shard, "parquet")
    with storage.replacing(tar_name) as tar_path, storage.replacing(ledger_name) as ledger_path:
        # encoder off: values are bytes already; mtime 0: the same input gives the same bytes
        with closing(wds.TarWriter(str(tar_path), encoder=False, mtime=0)) as tar:
            writer = ShardWriter(tar, shard, source, style, generator)
            yield writer
        write_ledger(writer.rows, ledger_path)
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
