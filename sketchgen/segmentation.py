"""COCO segmentations: polygons and run-length encodings to cropped masks and back, and their scaling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from sketchgen.instance import Instance, Mask, crop_to_content

EMPTY = Mask(0, 0, np.zeros((0, 0), np.bool_))


def encode(mask: Mask, width: int, height: int) -> dict[str, list[int] | str]:
    """The mask as `{"size": [height, width], "counts": "..."}` of the whole image (compressed COCO RLE).

    Equals `pycocotools.mask.encode` of the full-size mask. The empty mask is all background.
    """
    rows, cols = mask.bits.shape
    padded = np.zeros((rows + 2, cols), np.int8)
    padded[1:-1] = mask.bits
    steps = np.diff(padded, axis=0).T  # [cols, rows + 1]: column-major, as COCO runs
    offset = (np.arange(cols) + mask.x)[:, None] * height + mask.y
    position = offset + np.arange(rows + 1)[None, :]
    starts, ends = position[steps == 1], position[steps == -1]
    # a run that reaches the bottom of one column goes on at the top of the next
    joined = starts[1:] == ends[:-1]
    starts = starts[np.concatenate([[True], ~joined])[: len(starts)]]
    ends = ends[np.concatenate([~joined, [True]])[: len(ends)]]
    bounds = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [width * height]])
    counts = np.diff(bounds).tolist()
    if len(counts) > 1 and counts[-1] == 0:
        counts.pop()
    packed = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}


def read_segmentation(segmentation: Any, height: int, width: int) -> Mask:
    """The mask of a COCO `segmentation` in an image of height x width pixels; area 0 if it has none.

    Equals `COCO.annToMask` where that is defined. pycocotools takes what it gets into C without
    looking, so everything is checked before.
    """
    if isinstance(segmentation, list):
        return _read_polygons(segmentation, height, width)
    if isinstance(segmentation, dict) and _same_size(segmentation.get("size"), height, width):
        counts = segmentation.get("counts")
        if isinstance(counts, str):
            counts = counts.encode("ascii", errors="replace")
        if isinstance(counts, bytes):
            counts = _unpack(counts, height * width)
        if isinstance(counts, list):
            return _read_runs(counts, height, width)
    return EMPTY


def _same_size(size: Any, height: int, width: int) -> bool:
    return isinstance(size, (list, tuple)) and list(size) == [height, width]


def _read_polygons(polygons: list[Any], height: int, width: int) -> Mask:
    packed = _pack_polygons(polygons, height, width)
    counts = _unpack(packed, height * width) if packed else None
    return EMPTY if counts is None else _read_runs(counts, height, width)


def _pack_polygons(polygons: list[Any], height: int, width: int) -> bytes:
    """Polygons as a compressed RLE of the whole image; b"" where they enclose nothing."""
    if not all(_is_polygon(polygon, height, width) for polygon in polygons):
        return b""
    # fewer than three points enclose nothing (and four numbers mean a box in C)
    parts = [[float(value) for value in polygon] for polygon in polygons if len(polygon) >= 6]
    if not parts:
        return b""
    # C turns an outline into runs of the whole image without drawing it. Shifted to the corner of the
    # polygon it would round some ties differently.
    return bytes(coco_mask.merge(coco_mask.frPyObjects(parts, height, width))["counts"])


def _is_polygon(polygon: Any, height: int, width: int) -> bool:
    """Whether it is an even number of coordinates, none of them farther than one image side outside.

    The C code allocates memory for the length of the outline: coordinates of 1e9 would end the process.
    """
    if not isinstance(polygon, list) or len(polygon) % 2:
        return False
    if not all(isinstance(value, (int, float)) for value in polygon):
        return False
    # NaN fails every comparison
    return all(-width <= x <= 2 * width for x in polygon[::2]) and all(
        -height <= y <= 2 * height for y in polygon[1::2]
    )


def _unpack(packed: bytes, num_pixels: int) -> list[int] | None:
    """The run lengths of a compressed COCO RLE, None if it is broken.

    The code is LEB128-like: 6 bits a character from "0" on, five of them payload, the sixth "more
    follows"; from the fourth run on the difference to the run before the last one is stored.
    """
    counts: list[int] = []
    value = shift = 0
    for char in packed:
        bits = char - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # the sign of the last character's payload
            value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        if not 0 <= value <= num_pixels:
            return None
        counts.append(value)
        value = shift = 0
    return None if shift else counts


def _read_runs(counts: list[Any], height: int, width: int) -> Mask:
    """The mask of run lengths in column-major order, the first one of background."""
    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width:
        return EMPTY
    bounds = np.cumsum(np.array(counts, np.int64))
    starts, ends = bounds[:-1:2], bounds[1::2]
    drawn = ends > starts
    starts, ends = starts[drawn], ends[drawn]
    if len(starts) == 0:
        return EMPTY
    left, right = int(starts[0]) // height, (int(ends[-1]) - 1) // height + 1
    columns = np.zeros((right - left) * height, np.bool_)
    for start, end in zip(starts - left * height, ends - left * height, strict=True):
        columns[start:end] = True
    return crop_to_content(columns.reshape(right - left, height).T, left, 0)


def rescale(instance: Instance, scale: tuple[float, float]) -> Instance:
    """The instance in pixels of a photo that was scaled by (x, y)."""
    if scale == (1.0, 1.0):
        return instance
    x1, y1, x2, y2 = instance.box
    box = (x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1])
    return replace(instance, box=box, scale=(instance.scale[0] * scale[0], instance.scale[1] * scale[1]))


def read_mask(instance: Instance, height: int, width: int) -> Mask:
    """The mask that the source ships, in a photo of height x width pixels; area 0 if it has none."""
    found, scale = instance.segmentation, instance.scale
    if scale == (1.0, 1.0):
        return read_segmentation(found, height, width)
    if isinstance(found, list):
        return read_segmentation(_scaled(found, scale), height, width)
    # an RLE must be of the annotated size: the size that it claims itself may be anything
    mask = read_segmentation(found, round(height / scale[1]), round(width / scale[0]))
    return _scale_mask(mask, scale, height, width) if mask.area else EMPTY


def read_rle(instance: Instance, height: int, width: int) -> dict[str, Any] | None:
    """What `encode` makes of `read_mask`, mostly without drawing it; None where the source ships no mask."""
    found, scale = instance.segmentation, instance.scale
    size = [height, width]
    if isinstance(found, list):
        packed = _pack_polygons(_scaled(found, scale), height, width)
        is_empty = not packed or not coco_mask.area({"size": size, "counts": packed})
        return None if is_empty else {"size": size, "counts": packed.decode()}
    if isinstance(found, dict) and scale == (1.0, 1.0) and isinstance(found.get("counts"), str):
        if not _same_size(found.get("size"), height, width):
            return None
        packed = found["counts"].encode("ascii", errors="replace")
        counts = _unpack(packed, height * width)
        if counts is not None and sum(counts) == height * width and all(counts[1:]):  # else the runs are tidied first
            return {"size": size, "counts": packed.decode()} if len(counts) > 1 else None
    mask = read_mask(instance, height, width)
    return encode(mask, width, height) if mask.area else None


def _scale_mask(mask: Mask, scale: tuple[float, float], height: int, width: int) -> Mask:
    """The mask in the scaled photo; its corner keeps its fraction of a pixel."""
    corner = (mask.x * scale[0], mask.y * scale[1])
    x, y = int(corner[0]), int(corner[1])
    size = (
        min(width - x, int(np.ceil(corner[0] + mask.bits.shape[1] * scale[0])) - x),
        min(height - y, int(np.ceil(corner[1] + mask.bits.shape[0] * scale[1])) - y),
    )
    move = np.array([[scale[0], 0, corner[0] - x], [0, scale[1], corner[1] - y]])
    # pixel centres, not corners, are what warpAffine maps
    move[:, 2] += (move[:, 0] + move[:, 1] - 1) / 2
    bits = cv2.warpAffine(mask.bits.astype(np.float32), move, size, flags=cv2.INTER_AREA) > 0.5
    return crop_to_content(bits, x, y)


def _scaled(polygons: list[Any], scale: tuple[float, float]) -> list[Any]:
    if scale == (1.0, 1.0):
        return polygons
    return [
        [value * scale[n % 2] for n, value in enumerate(polygon)] if _is_numbers(polygon) else polygon
        for polygon in polygons
    ]


def _is_numbers(polygon: Any) -> bool:
    return isinstance(polygon, list) and all(isinstance(value, int | float) for value in polygon)
