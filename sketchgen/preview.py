"""Previews: what happened to an instance, in one strip of pictures, for the report."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sketchgen.checks import Reject, clip_box
from sketchgen.picture import Item, Picture
from sketchgen.storage import PREVIEWS, Storage

TILE = 192
"""Side of one panel, pixels."""
PANELS = ("photo and box", "mask", "strokes", "edges", "sketch")
BOX_COLOUR = (230, 57, 70)
MASK_COLOUR = (46, 134, 222)


@dataclass(frozen=True)
class Preview:
    """One instance of the report; `jpeg` holds the PANELS from left to right."""

    image_id: str
    object_id: str
    category: str
    reason: str
    detail: str
    jpeg: bytes


def draw_preview(picture: Picture, item: Item) -> Preview:
    """The panels of one instance; a stage that was not reached stays blank."""
    panels = [
        *_photo_panels(picture, item),
        *(_square(stage) for stage in (item.strokes, item.edges, item.sketch)),
    ]
    ok, jpeg = cv2.imencode(".jpg", cv2.cvtColor(np.hstack(panels), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert ok, "OpenCV could not encode a preview"
    row = item.row
    return Preview(row.image_id, row.object_id, row.category, row.reason, row.detail, jpeg.tobytes())


def _photo_panels(picture: Picture, item: Item) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The surroundings of the box with the box drawn, and the same with the mask tinted."""
    blank = np.full((TILE, TILE, 3), 245, np.uint8)
    if picture.photo is None:
        return blank, blank
    height, width = picture.photo.rgb.shape[:2]
    box = clip_box(item.instance.box, width, height, 0)
    if isinstance(box, Reject):
        return _square(picture.photo.rgb), blank
    x1, y1, x2, y2 = box
    side = 1.35 * max(x2 - x1, y2 - y1, 16)
    scale = TILE / side
    left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
    move = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]], np.float64)
    photo = cv2.warpAffine(picture.photo.rgb, move, (TILE, TILE), flags=cv2.INTER_AREA, borderValue=(245, 245, 245))
    masked = photo.copy()
    if item.mask is not None and item.mask.area:
        shift = move.copy()
        shift[:, 2] += move[:, :2] @ [item.mask.x, item.mask.y]
        inside = cv2.warpAffine(item.mask.bits.astype(np.uint8) * 255, shift, (TILE, TILE)) > 127
        masked[~inside] = (0.35 * masked[~inside] + 160).astype(np.uint8)
        rim = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        masked[rim] = MASK_COLOUR
    else:
        masked = blank
    corners = [((x - left) * scale, (y - top) * scale) for x, y in ((x1, y1), (x2, y2))]
    (ax, ay), (bx, by) = [(round(x), round(y)) for x, y in corners]
    cv2.rectangle(photo, (ax, ay), (bx, by), BOX_COLOUR, 2)
    return photo, masked


def _square(picture: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Any picture, fitted onto a TILE x TILE square."""
    tile = np.full((TILE, TILE, 3), 255 if picture is not None else 245, np.uint8)
    if picture is None:
        return tile
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    scale = TILE / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    top, left = (TILE - small.shape[0]) // 2, (TILE - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile


def write_previews(storage: Storage, shard: int, previews: list[Preview]) -> None:
    """Write `previews/NNNNNN.parquet`, nothing where there are none."""
    if previews:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([asdict(preview) for preview in previews]), buffer)
        storage.write(f"{PREVIEWS}/{shard:06d}.parquet", buffer.getvalue())


def preview_counts(storage: Storage) -> dict[str, int]:
    """How many previews each shard's file holds, in the order of the plan."""
    counts = {}
    for name in storage.names(PREVIEWS):
        with storage.open(name) as file:
            counts[name] = pq.ParquetFile(file).metadata.num_rows
    return counts


def read_previews(storage: Storage, numbers: dict[str, int]) -> Iterator[Preview]:
    """The first previews of each file: name -> how many."""
    for name, number in numbers.items():
        for row in pq.read_table(io.BytesIO(storage.read(name))).slice(0, number).to_pylist():
            yield Preview(**row)
