"""COCO segmentations: run-length encoding of cropped masks without making the full-size one, and scaling."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from sketchgen.instance import Instance, Mask


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


def rescale(instance: Instance, scale: tuple[float, float], width: int, height: int) -> Instance:
    """The instance in pixels of a photo that was scaled by (x, y) to `width` x `height`."""
    if scale == (1.0, 1.0):
        return instance
    sx, sy = scale
    x1, y1, x2, y2 = instance.box
    return Instance(
        instance.object_id,
        instance.category,
        (x1 * sx, y1 * sy, x2 * sx, y2 * sy),
        _rescale_segmentation(instance.segmentation, scale, width, height),
    )


def _rescale_segmentation(segmentation: Any, scale: tuple[float, float], width: int, height: int) -> Any:
    if isinstance(segmentation, list):
        return [
            [value * scale[n % 2] for n, value in enumerate(polygon)] if _is_numbers(polygon) else polygon
            for polygon in segmentation
        ]
    return segmentation


def _is_numbers(polygon: Any) -> bool:
    return isinstance(polygon, list) and all(isinstance(value, int | float) for value in polygon)
