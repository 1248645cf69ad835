"""The layout of a scene: which classes, how many of each, how large, and where. Nothing is painted here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.instance import Box, Mask, crop_to_content
from sketchgen.shapeworld.classes import CLASSES, SHAPES
from sketchgen.shapeworld.dice import Dice, Option
from sketchgen.shapeworld.shapes import Part, Points, joined, parted, solid_box, turned

Kind = Literal["counts", "singles", "simple"]
KINDS: tuple[Kind, ...] = ("counts", "singles", "simple")
VISIBLE_SHARE = 0.65
"""Of an object at least this share is seen."""
MIN_SIDE = 26 / 256
"""Shorter side of a visible box at least, as a share of the scene's side."""
SIZES = ((3, 56, 92), (5, 50, 80), (7, 46, 68), (9, 44, 60))
"""Up to so many objects: root of (width x height) from, to; pixels at side 256."""
SHIFT = 4
"""Fractional bits of what OpenCV draws."""
_TRIPLES = ((1, 2, 3), (1, 2, 4), (1, 2, 5), (1, 3, 4), (1, 3, 5), (2, 3, 4))
_PAIRS = ((4, 5), (3, 5), (2, 5), (3, 4), (1, 5), (1, 4))
_PAIR_SHARE = 0.2
_FAILURES, _TRIES = 400, 40


@dataclass(frozen=True)
class WorldConfig:
    """Which scenes the world makes."""

    side: int = 256
    """Width and height of a scene, pixels, 64 to 512."""
    seed: int = 0
    """Another seed is another world."""
    split: Literal["train", "val"] = "train"
    """Scenes of one split never occur in the other."""
    num_scenes: int = 1000
    """Scenes a pass."""
    max_instances: int = 9
    """Instances a scene at most."""
    max_count: int = 5
    """Instances of one class at most."""
    kinds: tuple[float, float, float] = (0.5, 0.4, 0.1)
    """Weights of `counts` (2-3 classes, different counts), `singles` (4-7 classes, one of each), `simple` (1-3, one
    of each)."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object as seen: box and mask are of its visible pixels, in pixels of the scene."""

    category: str
    box: Box
    mask: Mask


@dataclass(slots=True)
class Placed:
    """One object on its way onto the scene.

    corners: the points of each part, as OpenCV's integers with SHIFT fractional bits, on a canvas twice as large
    as `alpha`; alpha: [h, w] uint8, how much of each pixel it covers; (x, y): the scene's pixel under alpha[0, 0];
    visible: [h, w] bool; area: pixels of the whole object.
    """

    category: str
    parts: list[Part]
    corners: list[NDArray[np.int32]]
    alpha: NDArray[np.uint8]
    x: int
    y: int
    visible: NDArray[np.bool_]
    area: int


def check_world(config: WorldConfig) -> None:
    """Raises ValueError for numbers that mean no world, with the flag and what it must be."""
    least = {
        "side": (config.side, 64, 512),
        "num_scenes": (config.num_scenes, 1, 10**8),
        "max_instances": (config.max_instances, 4, 9),
        "max_count": (config.max_count, 2, 5),
    }
    for name, (value, low, high) in least.items():
        if not low <= value <= high:
            raise ValueError(f"source.world.{name} is {value}, must be from {low} to {high}")
    if config.split not in ("train", "val"):
        raise ValueError(f"source.world.split is {config.split!r}, must be train or val")
    if len(config.kinds) != len(KINDS) or min(config.kinds) < 0 or not 0 < sum(config.kinds) < float("inf"):
        raise ValueError(f"source.world.kinds is {config.kinds}, must be {len(KINDS)} weights, not all zero")


def lay_out(config: WorldConfig, index: int) -> tuple[SceneObject, ...]:
    """The objects of scene `index`, as `make_scene` paints them, from the farthest to the nearest."""
    return tuple(seen(placed) for placed in place(config, index))


def seen(placed: Placed) -> SceneObject:
    """What is visible of an object."""
    mask = crop_to_content(placed.visible, placed.x, placed.y)
    rows, cols = mask.bits.shape
    return SceneObject(
        placed.category, (float(mask.x), float(mask.y), float(mask.x + cols), float(mask.y + rows)), mask
    )


def scene_dice(config: WorldConfig, index: int, *what: object) -> Dice:
    """The dice of one aspect of one scene."""
    return Dice("scene", config.seed, config.split, config.side, index, *what)


def contents(config: WorldConfig, index: int) -> tuple[Kind, list[str]]:
    """The kind of scene `index`, and the category of each of its instances in random order."""
    dice = scene_dice(config, index, "contents")
    kind = _weighted(dice, KINDS, config.kinds)
    if kind == "counts":
        sets = count_sets(config.max_instances, config.max_count)
        counts: Sequence[int] = _weighted(dice, [s for s, _ in sets], [p for _, p in sets])
    elif kind == "singles":
        counts = (1,) * dice.whole(4, min(7, config.max_instances))
    else:
        counts = (1,) * dice.whole(1, 3)
    classes = dice.shuffled(CLASSES)
    return kind, dice.shuffled([name for name, count in zip(classes, counts, strict=False) for _ in range(count)])


def _weighted(dice: Dice, options: Sequence[Option], weights: Sequence[float]) -> Option:
    left = dice.share() * sum(weights)
    for option, weight in zip(options, weights, strict=True):
        left -= weight
        if left < 0:
            return option
    return options[-1]


