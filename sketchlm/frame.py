"""Frames: pixels of the stored image to the numbers in an answer, and back; one place for both.

LLaVA-1.5 pads an image to a centred square before it looks at it, and the boxes that it was taught are
shares of that square (`padded`, see PAPER.md on figure vqa-examples). `image` means shares of the
image itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Frame = Literal["padded", "image"]
FILL = (122, 116, 104)
"""int(mean * 255) of CLIP's mean: what LLaVA-1.5 pads with, RGB."""


def pad_to_square(image: NDArray[np.uint8], fill: Sequence[int] | int = FILL) -> NDArray[np.uint8]:
    """The image in the middle of a square of its longer side.

    image: [H, W, 3] uint8, or [H, W] (a mask, with one number to fill). An odd rest goes below and to the right, as
    in LLaVA's `expand2square`.
    """
    height, width = image.shape[:2]
    side = max(height, width)
    if height == width:
        return image
    square = np.empty((side, side, *image.shape[2:]), np.uint8)
    square[:] = np.asarray(fill, np.uint8)
    left, top = _offset(width, height)
    square[top : top + height, left : left + width] = image
    return square


def to_frame(box: Sequence[float], size: tuple[int, int], frame: Frame) -> tuple[float, float, float, float]:
    """xyxy pixels of an image of `size` (width, height) to shares in [0, 1] of the frame."""
    (left, top), (across, down) = _extent(size, frame)
    x1, y1, x2, y2 = box
    return ((x1 + left) / across, (y1 + top) / down, (x2 + left) / across, (y2 + top) / down)


def from_frame(box: Sequence[float], size: tuple[int, int], frame: Frame) -> tuple[float, float, float, float]:
    """Shares of the frame to xyxy pixels of the image, clipped to it."""
    (left, top), (across, down) = _extent(size, frame)
    width, height = size
    x1, y1, x2, y2 = box
    return (
        min(max(x1 * across - left, 0.0), width),
        min(max(y1 * down - top, 0.0), height),
        min(max(x2 * across - left, 0.0), width),
        min(max(y2 * down - top, 0.0), height),
    )


def _offset(width: int, height: int) -> tuple[int, int]:
    side = max(width, height)
    return (side - width) // 2, (side - height) // 2


def _extent(size: tuple[int, int], frame: Frame) -> tuple[tuple[int, int], tuple[int, int]]:
    if frame == "image":
        return (0, 0), size
    return _offset(*size), (max(size), max(size))
