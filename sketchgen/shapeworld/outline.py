"""Outlines: the strokes of a shape, hidden lines removed, as a careful hand would draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.shapeworld.shapes import Part, Points

_CANVAS = 160
"""Side of the canvas on which it is looked up what hides what, pixels."""
_SPAN = 144
"""Longer side of the shape on it."""
SPACING = 0.018
"""Distance between the points of a stroke, shape units (the longer side is 1)."""
_LEAST = 4
"""Points of a visible run at least."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """points: [n, 2], n >= 2, evenly spaced; level: of its part; closed: it ends where it began."""

    points: Points
    level: int
    closed: bool


def outline(parts: Sequence[Part], level: int) -> list[Stroke]:
    """The strokes of all parts up to `level`, scaled so that the longer side of the shape is 1, around 0."""
    points = np.concatenate([part.points for part in parts if part.solid])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = 1 / float((high - low).max())
    shapes = [(part.points - (low + high) / 2) * scale for part in parts]
    covers = [_cover(shape) if part.solid else None for part, shape in zip(parts, shapes, strict=True)]
    strokes = []
    for number, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        if part.level > level:
            continue
        line = _evenly(shape, part.closed)
        above = [
            cover
            for other, cover in enumerate(covers)
            if cover is not None
            and other != number
            and (other > number or (part.solid and part.group and parts[other].group == part.group))
        ]
        strokes += [Stroke(run, part.level, closed) for run, closed in _visible(line, above, part.closed)]
    return strokes


def _cover(shape: Points) -> NDArray[np.uint8]:
    """Where a solid hides lines [canvas, canvas]: its inside without its own edge."""
    canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
    corners = [np.rint((shape * _SPAN + _CANVAS / 2) * 16).astype(np.int32)]
    cv2.fillPoly(canvas, corners, 1, cv2.LINE_8, 4)
    cv2.polylines(canvas, corners, True, 0, 1, cv2.LINE_8, 4)
    return canvas


def _evenly(shape: Points, closed: bool) -> Points:
    """Points at equal distances along the line; a closed one comes back to its first point."""
    line = np.concatenate([shape, shape[:1]]) if closed else shape
    steps = np.hypot(*(line[1:] - line[:-1]).T)
    along = np.concatenate([[0], np.cumsum(steps)])
    count = max(2, int(along[-1] / SPACING) + 1)
    places = np.linspace(0, along[-1], count)
    return np.stack([np.interp(places, along, line[:, 0]), np.interp(places, along, line[:, 1])], axis=1)


def _visible(line: Points, above: list[NDArray[np.uint8]], closed: bool) -> list[tuple[Points, bool]]:
    """The runs of the line that none of the covers hides, each with whether it is closed."""
    if not above:
        return [(line, closed)]
    cells = np.clip((line * _SPAN + _CANVAS / 2 + 0.5).astype(np.int64), 0, _CANVAS - 1)
    hidden = np.zeros(len(line), bool)
    for cover in above:
        hidden |= cover[cells[:, 1], cells[:, 0]] > 0
    if not hidden.any():
        return [(line, closed)]
    if hidden.all():
        return []
    if closed:  # begin at a hidden point, so that no run is cut in two
        first = int(np.argmax(hidden))
        line, hidden = np.roll(line[:-1], -first, axis=0), np.roll(hidden[:-1], -first)
    bounds = np.flatnonzero(np.diff(np.concatenate([[True], hidden, [True]]).astype(np.int8)))
    return [
        (line[start:end], False)
        for start, end in zip(bounds[::2].tolist(), bounds[1::2].tolist(), strict=True)
        if end - start >= _LEAST
    ]