@cache
def count_sets(max_instances: int = 9, max_count: int = 5) -> tuple[tuple[tuple[int, ...], float], ...]:
    """The sets of counts of a `counts` scene and their probabilities.

    Over all present classes the counts 1 to max_count are as even as they can be, and of all probabilities
    that make them so these have the largest entropy. Pairs have _PAIR_SHARE.
    """
    sets = [s for s in (*_TRIPLES, *_PAIRS) if max(s) <= max_count and sum(s) <= max_instances] or [(1, 2)]
    has = np.array([[n in s for n in range(1, max_count + 1)] for s in sets], np.float64)
    pairs = np.array([len(s) == 2 for s in sets])
    share = np.where(pairs, _PAIR_SHARE, 1 - _PAIR_SHARE) if 0 < pairs.sum() < len(sets) else np.ones(len(sets))
    pull = np.zeros(max_count)
    weights = share
    for _ in range(3000):  # gradient steps on the dual of that problem
        weights = np.exp(has @ pull)
        for half in (pairs, ~pairs):
            weights[half] *= share[half] / max(float(weights[half].sum()), 1e-12)
        often = weights @ has
        pull -= 2.0 * (often - often.mean())
    return tuple((s, round(float(weight), 4)) for s, weight in zip(sets, weights, strict=True))


def place(config: WorldConfig, index: int) -> list[Placed]:
    """All objects of scene `index`, the nearest last.

    Positions are drawn until they fit; a scene that has no room for one is begun again, a little smaller each
    time, so that what was drawn to be there is there.
    """
    categories = contents(config, index)[1]
    for attempt in range(_FAILURES):
        dice = scene_dice(config, index, "place", attempt)
        if placed := _try_to_place(config, categories, dice, 0.98**attempt):
            return placed
    raise AssertionError(f"no room for {categories} in scene {index} of {config}")


def _try_to_place(config: WorldConfig, categories: Sequence[str], dice: Dice, shrink: float) -> list[Placed]:
    owner = np.full((config.side, config.side), -1, np.int8)
    low, high = next((low, high) for most, low, high in SIZES if len(categories) <= most)
    hide = dice.among((0.0, 0.15, 1 - VISIBLE_SHARE - 0.03, 1 - VISIBLE_SHARE - 0.03))
    unit = config.side / 256 * shrink
    placed: list[Placed] = []
    for category in categories:
        size = max(dice.between(low, high) * unit, 1.62 * MIN_SIDE * config.side)
        one = cut_out(category, size, dice)
        if not _find_room(one, placed, owner, hide, dice):
            return []
        placed.append(one)
    return placed


def cut_out(category: str, size: float, dice: Dice) -> Placed:
    """One object of its own variation, mirrored and turned, its box of about size x size pixels; not placed yet."""
    parts = SHAPES[category](dice)
    flip = -1.0 if dice.chance(0.5) else 1.0
    points = joined(parts) @ turned(np.diag([flip, 1.0]), dice.between(-25, 25))
    low, high = solid_box(points, parts)
    extent = high - low
    scale = 2 * size / math.sqrt(float(extent[0] * extent[1]))
    width, height = (math.ceil(float(value) * scale / 2) + 2 for value in extent)
    corners = parted(fixed((points - low) * scale + 2.0), parts)
    canvas = np.zeros((2 * height, 2 * width), np.uint8)
    for part, outline in zip(parts, corners, strict=True):
        if part.solid:
            cv2.fillPoly(canvas, [outline], 255, cv2.LINE_8, SHIFT)
    alpha = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    bits = alpha >= 128
    return Placed(category, parts, corners, np.asarray(alpha), 0, 0, bits, int(np.count_nonzero(bits)))


def fixed(points: Points) -> NDArray[np.int32]:
    """Points as OpenCV's integers with SHIFT fractional bits."""
    return np.rint(points * (1 << SHIFT)).astype(np.int32)


def _find_room(one: Placed, placed: list[Placed], owner: NDArray[np.int8], hide: float, dice: Dice) -> bool:
    """Give `one` a place where it hides nobody too much; enters it in `owner` [side, side] (-1 = nobody)."""
    side = owner.shape[0]
    height, width = one.alpha.shape
    for _ in range(_TRIES if max(height, width) < side else 0):
        x, y = dice.whole(0, side - width), dice.whole(0, side - height)
        under = owner[y : y + height, x : x + width]
        touched = np.flatnonzero(np.bincount(under[one.visible] + 1)[1:])
        left = [_left_visible(placed[k], one, x, y) for k in touched]
        if all(_is_enough(bits, placed[k].area * (1 - hide), side) for k, bits in zip(touched, left, strict=True)):
            one.x, one.y = x, y
            under[one.visible] = len(placed)
            for k, bits in zip(touched, left, strict=True):
                placed[k].visible = bits
            return True
    return False


def _left_visible(below: Placed, above: Placed, x: int, y: int) -> NDArray[np.bool_]:
    """What would be seen of `below` with `above` at (x, y)."""
    left = below.visible.copy()
    dx, dy = x - below.x, y - below.y
    height, width = above.alpha.shape
    x1, y1, x2, y2 = max(dx, 0), max(dy, 0), min(dx + width, left.shape[1]), min(dy + height, left.shape[0])
    left[y1:y2, x1:x2] &= ~above.visible[y1 - dy : y2 - dy, x1 - dx : x2 - dx]
    return left


def _is_enough(bits: NDArray[np.bool_], least: float, side: int) -> bool:
    """Whether so many pixels are seen at least, and both sides of their box are long enough."""
    if np.count_nonzero(bits) < least:
        return False
    rows, cols = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
    return bool(min(rows[-1] - rows[0], cols[-1] - cols[0]) + 1 >= MIN_SIDE * side)
