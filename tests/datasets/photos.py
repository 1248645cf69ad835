"""Photos whose objects are known: scenes of shapeworld on a longer ground, so that width and height are not alike."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sketchgen.instance import Box, Mask
from sketchgen.shapeworld import CLASSES, SceneObject, WorldConfig, contents, make_scene
from tests.datasets.drawings import figure, meaning

SCENE = 192
"""Side of a scene, pixels."""
BANDS = (24, 40)
"""Pixels of ground before and after it, along the longer side."""
_WORLD = WorldConfig(side=SCENE)
_ALONE = WorldConfig(side=SCENE, kinds=(0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of a photo. category: a class of shapeworld; box: xyxy pixels, mask: the visible ones."""

    category: str
    box: Box
    mask: Mask


@dataclass(frozen=True, slots=True)
class Photo:
    """rgb: [H, W, 3] uint8, 192x256 or 256x192; things from the farthest to the nearest."""

    rgb: NDArray[np.uint8]
    things: tuple[Thing, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]


def make_photo(number: int, seed: int = 0) -> Photo:
    """The photo of this number: the same for every dataset that has it. Each third is upright."""
    scene = make_scene(WorldConfig(side=SCENE, seed=seed), number)
    return _on_ground(scene.rgb, scene.objects, upright=number % 3 == 0)


def photo_of_class(name: str, seed: int) -> tuple[Photo, Thing]:
    """A photo with one object of the class that `name` means, and that object."""
    known = meaning(name)
    if known not in CLASSES:
        return _photo_of_figure(known, seed)
    found = (n for n in itertools.count(1000 * seed) if contents(_ALONE, n)[1].count(known) == 1)
    scene = make_scene(_ALONE, next(found))
    photo = _on_ground(scene.rgb, scene.objects, upright=seed % 3 == 0)
    return photo, next(thing for thing in photo.things if thing.category == known)


def save_photo(photo: Photo, path: Path, grey: bool = False) -> None:
    """As a JPEG of three channels, or of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(photo.rgb)
    (image.convert("L") if grey else image).save(path, quality=92)


def box_xywh(thing: Thing) -> tuple[float, float, float, float]:
    """Its box as COCO writes one."""
    x1, y1, x2, y2 = thing.box
    return (x1, y1, x2 - x1, y2 - y1)


def _on_ground(rgb: NDArray[np.uint8], objects: tuple[SceneObject, ...], upright: bool) -> Photo:
    """The scene with its outermost pixels drawn on: above and below, or on both sides."""
    before, after = BANDS
    dx, dy = (0, before) if upright else (before, 0)
    sides = (before, after, 0, 0) if upright else (0, 0, before, after)
    wide = np.asarray(cv2.copyMakeBorder(rgb, *sides, cv2.BORDER_REPLICATE), np.uint8)
    return Photo(wide, tuple(_moved(one, dx, dy) for one in objects))


def _moved(one: SceneObject, dx: int, dy: int) -> Thing:
    x1, y1, x2, y2 = one.box
    mask = Mask(one.mask.x + dx, one.mask.y + dy, one.mask.bits)
    return Thing(one.category, (x1 + dx, y1 + dy, x2 + dx, y2 + dy), mask)


def _photo_of_figure(name: str, seed: int) -> tuple[Photo, Thing]:
    """The figure of a class that shapeworld does not have, filled, on an empty ground."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(60, 110, (SCENE, SCENE, 3), dtype=np.uint8)
    corners = np.rint((figure(name)[0] * rng.uniform(0.4, 0.7) + 0.5) * SCENE).astype(np.int32)
    cover = np.zeros((SCENE, SCENE), np.uint8)
    cv2.fillPoly(cover, [corners], 1)
    rgb[cover > 0] = rng.integers(120, 256, 3)
    x, y, width, height = cv2.boundingRect(corners)
    bits = cover[y : y + height, x : x + width] > 0
    one = SceneObject(name, (float(x), float(y), float(x + width), float(y + height)), Mask(x, y, bits))
    photo = _on_ground(rgb, (one,), upright=seed % 3 == 0)
    return photo, photo.things[0]
