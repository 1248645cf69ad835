"""Banks of drawings that lie as pictures in folders, one folder a class: Sketchy, TU-Berlin, or a user's own."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from data_manifests.picture import FORMATS
from data_manifests.schema import STRIP_SIDE
from sketchgen.bank import Drawing
from sketchgen.banks.files import AGAIN, check_ink, printable

MAX_PIXELS = 16_000_000
"""A picture that claims more is no drawing of a bank."""


class PictureBank:
    """Drawings in picture files."""

    def __init__(
        self, source: str, files: Mapping[str, Sequence[Path]], photo_of: Callable[[Path], str] | None = None
    ) -> None:
        """source: what the shards call it; files: of each class, in a fixed order, one at least; photo_of: the photo
        that a drawing was made of, where it was made of one."""
        self._source = source
        self._files = dict(files)
        self._of_photo: dict[str, tuple[str, list[Path]]] = {}
        for category, paths in self._files.items() if photo_of else ():
            for path in paths:
                assert photo_of is not None
                self._of_photo.setdefault(photo_of(path), (category, []))[1].append(path)

    @property
    def categories(self) -> tuple[str, ...]:
        """As the folders are named."""
        return tuple(self._files)

    def draw(self, category: str, seed: int) -> Drawing:
        """See `SketchBank`. Raises ValueError also for a file that is no picture or draws nothing."""
        if category not in self._files:
            raise ValueError(f"{self._source} has no drawings of {category!r}")
        files = self._files[category]
        return self._read(category, files[seed % len(files)])

    def pair(self, photo: str, seed: int) -> tuple[Drawing, Drawing] | None:
        """A drawing made of this photo, and one of another photo of its class; None where there are not both.

        Raises ValueError as `draw`.
        """
        category, own = self._of_photo.get(photo, ("", []))
        others = [path for path in self._files.get(category, ()) if path not in own]
        if not own or not others:
            return None
        mine, other = own[seed % len(own)], others[seed % len(others)]
        return self._read(category, mine), self._read(category, other)

    def _read(self, category: str, path: Path) -> Drawing:
        return Drawing(f"{self._source}/{path.stem}", category, self._source, self._source, "human", read_drawing(path))

    def lookalikes(self, category: str) -> tuple[str, ...]:
        """None is known."""
        return ()


def read_drawing(path: Path) -> NDArray[np.uint8]:
    """A drawing as [256, 256] uint8, dark on white: grey, alpha on white, aspect kept.

    Raises ValueError for no picture, and for one that draws nothing.
    """
    try:
        with Image.open(io.BytesIO(path.read_bytes()), formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels")
            flat = picture.convert("RGBA")
    except Exception as error:  # Pillow raises almost anything on damaged files
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{printable(path)} is no drawing that can be read: {what}; {AGAIN}") from None
    white = Image.new("RGBA", flat.size, "white")
    grey = Image.alpha_composite(white, flat).convert("L")
    square = ImageOps.pad(grey, (STRIP_SIDE, STRIP_SIDE), Image.Resampling.LANCZOS, 255)
    return check_ink(np.asarray(square, np.uint8), path)
