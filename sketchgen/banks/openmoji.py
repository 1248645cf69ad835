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
from sketchgen.banks.files import AGAIN, check_ink, files_in, printable
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
OBTAIN = "get the package with `npm pack openmoji@17`, and unpack it"


class OpenMojiBank:
    """The lines (`black/svg`) of emojis that show one thing; a drawing belongs to one split."""

    def __init__(self, folder: Path, split: str) -> None:
        """folder: of the unpacked package. Raises ValueError for any other, and where no drawing is of `split`."""
        root = folder / "package" if (folder / "package").is_dir() else folder
        plain = _plain_names(root)
        lines = root / "black" / "svg"
        there = {path.stem: path for path in files_in(lines, ".svg")} if lines.is_dir() else {}
        self._files: dict[str, list[Path]] = {}
        for name, code in plain:
            if code in there and split_of(SOURCE, code) == split:
                self._files.setdefault(name, []).append(there[code])
        if not self._files:
            raise ValueError(f"{printable(folder)} holds no black/svg/*.svg for {split}: {OBTAIN}")
        self._drawn = lru_cache(REMEMBERED)(_drawn)

    @property
    def categories(self) -> tuple[str, ...]:
        """As the emojis are named."""
        return tuple(self._files)

    def draw(self, category: str, seed: int) -> Drawing:
        """See `SketchBank`. Raises ValueError also for a file that is no picture or draws nothing."""
        if category not in self._files:
            raise ValueError(f"{SOURCE} has no drawings of {category!r}")
        path = self._files[category][seed % len(self._files[category])]
        return Drawing(f"{SOURCE}/{path.stem}", category, SOURCE, SOURCE, "human", self._drawn(path))

    def lookalikes(self, category: str) -> tuple[str, ...]:
        """None is known."""
        return ()


def _plain_names(root: Path) -> list[tuple[str, str]]:
    """(name, code) of the emojis that show one thing. Raises ValueError for a folder that is not the package."""
    path = root / "data" / "openmoji.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        plain = sorted((str(row["annotation"]), str(row["hexcode"])) for row in rows if _is_plain(row))
        "".join(name + code for name, code in plain).encode()  # half a surrogate pair is JSON, and no text
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{printable(root)} is not the openmoji package (data/openmoji.json: {type(error).__name__}: {error}): "
            + OBTAIN
        ) from None
    return plain


def _is_plain(row: dict[str, str]) -> bool:
    """Neither a variant of another (skin, sequences that repeat a drawing) nor something that no photo shows."""
    return row["group"] in GROUPS and not row["skintone"] and "-200D" not in row["hexcode"]


def _drawn(path: Path) -> NDArray[np.uint8]:
    """[256, 256] uint8, dark on white: cut to its lines, aspect kept, centred."""
    try:
        alpha = render(path.read_text(encoding="utf-8"), 2 * STRIP_SIDE)[..., 3]
    except (OSError, ValueError, RuntimeError, cv2.error) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{printable(path)} is no drawing that can be read: {what}; {AGAIN}") from None
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    cut = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else alpha
    scale = (STRIP_SIDE - 2 * MARGIN) / max(cut.shape)
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
    small = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    square = np.full((STRIP_SIDE, STRIP_SIDE), 255, np.uint8)
    top, left = (STRIP_SIDE - size[1]) // 2, (STRIP_SIDE - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = 255 - small
    return check_ink(square, path)
