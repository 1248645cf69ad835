"""What the library answers: typed, with what the model said word for word, and as pictures."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sketchlm.photo import PhotoSource, as_photo

HEIGHT = 320
"""Of pictures of results: of the sketch, and of an image with it at least; pixels."""
WIDEST = 1600
"""Of an image, pixels: wider ones are lower."""
GAP = 12
LINE = 22
"""Height of a line of words, pixels."""
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
FOUND, SHADE = "#ffd33d", "#1d2129"
THUMBNAIL, ACROSS = 160, 5


@dataclass(frozen=True, slots=True)
class Box:
    """Where an object is: pixels of the upright image; score: how sure the model was of the place, in [0, 1]."""

    x1: float
    y1: float
    x2: float
    y2: float
    score: float

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.x1, self.y1, self.x2, self.y2


class Picture:
    """What can be looked at: `show()`, `save(path)`, and by itself in a notebook."""

    def picture(self) -> Image.Image:
        """As a picture, RGB."""
        raise NotImplementedError

    def show(self) -> None:
        """Open it in the system's viewer."""
        self.picture().show()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it; the ending tells the format, folders that are missing are made. Raises ValueError where it cannot
        be written, and for an ending that is none."""
        check_savable(path)
        picture = self.picture()
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            picture.save(Path(path))
        except OSError as error:
            raise ValueError(f"cannot save {os.fspath(path)}: {error}; name another place") from None

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.picture().save(data, "PNG")
        return data.getvalue()


def check_savable(path: str | os.PathLike[str]) -> None:
    """Raise ValueError for a name that no picture can have: `save` would, once there is one."""
    place = Path(path)
    kind = Image.registered_extensions().get(place.suffix.lower())
    if kind not in Image.SAVE:
        raise ValueError(
            f"cannot save {place}: {place.suffix or 'no ending'} is no kind of picture; name it .png or .jpg"
        )
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    if there.is_dir() == (there == place):  # a folder of that name, or a file where a folder has to be
        raise ValueError(
            f"cannot save {place}: {there} is a {'folder' if there.is_dir() else 'file'}; name another place"
        )


@dataclass(frozen=True)
class Shown:
    """What the model was shown."""

    image: PhotoSource
    """As it was given (of a URL, the bytes behind it): opened again to be drawn, so that results of many are small."""
    sketch: NDArray[np.uint8] | None = None
    """[256, 256] uint8, as the model saw it; None where there was none."""
    text: str = ""
    """Words that stood with the sketch, or in its place."""


@dataclass(frozen=True)
class Detection(Picture):
    """Boxes of what was drawn, surest first; none where the answer holds none (`reason` says why)."""

    boxes: tuple[Box, ...]
    raw: str
    """What the model said."""
    shown: Shown = field(repr=False)
    reason: str = ""
    """Why there is no box, or that the answer was cut off; "" where all is well."""
    dropped: int = 0
    """Boxes that were named and left out: they say the same as a surer one, are not sure enough, or one was wanted."""

    @property
    def box(self) -> Box | None:
        """The surest one."""
        return self.boxes[0] if self.boxes else None

    def picture(self) -> Image.Image:
        """The sketch beside the image with its boxes."""
        image, scale = _scaled(as_photo(self.shown.image))
        draw = ImageDraw.Draw(image)
        font = ImageFont.load_default(14)
        for box in reversed(self.boxes):
            x1, y1, x2, y2 = (value * scale for value in box.xyxy)
            for colour, width in ((SHADE, 5), (FOUND, 3)):
                draw.rectangle((x1, y1, x2, y2), outline=colour, width=width)
            label = f"{box.score:.2f}"
            wide = draw.textlength(label, font) + 8
            left, top = max(min(x1, image.width - wide), 0), max(y1 - 18, 0)
            draw.rectangle((left, top, left + wide, top + 18), fill=FOUND)
            draw.text((left + 4, top + 1), label, fill=SHADE, font=font)
        return _beside(self.shown.sketch, image, self.reason or "")


@dataclass(frozen=True)
class Count(Picture):
    """How many of what was drawn; None where the answer holds no number (`reason` says why)."""

    count: int | None
    score: float
    """Probability of the number that was said, in [0, 1]."""
    raw: str
    shown: Shown = field(repr=False)
    reason: str = ""

    def picture(self) -> Image.Image:
        """The sketch beside the image, the number below."""
        words = self.reason if self.count is None else f"{self.count}  ({self.score:.2f})"
        return _beside(self.shown.sketch, _scaled(as_photo(self.shown.image))[0], words)


@dataclass(frozen=True)
class Reply(Picture):
    """The answer to a question."""

    text: str
    raw: str
    """What the model said, cut off or not."""
    shown: Shown = field(repr=False)
    reason: str = ""
    """Why the text is empty or cut off; "" where it is neither."""
    question: str = ""

    def picture(self) -> Image.Image:
        """The sketch beside the image, question and answer below."""
        said = "\n".join(filter(None, (self.question, self.text, self.reason)))
        return _beside(self.shown.sketch, _scaled(as_photo(self.shown.image))[0], said)


@dataclass(frozen=True, slots=True)
class Match:
    """One image of a ranking."""

    name: str
    """Path or URL as it was given, or `#3` for the fourth of a list, where it has none."""
    score: float
    """How surely the model says that it shows what is drawn, p(yes), in [0, 1]; nan where only the coarse search saw
    it."""
    image: PhotoSource = field(repr=False)
    """As it was given."""


@dataclass(frozen=True)
class Ranking(Picture):
    """A gallery in order, best first."""

    matches: tuple[Match, ...]
    sketch: NDArray[np.uint8] | None = field(repr=False)
    """[256, 256] uint8, as the model saw it; None where there was none."""
    text: str = ""
    broken: dict[str, str] = field(default_factory=dict)
    """What could not be read, and why; the rest is ranked."""
    duplicates: dict[str, str] = field(default_factory=dict)
    """Images that are the same, byte for byte, as another, which alone is ranked; by name, with the other's."""

    def picture(self) -> Image.Image:
        """The sketch beside the best ten images with their scores."""
        tiles = []
        for match in self.matches[: 2 * ACROSS]:
            tile = Image.new("RGB", (THUMBNAIL, THUMBNAIL + 20), "white")
            small = Image.fromarray(as_photo(match.image))
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            tile.paste(small, ((THUMBNAIL - small.width) // 2, (THUMBNAIL - small.height) // 2))
            label = Path(match.name).name[-18:] + ("" if math.isnan(match.score) else f"  {match.score:.2f}")
            ImageDraw.Draw(tile).text((2, THUMBNAIL + 3), label, fill=SHADE, font=ImageFont.load_default(12))
            tiles.append(tile)
        return _beside(self.sketch, _grid(tiles), self.text)


def _scaled(image: NDArray[np.uint8]) -> tuple[Image.Image, float]:
    """A picture at least HEIGHT high, and by how much it was scaled."""
    height = image.shape[0]
    scale = min(max(HEIGHT, min(height, 2 * HEIGHT)) / height, WIDEST / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(height * scale)))
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), scale


