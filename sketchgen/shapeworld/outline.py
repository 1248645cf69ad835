"""Outlines: the strokes of a shape, hidden lines removed, as a careful hand would draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.shapeworld.shapes import Part, Points, joined, parted, solid_box, steps

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
    points = joined(parts)
    low, high = solid_box(points, parts)
    shapes = parted((points - (low + high) / 2) / float((high - low).max()), parts)
    drawn = [number for number, part in enumerate(parts) if part.level <= level]
    lines = [_evenly(shapes[number], parts[number].closed) for number in drawn]
    strokes = []
    for number, line, hidden in zip(drawn, lines, _hidden(parts, shapes, drawn, lines), strict=True):
        closed = parts[number].closed
        strokes += [Stroke(run, parts[number].level, whole) for run, whole in _visible(line, hidden, closed)]
    return strokes


def _hidden(
    parts: Sequence[Part], shapes: list[Points], drawn: list[int], lines: list[Points]
) -> list[NDArray[np.bool_]]:
    """For each of the lines, which of its points lie under a later solid, or inside one of the same group."""
    solids = np.array([number for number, part in enumerate(parts) if part.solid])
    groups = np.array([part.group if part.solid else 0 for part in parts])
    covers = np.stack([_cover(shapes[number]) for number in solids]).reshape(len(solids), -1)
    later = solids[:, None] > drawn
    merged = (groups[solids, None] == groups[drawn]) & (groups[drawn] > 0) & (solids[:, None] != drawn)
    hides = later | merged  # [solids, drawn]
    cells = np.clip((np.concatenate(lines) * _SPAN + _CANVAS / 2 + 0.5).astype(np.int64), 0, _CANVAS - 1)
    under = covers[:, cells[:, 1] * _CANVAS + cells[:, 0]] > 0  # [solids, points]
    lengths = [len(line) for line in lines]
    hidden = (under & np.repeat(hides, lengths, axis=1)).any(axis=0)
    return np.split(hidden, np.cumsum(lengths)[:-1])


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
    pace = line[1:] - line[:-1]
    along = np.zeros(len(line))
    np.cumsum(np.hypot(pace[:, 0], pace[:, 1]), out=along[1:])
    count = max(2, int(along[-1] / SPACING + 1e-6) + 1)
    places = along[-1] * steps(count)
    points = np.empty((count, 2))
    points[:, 0] = np.interp(places, along, line[:, 0])
    points[:, 1] = np.interp(places, along, line[:, 1])
    return points


def _visible(line: Points, hidden: NDArray[np.bool_], closed: bool) -> list[tuple[Points, bool]]:
    """The runs of the line that are not hidden, each with whether it is closed."""
    if not hidden.any():
        return [(line, closed)]
    if hidden.all():
        return []
    if closed:  # begin at a hidden point, so that no run is cut in two
        first = int(np.argmax(hidden))
        line = np.concatenate([line[first:-1], line[:first]])
        hidden = np.concatenate([hidden[first:-1], hidden[:first]])
    bounds = np.flatnonzero(np.diff(np.concatenate([[True], hidden, [True]]).astype(np.int8)))
    return [
        (line[start:end], False)
        for start, end in zip(bounds[::2].tolist(), bounds[1::2].tolist(), strict=True)
        if end - start >= _LEAST
    ]
