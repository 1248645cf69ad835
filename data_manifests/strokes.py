"""Strokes: polylines to the image of a sketch, dark on white. Sketch banks and the library draw with it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws with."""
INK = 20
"""Grey value of a stroke: a pencil, not a black hole."""


def rasterise(
    strokes: Sequence[NDArray[np.float32]], side: int = 256, width: float = 3.0, margin: int = 12, fit: bool = True
) -> NDArray[np.uint8]:
    """Draw polylines as a square sketch.

    strokes: [n, 2] xy, y down, in any units; a stroke of one point is a dot, an empty one nothing.
    side, width, margin: pixels. fit: scaled with aspect kept so that the points span the square within
    `margin`, and centred; without it the units are pixels already.
    Returns [side, side] uint8: antialiased dark lines on white (255); blank if there is no point.
    Raises ValueError for points that are not [n, 2] or not finite, or a margin that leaves no room.
    """
    if side <= 2 * margin or width <= 0:
        raise ValueError(f"a sketch of {side} px has no room for margins of {margin} px and lines of {width:g} px")
    strokes = [np.repeat(stroke, 2, axis=0) if len(stroke) == 1 else stroke for stroke in strokes if len(stroke)]
    if not strokes:
        return np.full((side, side), 255, np.uint8)
    points = np.concatenate(strokes).astype(np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"strokes must be finite [n, 2] points, see shape {points.shape}")
    if fit:
        points = fitted(points, side, margin)
    lengths = np.cumsum([len(stroke) for stroke in strokes])[:-1]
    return draw_lines(np.split(points, lengths), side, width)


def fitted(points: NDArray[np.float64], side: int, margin: int) -> NDArray[np.float64]:
    """The points [n, 2] scaled with aspect kept, and centred, so that they span the square within `margin` pixels."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max())
    scale = (side - 2 * margin) / span if span > 0 else 0.0
    return (points - (low + high) / 2) * scale + side / 2


def draw_lines(lines: Sequence[NDArray[np.float64]], side: int, width: float) -> NDArray[np.uint8]:
    """Antialiased lines, [n, 2] pixels each, on a white square: drawn twice as large, then halved."""
    canvas = np.full((2 * side, 2 * side), 255, np.uint8)
    # pixel centres: what covers pixel 0 of the sketch are the pixels 0 and 1 of the canvas
    whole = [np.rint((line * 2 - 0.5) * (1 << _SHIFT)).astype(np.int32) for line in lines]
    cv2.polylines(canvas, whole, False, INK, max(1, round(2 * width)), cv2.LINE_8, _SHIFT)
    return np.asarray(cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA))
