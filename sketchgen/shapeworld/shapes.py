"""Shapes: the vector parts that a class is made of, painted in scenes and drawn in sketches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""[n, 2] xy, y down; objects are about one unit large."""

BASE, SECOND, DARK, LIGHT = range(4)
"""Tones of a part: which colour of the object's palette."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an object; later parts lie on top of earlier ones.

    solid: it belongs to the silhouette and hides what lies under it; else it is a mark on a solid.
    level: 0 = in every sketch, 1 = from the middle level on, 2 = only where all is drawn, 3 = painted, never drawn.
    group: solids of one group (not 0) flow together: no line between them.
    width: of an open mark's line, as painted.
    """

    points: Points
    closed: bool
    solid: bool
    tone: int
    level: int
    group: int
    width: float


def solid(points: Points, tone: int = BASE, level: int = 0, group: int = 0) -> Part:
    """A filled part of the silhouette."""
    return Part(points, True, True, tone, level, group, 0.0)


def patch(points: Points, tone: int = LIGHT, level: int = 1) -> Part:
    """A filled mark: a window, an eye."""
    return Part(points, True, False, tone, level, 0, 0.0)


def line(points: Points, level: int = 1, width: float = 0.025, tone: int = DARK) -> Part:
    """An open mark: a seam, a whisker."""
    return Part(points, False, False, tone, level, 0, width)


def at(*xy: float) -> Points:
    """Points from a flat list x, y, x, y, ..."""
    return np.array(xy, np.float64).reshape(-1, 2)


@cache
def steps(count: int) -> NDArray[np.float64]:
    """`count` numbers from 0 to 1, evenly spaced; shared, so not to be changed."""
    return np.linspace(0.0, 1.0, count)


_CIRCLE = np.stack([np.cos(2 * math.pi * steps(37)), np.sin(2 * math.pi * steps(37))], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float = 0.0, tilt: float = 0.0) -> Points:
    """A closed ellipse; ry 0 = a circle; tilt in degrees, clockwise on screen."""
    points = _CIRCLE[:-1] * (rx, ry or rx)
    return (turned(points, tilt) if tilt else points) + (x, y)


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float, count: int = 15) -> Points:
    """An open arc; angles in degrees, 0 = right, 90 = down."""
    angle = math.radians(start) + math.radians(end - start) * steps(count)
    points = np.empty((count, 2))
    points[:, 0] = x + rx * np.cos(angle)
    points[:, 1] = y + ry * np.sin(angle)
    return points


def rectangle(x1: float, y1: float, x2: float, y2: float) -> Points:
    """Four corners, clockwise from the top left."""
    return at(x1, y1, x2, y1, x2, y2, x1, y2)


def rounded(x1: float, y1: float, x2: float, y2: float, radius: float) -> Points:
    """A rectangle with round corners."""
    r = min(radius, (x2 - x1) / 2, (y2 - y1) / 2)
    return np.concatenate(
        [
            arc(x1 + r, y1 + r, r, r, 180, 270, 5),
            arc(x2 - r, y1 + r, r, r, 270, 360, 5),
            arc(x2 - r, y2 - r, r, r, 0, 90, 5),
            arc(x1 + r, y2 - r, r, r, 90, 180, 5),
        ]
    )


def _catmull_rom(count: int) -> NDArray[np.float64]:
    t = np.linspace(0, 1, count, endpoint=False)[:, None]
    powers = np.concatenate([np.ones_like(t), t, t**2, t**3], axis=1)
    return powers @ (0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]))


_SPLINE = _catmull_rom(5)


def smooth(points: Points, closed: bool = True) -> Points:
    """A smooth curve through the points (Catmull-Rom), five points for each of them."""
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([points[:1], points, points[-1:]])
    count = len(padded) - 3
    windows = np.stack([padded[i : i + count] for i in range(4)], axis=1)  # [count, 4, 2]
    curve = (_SPLINE @ windows).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def mirrored_outline(right: Points) -> Points:
    """A closed outline that is symmetric to x = 0, from its right half, top to bottom."""
    left = right[::-1] * (-1, 1)
    return np.concatenate([right, left])


def tube(points: Points, width: float, end_width: float = -1.0) -> Points:
    """The closed outline of a thick line, wider or narrower towards its end (-1 = as its start)."""
    along = np.empty_like(points)
    along[1:-1] = points[2:] - points[:-2]
    along[0], along[-1] = points[1] - points[0], points[-1] - points[-2]
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    grow = 0.0 if end_width < 0 else end_width - width
    half = (width / 2 + grow / 2 * steps(len(points)))[:, None]
    across = along[:, ::-1] * (-1, 1) * half
    return np.concatenate([points + across, (points - across)[::-1]])


def cloud(x: float, y: float, rx: float, ry: float, bumps: int, depth: float, start: float = 0.0) -> Points:
    """A closed outline of round bumps along an ellipse; depth: how far they stand out, as a share."""
    angle = np.linspace(0, 2 * math.pi, bumps * 7, endpoint=False)
    out = 1 + depth * (np.abs(np.sin(angle * bumps / 2)) - 0.5)
    angle = angle + start
    return np.stack([x + rx * out * np.cos(angle), y + ry * out * np.sin(angle)], axis=1)


def turned(points: Points, degrees: float) -> Points:
    """Rotated about the origin, clockwise on screen."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return points @ np.array([[c, s], [-s, c]])


def joined(parts: Sequence[Part]) -> Points:
    """The points of all parts, one after the other: one operation moves them all."""
    return np.concatenate([part.points for part in parts])


def parted(points: NDArray[Any], parts: Sequence[Part]) -> list[NDArray[Any]]:
    """What `joined` joined, part by part."""
    ends = list(accumulate(len(part.points) for part in parts))
    return [points[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def moved(parts: Sequence[Part], matrix: NDArray[np.float64]) -> list[Part]:
    """All parts with their points p as p @ matrix."""
    return [
        Part(points, p.closed, p.solid, p.tone, p.level, p.group, p.width)
        for points, p in zip(parted(joined(parts) @ matrix, parts), parts, strict=True)
    ]


def solid_box(points: Points, parts: Sequence[Part]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high corner (xy) of the silhouette; points: of all parts, joined."""
    of_solid = points[np.repeat([part.solid for part in parts], [len(part.points) for part in parts])]
    return of_solid.min(axis=0), of_solid.max(axis=0)
