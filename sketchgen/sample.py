"""Samples of the sketch shards: what is known of a picture, and its sketches, in the form of the contract."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from data_manifests.schema import MAX_ROWS, SCHEMA_VERSION
from sketchgen.checks import Reject, clip_box
from sketchgen.instance import Instance
from sketchgen.picture import Item, Picture
from sketchgen.segmentation import encode, rescale
from sketchgen.shard import ShardWriter
from sketchgen.source import TWICE

NO_MASK = {"size": [0, 0], "counts": ""}


def add_picture(writer: ShardWriter, picture: Picture, source: str, style: str, generator: str) -> None:
    """Write the samples of one image (one for each MAX_ROWS sketches) and its ledger rows."""
    writer.images += 1
    alive = [item for item in picture.items if item.alive]
    for item in alive:
        item.row.status = "written"
    objects = _objects(picture) if alive else []
    for start in range(0, len(alive), MAX_ROWS):
        items = alive[start : start + MAX_ROWS]
        record = {
            "schema": SCHEMA_VERSION,
            "image": _image(picture, source),
            "objects": objects,
            "sketches": _sketches(items, source, style, generator),
            "queries": [],
        }
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
        assert picture.photo is not None
        key = writer.add(picture.photo.jpeg, [item.sketch for item in items if item.sketch is not None], text)
        for number, item in enumerate(items):
            item.row.key, item.row.row = key, number
    writer.rows += [item.row for item in picture.items]


def object_record(
    instance: Instance, mask: dict[str, Any] | None, status: str, width: int, height: int
) -> dict[str, Any] | None:
    """An object as the sample stores it; None where its box means nothing.

    instance in pixels of the stored photo, width x height; the box may reach outside. mask: as `encode` gives it, None
    where there is none.
    """
    box = clip_box(instance.box, width, height, 0)
    if isinstance(box, Reject):
        return None
    corners = [round(value, 2) for value in box]
    if corners[0] == corners[2] or corners[1] == corners[3]:  # thinner than what is stored
        return None
    return {
        "object_id": instance.object_id,
        "category": instance.category,
        "box": corners,
        "mask": mask or NO_MASK,
        "status": status,
    }


def _image(picture: Picture, source: str) -> dict[str, Any]:
    assert picture.photo is not None
    height, width = picture.photo.rgb.shape[:2]
    return {
        "source": source,
        "id": picture.source.image_id,
        "width": width,
        "height": height,
        "license": picture.source.license,
    }


def _objects(picture: Picture) -> list[dict[str, Any]]:
    """Facts of every object of the image whose box means something, planned or not."""
    assert picture.photo is not None
    height, width = picture.photo.rgb.shape[:2]
    items = {item.instance.object_id: item for item in picture.items}
    records = []
    for row in picture.source.instances:
        if row.reason == TWICE:
            continue
        item = items.get(row.instance.object_id)
        instance = rescale(row.instance, picture.photo.scale)
        mask = item.mask if item is not None and item.alive else None
        status = item.row.status if item is not None else row.status
        packed = None if mask is None else encode(mask, width, height)
        records.append(object_record(instance, packed, status, width, height))
    return [record for record in records if record is not None]


def _sketches(items: Sequence[Item], source: str, style: str, generator: str) -> list[dict[str, Any]]:
    return [
        {
            "row": number,
            "sketch_id": f"{source}/{item.instance.object_id}",
            "category": item.instance.category,
            "source": f"sketchvcl-{source}",
            "style": style,
            "object_id": item.instance.object_id,
            "generator": generator,
        }
        for number, item in enumerate(items)
    ]
