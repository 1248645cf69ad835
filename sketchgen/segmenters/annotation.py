"""The masks that a source ships: COCO polygons and run-length encodings, made into cropped masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from sketchgen.instance import Instance, Mask, crop_to_content

EMPTY = Mask(0, 0, np.zeros((0, 0), np.bool_))


class AnnotationSegmenter:
    """Reads `Instance.segmentation`; boxes and pixels are ignored, so a mask may leave its box.

    No segmentation, an empty and a malformed one (odd number of coordinates, NaN, a run-length
    encoding of another image size, ...) all give a mask with area 0. Masks have no score (-1).
    """

    def segment(self, images: Sequence[NDArray[np.uint8]], instances: Sequence[Sequence[Instance]]) -> list[list[Mask]]:
        """See `sketchgen.segmenter.Segmenter`."""
        return [
            [read_segmentation(instance.segmentation, *image.shape[:2]) for instance in of_image]
            for image, of_image in zip(images, instances, strict=True)
        ]


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
    if not all(_is_polygon(polygon, height, width) for polygon in polygons):
        return EMPTY
    # fewer than three points enclose nothing (and four numbers mean a box in C)
    parts = [[float(value) for value in polygon] for polygon in polygons if len(polygon) >= 6]
    if not parts:
        return EMPTY
    # C turns an outline into runs of the whole image without drawing it. Shifted to the corner of the
    # polygon it would round some ties differently.
    runs = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
    counts = _unpack(runs["counts"], height * width)
    assert counts is not None
    return _read_runs(counts, height, width)


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
