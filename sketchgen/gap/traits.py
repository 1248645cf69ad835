"""Traits: what a sketch looks like, as numbers that no model is needed for. Lengths are of the skeleton of its ink."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.checks import DARK, ink_of

LEAST_COMPONENT = 4
"""Pixels of ink that hang together and count as a component; less is dust."""
REACH = 6
"""Pixels along a line, to both sides, between which it turns: less is the stair of the pixels, more rounds corners."""
WEIGHTS = np.exp(-0.5 * (np.arange(-6, 7) / 3.0) ** 2)
"""Of the pixels along a line that are averaged before its turning is taken: sigma 3."""
STRAIGHT, SLANTED = 0.948, 1.340
"""Length of a step to the side and to a corner, pixels: those of the least error over lines of all directions."""
TINY = 1e-9

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Trait:
    """One number of a sketch."""

    name: str
    unit: str
    about: str
    """How it is measured."""


TRAITS = (
    Trait("ink", "share", "pixels that are darker than 128, of all"),
    Trait("stroke width", "px of 256", "twice the distance from the skeleton to the paper, mean over the skeleton"),
    Trait("stroke length", "sides", "length of the skeleton of all strokes together, by the side of the square"),
    Trait("curvature", "rad a side", "angles that the skeleton turns by, between junctions, by the length they are on"),
    Trait("components", "", f"pieces of ink that do not touch, of {LEAST_COMPONENT} px and more"),
    Trait("ends", "", "pixels of the skeleton with one neighbour"),
    Trait("junctions", "", "places of the skeleton where three lines or more meet"),
    Trait("extent", "sides", "longer side of the box around the ink, by the side of the square"),
)


def traits_of(sketch: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The TRAITS of a sketch [256, 256] uint8, dark on white; of a sketch without a line the curvature is 0.

    Raises ValueError for one without ink.
    """
    ink = sketch < DARK
    if not ink.any():
        raise ValueError(f"the sketch is blank: its darkest pixel is {sketch.min()}, ink is darker than {DARK}")
    side = len(sketch)
    rows, cols = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    extent = max(rows[-1] - rows[0], cols[-1] - cols[0]) + 1
    cropped = np.pad(ink[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], 2)
    lines = skeleton(cropped)
    codes = _codes(lines)
    joints = lines & (_CROSSINGS[codes] >= 3) | _crossed(lines)
    found = (
        ink_of(sketch),
        _width(cropped, lines),
        _length(lines) / side,
        _curvature(lines, joints) * side,
        _components(cropped),
        int((lines & (_NEIGHBOURS[codes] == 1)).sum()),
        cv2.connectedComponents(joints.astype(np.uint8), connectivity=8)[0] - 1,
        extent / side,
    )
    return np.array(found, np.float64)


def skeleton(ink: Mask) -> Mask:
    """Lines of one pixel [h, w] in the middle of the ink, connected as it is (thinning of Guo and Hall); the border of
    `ink` is white."""
    lines = ink.astype(np.uint8)
    while True:
        before = cv2.countNonZero(lines)
        for step in _THINNED:
            lines &= cv2.LUT(_codes(lines), step)
        if cv2.countNonZero(lines) == before:
            return lines.astype(np.bool_)


_AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""Rows and columns from a pixel to its neighbours, clockwise from the one above."""
_KERNEL = np.zeros((3, 3), np.float32)
for _bit, (_row, _col) in enumerate(_AROUND):
    _KERNEL[1 + _row, 1 + _col] = 1 << _bit


def _codes(lines: NDArray) -> NDArray[np.uint8]:
    """Which neighbours of each pixel are set, a bit each."""
    return np.asarray(cv2.filter2D(lines.astype(np.uint8), cv2.CV_8U, _KERNEL, borderType=cv2.BORDER_CONSTANT))


_BITS = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
"""[256, 8]: the neighbours of each code."""
_NEIGHBOURS = _BITS.sum(axis=1)
_CROSSINGS = (_BITS & ~np.roll(_BITS, 1, axis=1)).sum(axis=1)
"""How often, going around, paper is followed by ink: the lines that leave a pixel."""


def _crossed(lines: Mask) -> Mask:
    """Squares of 2 x 2 pixels that three others touch at least: a crossing of two slanted lines may have no middle."""
    whole = cv2.erode(lines.astype(np.uint8), np.ones((2, 2), np.uint8), anchor=(0, 0))
    around = cv2.boxFilter(lines.astype(np.uint8), -1, (4, 4), anchor=(1, 1), normalize=False)
    return cv2.dilate(whole & (around >= 7), np.ones((2, 2), np.uint8), anchor=(1, 1)).astype(np.bool_)


def _thinned(second: bool) -> NDArray[np.uint8]:
    """0 for the codes whose pixel goes in this half of a round."""
    n, ne, e, se, s, sw, w, nw = _BITS.T
    runs = (~n & (ne | e)).astype(int) + (~e & (se | s)) + (~s & (sw | w)) + (~w & (nw | n))
    pairs = (nw | n).astype(int) + (ne | e) + (se | s) + (sw | w)
    others = (n | ne).astype(int) + (e | se) + (s | sw) + (w | nw)
    least = np.minimum(pairs, others)
    side = (s | sw | ~nw) & w if second else (n | ne | ~se) & e
    return np.asarray(~((runs == 1) & (least >= 2) & (least <= 3) & ~side), np.uint8)


_THINNED = (_thinned(False), _thinned(True))


def _width(ink: Mask, lines: Mask) -> float:
    """Pixels. A line of an odd number has a middle, one of an even number none: half a pixel less for both."""
    far = cv2.distanceTransform(ink.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return 2 * float(far[lines].mean()) - 0.5


def _length(lines: Mask) -> float:
    """Pixels: steps from each pixel to its neighbours, to those at a corner where there is no way around."""
    right, down = lines[:, 1:] & lines[:, :-1], lines[1:] & lines[:-1]
    falling = lines[1:, 1:] & lines[:-1, :-1] & ~lines[1:, :-1] & ~lines[:-1, 1:]
    rising = lines[1:, :-1] & lines[:-1, 1:] & ~lines[1:, 1:] & ~lines[:-1, :-1]
    return STRAIGHT * float(right.sum() + down.sum()) + SLANTED * float(falling.sum() + rising.sum())


def _components(ink: Mask) -> int:
    areas = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)[2][1:, cv2.CC_STAT_AREA]
    return int((areas >= LEAST_COMPONENT).sum())


def _curvature(lines: Mask, joints: Mask) -> float:
    """Radians a pixel: what lines turn by between two steps of REACH pixels, over all places that lie so far from an
    end. Lines end at junctions, where what goes on is another stroke."""
    apart = lines & ~cv2.dilate(joints.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    contours, _ = cv2.findContours(apart.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return 0.0
    # the contour of a line goes there and back: each pixel is met twice, and it turns around at the ends
    lengths = np.array([len(contour) for contour in contours])
    points = np.concatenate(contours)[:, 0].astype(np.float64)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    length = np.repeat(lengths, lengths)
    place = np.arange(len(points)) - first

    def at(offset: int) -> NDArray[np.int64]:
        return first + (place + offset) % length

    smooth = sum(weight * points[at(n - len(WEIGHTS) // 2)] for n, weight in enumerate(WEIGHTS)) / WEIGHTS.sum()
    ends = (points[at(1)] == points[at(-1)]).all(axis=1)
    near = np.any([ends[at(n)] for n in range(-REACH, REACH + 1)], axis=0)
    to, fro = smooth - smooth[at(-REACH)], smooth[at(REACH)] - smooth
    turned = np.abs(np.arctan2(to[:, 0] * fro[:, 1] - to[:, 1] * fro[:, 0], (to * fro).sum(axis=1)))
    along = (np.hypot(*to.T) + np.hypot(*fro.T)) / 2
    return float(turned[~near].sum() / max(along[~near].sum(), TINY))
