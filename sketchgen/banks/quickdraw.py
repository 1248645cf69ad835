"""Quick, Draw!: drawings of strangers as strokes, one ndjson file a class, rendered when they are asked for.

A line is `{"word", "recognized", "key_id", "drawing": [[[x...], [y...]], ...]}`, x and y from 0 to 255 in simplified
files (raw ones have times as a third list). Files have up to 340,000 lines and none is read whole: a seed means a place
in the file, and its drawing is the next one from there on that may be used.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from data_manifests.strokes import rasterise
from sketchgen.bank import Drawing, split_of
from sketchgen.banks.files import AGAIN, files_in, printable

SOURCE = "quickdraw"
MAX_TRIES = 2000
"""Lines that are looked at for one that may be used."""
Useless = Literal["unrecognised", "broken", "of the other split"]
"""Why a line may not be used."""
Strokes = list[NDArray[np.float32]]
"""Of a drawing, [n, 2] xy each, y down."""


class QuickDrawBank:
    """The recognised drawings in a folder of ndjson files.

    Lines that may not be used are passed over alike, whether unrecognised, broken or of the other split, and nobody
    counts them as long as a usable one follows: to know how many of a file are broken, it would have to be read whole.
    """

    def __init__(self, folder: Path, split: str, width: float) -> None:
        """split: train or val, by `key_id`, "" = both; width: of the lines, pixels of a 256 px square.

        Raises ValueError for a folder without such files, for two of one class, and for a name that is not UTF-8.
        """
        self._files: dict[str, Path] = {}
        for path in files_in(folder, ".ndjson"):
            name = class_of(path)
            if (other := self._files.setdefault(name, path)) != path:
                raise ValueError(f"{printable(folder)} has {name!r} twice: remove {other.name} or {path.name}")
        if not self._files:
            raise ValueError(
                f"{printable(folder)} holds no .ndjson file: one for each class of Quick, Draw! is expected there"
            )
        self._split, self._width = split, width

    @property
    def categories(self) -> tuple[str, ...]:
        """As the files are named."""
        return tuple(self._files)

    def draw(self, category: str, seed: int) -> Drawing:
        """See `SketchBank`. Raises ValueError also for a file that cannot be read, and for one of whose lines from
        there on none may be used."""
        if category not in self._files:
            raise ValueError(f"{SOURCE} has no drawings of {category!r}")
        path = self._files[category]
        useless: Counter[Useless] = Counter()
        try:
            for line in _lines_from(path, seed):
                found = self._read(line)
                if isinstance(found, tuple):
                    key, strokes = found
                    image = rasterise(strokes, width=self._width)
                    return Drawing(f"{SOURCE}/{key}", category, SOURCE, SOURCE, "human", image)
                useless[found] += 1
        except OSError as error:
            raise ValueError(f"{printable(path)} cannot be read ({error.strerror}): {AGAIN}") from None
        raise ValueError(
            f"{printable(path)} holds no recognised drawing{f' for {self._split}' if self._split else ''} in "
            f"{useless.total():,} lines: "
            + ", ".join(f"{useless[kind]:,} {kind}" for kind in get_args(Useless))
            + f"; {AGAIN}"
        )

    def lookalikes(self, category: str) -> tuple[str, ...]:
        """None is known."""
        return ()

    def _read(self, line: bytes) -> tuple[str, Strokes] | Useless:
        """Key and strokes of a line that holds a recognised drawing of this split, else why it may not be used."""
        try:
            row = json.loads(line)
            key = str(row["key_id"])
            if row["recognized"] is not True:
                return "unrecognised"
            if self._split not in ("", split_of(SOURCE, key)):
                return "of the other split"
            return key, strokes_of(row["drawing"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return "broken"


def class_of(path: Path) -> str:
    """`full_simplified_cat.ndjson` and `cat.ndjson` hold cats."""
    return path.stem.removeprefix("full_").removeprefix("simplified_").removeprefix("raw_")


def strokes_of(drawing: Any) -> Strokes:
    """The strokes [n, 2] of a `drawing`. Raises ValueError or TypeError for anything else, an empty one included."""
    with np.errstate(over="ignore"):  # 1e39 becomes infinite, which is refused below
        strokes = [np.stack([np.asarray(axis, np.float32) for axis in stroke[:2]], axis=1) for stroke in drawing]
    if not strokes or any(stroke.ndim != 2 or stroke.shape[1] != 2 or not len(stroke) for stroke in strokes):
        raise ValueError("a drawing is a list of strokes, each of two equally long lists")
    if not all(np.isfinite(stroke).all() for stroke in strokes):
        raise ValueError("a drawing has coordinates that are not finite")
    return strokes


def _lines_from(path: Path, seed: int) -> Iterator[bytes]:
    """Lines from the place in the file that the seed means: at most MAX_TRIES, each once, from its end on to its start.

    A place in the middle of a line means the next one, so that long drawings before it make a drawing a little more
    likely, and nothing of its own does.
    """
    size = os.path.getsize(path)
    if not size:
        return
    start = seed % size
    with path.open("rb") as file:
        file.seek(max(0, start - 1))
        if start:
            file.readline()  # the rest of the line before
        begin = file.tell()
        for number in range(MAX_TRIES):
            if file.tell() >= size:
                file.seek(0)
            if number and file.tell() == begin % size:
                return
            yield file.readline()