def _grid(tiles: Sequence[Image.Image]) -> Image.Image:
    wide, high = THUMBNAIL + GAP, THUMBNAIL + 20 + GAP
    columns = max(1, min(ACROSS, len(tiles)))
    sheet = Image.new("RGB", (columns * wide - GAP, max(1, -(-len(tiles) // columns)) * high - GAP), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * wide, number // columns * high))
    return sheet


def _beside(sketch: NDArray[np.uint8] | None, image: Image.Image, words: str) -> Image.Image:
    """Sketch and image side by side on white, words below in as many lines as they take."""
    left = 0 if sketch is None else HEIGHT // 2 + GAP
    font = ImageFont.load_default(16)
    wide = max(left + image.width, HEIGHT if words.strip() else 0)
    lines = _wrapped(words, font, wide)
    high = max(image.height, 0 if sketch is None else HEIGHT // 2)
    below = 6 + LINE * len(lines) if lines else 0
    sheet = Image.new("RGB", (GAP + wide + GAP, GAP + high + below + GAP), "white")
    if sketch is not None:
        small = Image.fromarray(sketch).convert("RGB").resize((HEIGHT // 2, HEIGHT // 2), Image.Resampling.LANCZOS)
        sheet.paste(small, (GAP, GAP))
        ImageDraw.Draw(sheet).rectangle((GAP, GAP, GAP + HEIGHT // 2 - 1, GAP + HEIGHT // 2 - 1), outline="#c3ccd9")
    sheet.paste(image, (GAP + left, GAP))
    for number, line in enumerate(lines):
        place = (GAP, GAP + high + 6 + LINE * number)
        ImageDraw.Draw(sheet).text(place, line, fill=SHADE, font=font)
    return sheet


def _wrapped(words: str, font: Font, wide: int) -> list[str]:
    """Lines that are at most so many pixels wide; a word that is wider is cut where it has to be."""
    lines: list[str] = []
    for paragraph in words.strip().splitlines():
        line = ""
        for word in paragraph.split():
            if line and font.getlength(f"{line} {word}") > wide:
                lines.append(line)
                line = ""
            line = f"{line} {word}" if line else word
            while font.getlength(line) > wide and len(line) > 1:
                fits = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or font.getlength(line[:n]) <= wide)
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line)
    return lines
