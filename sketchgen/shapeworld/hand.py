"""Hand: sketches of the classes as people draw them, at three levels of abstraction and in several styles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from data_manifests.strokes import INK, fitted, rasterise
from sketchgen.bank import Drawing
from sketchgen.shapeworld.classes import CLASSES, LOOKALIKES, SHAPES
from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.outline import SPACING, Stroke, outline
from sketchgen.shapeworld.shapes import Part, Points, moved, steps, turned
from sketchgen.shapeworld.version import VERSION

SIDE = 256
SOURCE = "shapeworld-hand"


@dataclass(frozen=True)
class Style:
    """How a hand draws; lengths in shape units (the longer side of the drawing is 1)."""

    width: tuple[float, float] = (2.4, 3.6)
    """Of the line, pixels."""
    wobble: float = 0.012
    """Slow drift of a line."""
    tremor: float = 0.0
    """Fast shake of a line."""
    offset: float = 0.012
    """How far a stroke lies from its place."""
    overshoot: float = 0.0
    """How far lines run on at corners; also makes it draw them one by one."""
    gap: float = 0.03
    """Share of a stroke that may be missing at its ends; also how often one is missing inside."""
    drop: float = 0.06
    """Chance that an inner stroke is left out."""
    double: float = 0.05
    """Chance that a stroke is drawn twice."""
    dash: float = 0.0
    """Length of the short strokes that a line is made of; 0 = one stroke."""


STYLES: dict[str, Style] = {
    "neat": Style(wobble=0.007, offset=0.006, gap=0.015, drop=0.03, double=0.0),
    "shaky": Style(width=(2.0, 3.4), wobble=0.014, tremor=0.006, offset=0.014, overshoot=0.05, gap=0.06, drop=0.12),
    "sketchy": Style(width=(1.4, 2.2), wobble=0.012, offset=0.012, overshoot=0.03, double=1.0, dash=0.24),
    "marker": Style(width=(5.0, 8.0), wobble=0.014, offset=0.014, gap=0.03, drop=0.15),
}
HELD_OUT_STYLE = "brush"
TRAINING_STYLES: tuple[str, ...] = tuple(STYLES)
_BRUSH = Style(wobble=0.012, offset=0.014, gap=0.02, drop=0.08)


class HandBank:
    """Sketches of all classes, drawn when they are asked for (see `sketchgen.bank.SketchBank`)."""

    def __init__(self, split: Literal["train", "val"] = "train", styles: Sequence[str] = TRAINING_STYLES) -> None:
        """styles: drawn equally often; the held-out one only if it is named here.

        Raises ValueError for a split or style that does not exist.
        """
        if split not in ("train", "val"):
            raise ValueError(f"split is {split!r}, must be train or val")
        known = (*TRAINING_STYLES, HELD_OUT_STYLE)
        if not styles or set(styles) - set(known):
            raise ValueError(f"styles are {tuple(styles)}, must be some of {known}")
        self._styles = tuple(styles)
        usual = self._styles == TRAINING_STYLES
        self._name = f"{SOURCE}/{split}" if usual else f"{SOURCE}/{split}/{'+'.join(self._styles)}"

    @property
    def categories(self) -> tuple[str, ...]:
        """All classes of the world."""
        return CLASSES

    def lookalikes(self, category: str) -> tuple[str, ...]:
        """The other classes of its group."""
        return LOOKALIKES.get(category, ())

    def draw(self, category: str, seed: int) -> Drawing:
        """The sketch of this seed. Raises ValueError for a category that is no class of the world."""
        if category not in SHAPES:
            raise ValueError(f"shapeworld has no class {category!r}; it has {', '.join(CLASSES)}")
        sketch_id = f"{self._name}/{category}/{seed}"
        dice = Dice("hand", sketch_id)
        style = dice.among(self._styles)
        image = draw_by_hand(category, style, dice.whole(0, 2), dice)
        return Drawing(sketch_id, category, SOURCE, style, f"shapeworld-{VERSION}", image)


def draw_by_hand(category: str, style: str, level: int, dice: Dice) -> NDArray[np.uint8]:
    """One sketch [256, 256] uint8. level: 0 = hardly more than the outline, 2 = everything."""
    lines, margin = lines_by_hand(category, style, level, dice)
    if style == HELD_OUT_STYLE:
        return _brush(lines, margin, dice)
    return rasterise(lines, SIDE, dice.between(*STYLES[style].width), margin)


def lines_by_hand(category: str, style: str, level: int, dice: Dice) -> tuple[list[NDArray[np.float32]], int]:
    """The lines of a sketch, [n, 2] xy in shape units (the longer side of the drawing is about 1), before any is drawn;
    and the margin that they leave, in pixels of SIDE."""
    strokes = outline(_posed(SHAPES[category](dice), dice), level)
    how = _BRUSH if style == HELD_OUT_STYLE else STYLES[style]
    margin = dice.whole(14, 36)
    return _drawn(strokes, how, dice), margin


def _posed(parts: list[Part], dice: Dice) -> list[Part]:
    """Mirrored, turned a little, and of wrong proportions."""
    flip = -1.0 if dice.chance(0.5) else 1.0
    stretch = dice.between(0.87, 1.15)
    shear = np.array([[1.0, 0.0], [dice.between(-0.1, 0.1), 1.0]])
    matrix = np.diag([flip * stretch, 1 / stretch]) @ shear @ turned(np.eye(2), dice.between(-12, 12))
    return moved(parts, matrix)


def _drawn(strokes: list[Stroke], style: Style, dice: Dice) -> list[NDArray[np.float32]]:
    """The lines of a hand that means these strokes."""
    noise = dice.array()
    lines: list[Points] = []
    for stroke in strokes:
        if stroke.level and dice.chance(style.drop):
            continue
        for piece in _pieces(stroke, style, dice):
            for _ in range(2 if dice.chance(style.double) else 1):
                lines.append(_with_ends(piece, style, dice))
    return _unsteady(lines, style, noise)


def _pieces(stroke: Stroke, style: Style, dice: Dice) -> list[Points]:
    """The stroke cut where the hand lifts: every `dash`, at a gap, or at corners."""
    points = stroke.points
    if style.dash:
        cuts = []
        step = max(4, int(style.dash / SPACING * dice.between(0.7, 1.4)))
        for start in range(0, len(points) - 1, step):
            cuts.append(points[max(0, start - 2) : start + step + 3])
        return cuts
    if len(points) > 24 and dice.chance(3 * style.gap):
        hole = dice.whole(10, len(points) - 14)
        return [points[:hole], points[hole + dice.whole(2, 4) :]]
    if not style.overshoot or len(points) < 8:
        return [points]
    turns = ((points[4:] - points[2:-2]) * (points[2:-2] - points[:-4])).sum(axis=1) / (2 * SPACING) ** 2
    turns = np.round(turns, 6)  # about the cosine; equal ones must compare equal on every processor
    sharp = np.flatnonzero(turns < 0.7).tolist()
    corners = [i + 2 for i in sharp if turns[i] <= turns[max(0, i - 3) : i + 4].min()]
    bounds = [0, *corners, len(points) - 1]
    return [points[a : b + 1] for a, b in itertools.pairwise(bounds) if b - a >= 3] or [points]


def _with_ends(points: Points, style: Style, dice: Dice) -> Points:
    """The ends cut short, or run past."""
    count = len(points)
    if count > 10 and not style.dash:
        first, last = int(count * style.gap * dice.share()), int(count * style.gap * dice.share())
        points = points[first : count - last]
    if style.overshoot and len(points) > 3:
        reach = style.overshoot / (2 * SPACING)
        points = points.copy()
        points[0] += (points[0] - points[2]) * reach * dice.share()
        points[-1] += (points[-1] - points[-3]) * reach * dice.share()
    return points


def _unsteady(lines: list[Points], style: Style, noise: np.random.Generator) -> list[NDArray[np.float32]]:
    """All lines moved, drifting and shaking; one pass over all points at once."""
    lengths = np.array([len(line) for line in lines])
    points = np.concatenate(lines)
    knots = (lengths * SPACING / 0.16).astype(int) + 2
    first = np.concatenate([[0], np.cumsum(knots)[:-1]])
    drift = (noise.random((int(knots.sum()), 2)) - 0.5) * 4 * style.wobble
    place = np.concatenate([a + (k - 1) * steps(n) for a, k, n in zip(first, knots, lengths, strict=True)])
    low = np.minimum(place.astype(int), int(knots.sum()) - 2)
    share = (place - low)[:, None]
    share = share * share * (3 - 2 * share)
    points = points + drift[low] * (1 - share) + drift[low + 1] * share
    points += np.repeat((noise.random((len(lines), 2)) - 0.5) * 2 * style.offset, lengths, axis=0)
    if style.tremor:
        points += (noise.random(points.shape) - 0.5) * 2 * style.tremor
    wave = (noise.random((2, 2)) - 0.5) * 0.06  # wrong proportions that vary over the drawing
    phase = noise.random(2) * 2 * math.pi
    points[:, 0] += wave[0, 0] * np.sin(points[:, 1] * 4 + phase[0])
    points[:, 1] += wave[1, 0] * np.sin(points[:, 0] * 4 + phase[1])
    return np.split(points.astype(np.float32), np.cumsum(lengths)[:-1])


def _brush(lines: list[NDArray[np.float32]], margin: int, dice: Dice) -> NDArray[np.uint8]:
    """Angular lines that swell and thin out: the held-out style."""
    points = fitted(np.concatenate(lines).astype(np.float64), SIDE, margin).astype(np.float32) * 2
    tolerance, thin, thick = dice.between(10, 16), dice.between(1.5, 3.0), dice.between(9.0, 13.0)
    angular = [
        cv2.approxPolyDP(line[:, None], tolerance, False)[:, 0]
        for line in np.split(points, np.cumsum([len(line) for line in lines])[:-1])
    ]
    start, end = np.concatenate([line[:-1] for line in angular]), np.concatenate([line[1:] for line in angular])
    along = end - start
    across = along[:, ::-1] * (-1, 1) / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
    swell = across * thick * (0.7 + 0.3 * dice.array().random((len(along), 1)))
    quads = np.stack([start + swell, end + across * thin, end - across * thin, start - swell], axis=1)
    canvas = np.full((2 * SIDE, 2 * SIDE), 255, np.uint8)
    for quad in np.rint(quads * 16).astype(np.int32):
        cv2.fillConvexPoly(canvas, quad, INK, cv2.LINE_8, 4)
    return np.asarray(cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
