"""OpenMoji (npm package `openmoji`, CC BY-SA 4.0): a line drawing or two of each of some hundred things.

So few that nothing can be learned from them alone; they let one try banks on drawings by people without any other.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data_manifests.schema import STRIP_SIDE
from sketchgen.bank import Drawing, split_of
from sketchgen.svg import render

SOURCE = "openmoji"
GROUPS = frozenset(
    {"activities", "animals-nature", "extras-openmoji", "food-drink", "objects", "people-body", "travel-places"}
)
"""With things that photos show."""
MARGIN = 20
"""White frame of a drawing, pixels."""
REMEMBERED = 512
"""Drawings that are kept as pixels."""


class OpenMojiBank:
    """The lines (`black/svg`) of emojis that show one thing; a drawing belongs to one split."""

    def __init__(self, folder: Path, split: str) -> None:
        """folder: of the unpacked package. Raises ValueError for any other."""
        root = folder / "package" if (folder / "package").is_dir() else folder
        try:
            rows = json.loads((root / "data" / "openmoji.json").read_text())
            plain = [(str(row["annotation"]), str(row["hexcode"])) for row in rows if _is_plain(row)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{folder} is not the openmoji package ({type(error).__name__}: {error}): get it with "
                "`npm pack openmoji@17`, and unpack it"
            ) from None
        self._files: dict[str, list[Path]] = {}
        for name, code in sorted(plain):
            path = root / "black" / "svg" / f"{code}.svg"
            if split_of(SOURCE, code) == split and path.is_file():
                self._files.setdefault(name, []).append(path)
        if not self._files:
            raise ValueError(f"{folder} holds no black/svg/*.svg for {split}")
        self._drawn = lru_cache(REMEMBERED)(_drawn)

    @property
    def categories(self) -> tuple[str, ...]:
        """As the emojis are named."""
        return tuple(self._files)

    def draw(self, category: str, seed: int) -> Drawing:
        """See `SketchBank`. Raises ValueError also for a file that is no picture."""
        if category not in self._files:
            raise ValueError(f"{SOURCE} has no drawings of {category!r}")
        path = self._files[category][seed % len(self._files[category])]
        return Drawing(f"{SOURCE}/{path.stem}", category, SOURCE, SOURCE, "human", self._drawn(path))

    def lookalikes(self, category: str) -> tuple[str, ...]:
        """None is known."""
        return ()


def _is_plain(row: dict[str, str]) -> bool:
    """Neither a variant of another (skin, sequences that repeat a drawing) nor something that no photo shows."""
    return row["group"] in GROUPS and not row["skintone"] and "-200D" not in row["hexcode"]


def _drawn(path: Path) -> NDArray[np.uint8]:
    """[256, 256] uint8, dark on white: cut to its lines, aspect kept, centred."""
    try:
        alpha = render(path.read_text(), 2 * STRIP_SIDE)[..., 3]
    except (OSError, ValueError, RuntimeError, cv2.error) as error:
        raise ValueError(f"{path} is no drawing that can be read: {type(error).__name__}: {error}") from None
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    if not len(rows):
        raise ValueError(f"{path} draws nothing")
    cut = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = (STRIP_SIDE - 2 * MARGIN) / max(cut.shape)
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
    small = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    square = np.full((STRIP_SIDE, STRIP_SIDE), 255, np.uint8)
    top, left = (STRIP_SIDE - size[1]) // 2, (STRIP_SIDE - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = 255 - small
    return square
