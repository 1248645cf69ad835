"""The Sketchy Database: drawings of photos, both in several transforms, and lists of what is invalid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

from data_manifests.strokes import draw_lines
from sketchgen.seed import seed_of
from tests.datasets.drawings import strokes_of
from tests.datasets.photos import Photo, Thing, photo_of_class

SIDE = 256
CENTRED = "tx_000100000000"
STRETCHED = "tx_000000000000"
ALIGNED = ("tx_000000000010", "tx_000000000110", "tx_000000001010", "tx_000000001110")
"""On the box of the object: moved there; in it; around it; and stretched to it."""
SPAN = 0.78
"""Share of the square that a centred drawing spans."""
CLASSES = ("cat", "cup", "hot-air_balloon", "car_(sedan)", "apple", "teddy_bear")
INVALID = ("error", "ambiguous", "context", "pose")
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A photo, its object, and where that lies in the photo stretched to a square, pixels."""

    photo: Photo
    thing: Thing
    box: Box


def photo_name(name: str, number: int) -> str:
    """`n02691156_58`: photos are called after a noun of WordNet; here a number that the class decides."""
    return f"n{seed_of('wnid', name) % 10**8:08d}_{number}"


def write_sketchy(
    root: Path,
    classes: Sequence[str] = CLASSES,
    photos_per_class: int = 4,
    sketches_per_photo: int = 5,
    transforms: Sequence[str] = (STRETCHED, CENTRED, *ALIGNED),
    lists: bool = True,
    extended: int = 2,
    seed: int = 0,
) -> None:
    """`256x256/{photo,sketch}/TRANSFORM/CLASS/`, `info/` and `EXTEND_image_sketchy/CLASS/ext_N.jpg`.

    Photos are numbered 0, 7, 14, ..., drawings from 1, of each third photo from 2. lists: `info/`, with the first photo
    of each class in the test set, and one drawing of each class invalid. extended: photos of each class that nobody
    drew.
    """
    for name in classes:
        for place in range(photos_per_class):
            number = 7 * place
            drawn = _drawn(name, seed_of("sketchy", seed, name, number) % 10**6)
            for transform in transforms:
                if transform in (STRETCHED, CENTRED):
                    path = root / "256x256" / "photo" / transform / name / f"{photo_name(name, number)}.jpg"
                    _save(path, _stretched(drawn) if transform == STRETCHED else _cropped(drawn))
            first = 2 if place % 3 == 2 else 1
            for sketch in range(first, first + sketches_per_photo):
                _write_sketch(root, name, number, sketch, drawn, transforms, seed)
        for number in range(1, extended + 1):
            photo, _ = photo_of_class(name, seed_of("extended", seed, name, number) % 10**6)
            _save(root / "EXTEND_image_sketchy" / name / f"ext_{number}.jpg", photo.rgb)
    if lists:
        _write_lists(root / "info", classes, photos_per_class)


def _drawn(name: str, seed: int) -> Drawn:
    photo, thing = photo_of_class(name, seed)
    width, height = photo.size
    x1, y1, x2, y2 = (v * SIDE / side for v, side in zip(thing.box, (width, height) * 2, strict=True))
    return Drawn(photo, thing, (x1, y1, x2, y2))


def _stretched(drawn: Drawn) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(drawn.photo.rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _cropped(drawn: Drawn) -> NDArray[np.uint8]:
    """The box with a tenth more on each side, as far as the photo goes, stretched to the square."""
    width, height = drawn.photo.size
    x1, y1, x2, y2 = drawn.thing.box
    dx, dy = 0.1 * (x2 - x1), 0.1 * (y2 - y1)
    left, top, right, bottom = max(0, int(x1 - dx)), max(0, int(y1 - dy)), int(x2 + dx) + 1, int(y2 + dy) + 1
    part = drawn.photo.rgb[top : min(bottom, height), left : min(right, width)]
    return np.asarray(cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)


def _write_sketch(
    root: Path, name: str, photo: int, sketch: int, drawn: Drawn, transforms: Sequence[str], seed: int
) -> None:
    """One drawing in all transforms."""
    lines = [line.astype(np.float64) for line in strokes_of(name, seed_of(seed, photo, sketch) % 2**32)]
    hand = Random(f"{seed}/{name}/{photo}/{sketch}")  # people draw larger or smaller, and beside the place
    own = (hand.uniform(0.8, 1.2), hand.uniform(-8, 8), hand.uniform(-8, 8))
    for transform in transforms:
        placed = _placed(lines, transform, drawn.box, own)
        path = root / "256x256" / "sketch" / transform / name / f"{photo_name(name, photo)}-{sketch}.png"
        _save(path, np.repeat(draw_lines(placed, SIDE, 2.0)[:, :, None], 3, axis=2))


def _placed(
    lines: list[NDArray[np.float64]], transform: str, box: Box, own: tuple[float, float, float]
) -> list[NDArray[np.float64]]:
    """The lines in pixels of the square. own: how this hand errs: scale, and pixels right and down."""
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    extent, centre = np.maximum(high - low, 1e-6), (low + high) / 2
    target = np.array([box[2] - box[0], box[3] - box[1]])
    fit = target / extent
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    scale = {
        CENTRED: np.full(2, SPAN * SIDE / extent.max()),
        STRETCHED: fit.min() * own[0] * np.ones(2),
        ALIGNED[0]: fit.min() * own[0] * np.ones(2),
        ALIGNED[1]: np.full(2, fit.min()),
        ALIGNED[2]: np.full(2, fit.max()),
        ALIGNED[3]: fit,
    }[transform]
    if transform == CENTRED:
        middle = np.full(2, SIDE / 2)
    elif transform == STRETCHED:
        middle = middle + own[1:]
    return [(line - centre) * scale + middle for line in lines]


def _write_lists(folder: Path, classes: Sequence[str], photos_per_class: int) -> None:
    """The test set as paths of photos; invalid drawings by name, their lists in turn; the last list stays empty."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "testset.txt").write_text("".join(f"{name}/{photo_name(name, 0)}.jpg\n" for name in classes))
    found: dict[str, list[str]] = {reason: [] for reason in INVALID}
    for place, name in enumerate(classes):
        number = 7 * (photos_per_class - 1)
        found[INVALID[place % (len(INVALID) - 1)]].append(f"{photo_name(name, number)}-2")
    for reason, names in found.items():
        (folder / f"invalid-{reason}.txt").write_text("".join(f"{name}\n" for name in names))


def _save(path: Path, rgb: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)):
        raise OSError(f"cannot write {path}")
