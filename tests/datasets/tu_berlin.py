"""TU-Berlin: large drawings, numbered through all classes, whose names have spaces and brackets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from data_manifests.strokes import rasterise
from tests.datasets.drawings import strokes_of

SIDE = 1111
CLASSES = ("apple", "bear (animal)", "car (sedan)", "cat", "computer-mouse", "cup", "wine-bottle")


def write_tu_berlin(root: Path, classes: Sequence[str] = CLASSES, n: int = 4, seed: int = 0) -> None:
    """`png/CLASS/NUMBER.png`, n of each class, 1111x1111 grey, and `png/filelist.txt`."""
    names = []
    for place, name in enumerate(sorted(classes)):
        (root / "png" / name).mkdir(parents=True, exist_ok=True)
        for number in range(n * place + 1, n * (place + 1) + 1):
            names.append(f"{name}/{number}.png")
            image = rasterise(strokes_of(name, 1000 * seed + number), SIDE, width=5.0, margin=120)
            if not cv2.imwrite(str(root / "png" / names[-1]), image):
                raise OSError(f"cannot write {root / 'png' / names[-1]}")
    (root / "png" / "filelist.txt").write_text("".join(f"{name}\n" for name in names))
