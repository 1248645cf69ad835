"""An instance: one annotated object of an image, and its mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""Absolute xyxy pixels of the image that it belongs to."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotated object.

    `segmentation` is what the source ships: COCO polygons (list of flat xy lists), a COCO RLE dict
    (compressed or not), or None. Its pixels times `scale` (x, y) are those of `box`; it is scaled only
    by who reads it (sketchgen.segmentation).
    """

    object_id: str
    category: str
    box: Box
    segmentation: Any = field(default=None, repr=False)
    scale: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Mask:
    """Boolean mask of one instance, cropped: `bits[row, col]` is pixel (x + col, y + row) of the image.

    Full-size masks cost memory and time (an image has ~11 instances), so nobody makes them.
    `score` is the segmenter's own confidence in [0, 1]; -1 where it has none.
    """

    x: int
    y: int
    bits: NDArray[np.bool_]
    score: float = -1.0

    @property
    def area(self) -> int:
        """Number of true pixels."""
        return int(np.count_nonzero(self.bits))


def crop_to_content(bits: NDArray[np.bool_], x: int = 0, y: int = 0, score: float = -1.0) -> Mask:
    """The mask of `bits` [h, w], whose corner is pixel (x, y) of the image, cut to its true pixels.

    The result owns its memory, so a large array that it was cut from can go. No true pixel: area 0.
    """
    rows, cols = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
    if len(rows) == 0:
        return Mask(x, y, np.zeros((0, 0), np.bool_), score)
    top, left = int(rows[0]), int(cols[0])
    return Mask(x + left, y + top, bits[top : rows[-1] + 1, left : cols[-1] + 1].copy(), score)
