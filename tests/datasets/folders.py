"""All datasets side by side, each in a folder of its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.datasets.coco import coco_ids, write_coco
from tests.datasets.objects365 import fill_objects365
from tests.datasets.openimages import fill_openimages
from tests.datasets.pixmo_count import NUM_PHOTOS, write_pixmo_count
from tests.datasets.quickdraw import CLASSES, write_quickdraw
from tests.datasets.sketchy import write_sketchy
from tests.datasets.tu_berlin import write_tu_berlin
from tests.datasets.vqav2 import write_vqav2

IMAGES = {"train": 12, "val": 6}
"""Photos of COCO in a folder of size 1."""


def write_all(root: Path, size: int = 1, seed: int = 0) -> Iterator[Path]:
    """Write every dataset below `root`; yields each folder when it is done.

    size: so many times the photos and drawings. Raises ValueError for a folder that is not empty, or a size below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}, must be 1 or more")
    if root.exists() and any(root.iterdir()):
        raise ValueError(
            f"{root} is not empty: name another folder, so that nothing of yours is mixed with made-up data"
        )
    for name, write in WRITERS.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        write(root / name, size, seed)
        yield root / name


def _coco(root: Path, size: int, seed: int) -> None:
    for split, count in IMAGES.items():
        write_coco(root, split, size * count, seed)


def _objects365(root: Path, size: int, seed: int) -> None:
    fill_objects365(root, "train", 8 * size, seed)
    fill_objects365(root, "val", 4 * size, seed)


def _openimages(root: Path, size: int, seed: int) -> None:
    for split, count in {"train": 8, "validation": 4, "test": 4}.items():
        fill_openimages(root, split, count * size, seed)


def _vqav2(root: Path, size: int, seed: int) -> None:
    """COCO's split of 2014: its val is all of val2017, and a third of train2017."""
    train, val = (coco_ids(split, size * count, seed) for split, count in IMAGES.items())
    write_vqav2(root, "train", [number for place, number in enumerate(train) if place % 3], seed)
    write_vqav2(root, "val", sorted(val + train[::3]), seed)


def _pixmo_count(root: Path, size: int, seed: int) -> None:
    write_pixmo_count(root, {split: count * size for split, count in NUM_PHOTOS.items()}, seed=seed)


def _sketchy(root: Path, size: int, seed: int) -> None:
    write_sketchy(root, photos_per_class=3 * size, seed=seed)


def _tu_berlin(root: Path, size: int, seed: int) -> None:
    write_tu_berlin(root, n=4 * size, seed=seed)


def _quickdraw(root: Path, size: int, seed: int) -> None:
    """Most classes simplified under their plain names, one under the bucket's, one raw."""
    write_quickdraw(root, CLASSES[:-2], 100 * size, seed=seed)
    write_quickdraw(root, CLASSES[-2:-1], 100 * size, prefix="full_simplified_", seed=seed)
    write_quickdraw(root, CLASSES[-1:], 100 * size, "raw", "full_raw_", seed=seed)


WRITERS: dict[str, Callable[[Path, int, int], None]] = {
    "coco": _coco,
    "objects365": _objects365,
    "openimages": _openimages,
    "pixmo_count": _pixmo_count,
    "vqav2": _vqav2,
    "sketchy": _sketchy,
    "tu_berlin": _tu_berlin,
    "quickdraw": _quickdraw,
}
