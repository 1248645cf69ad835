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

    `segmentation` is what the source ships, in pixels of the same image as `box`: COCO polygons
    (list of flat xy lists), a COCO RLE dict (compressed or not), or None.
    """

    object_id: str
    category: str
    box: Box
    segmentation: Any = field(default=None, repr=False)


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
