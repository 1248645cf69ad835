"""Pictures of a record as data URLs, as long as the page has room for them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from data_manifests.schema import Measured
from sketchlm.evaluation.record import Entry, Example

ROOM: Final = 6_000_000
"""Characters of all pictures of a page together."""
SIDE: Final = 320
"""Longest side of a picture, pixels; larger ones are made smaller."""
STRIP_SIDE: Final = 128
"""The same in the strip of a gallery."""
QUALITY: Final = 80
RIGHT: Final[dict[Measured, float]] = {"bbox": 0.5, "sbir": 0.5, "count": 0.999, "vqa": 0.5}
"""Score from which an answer is right, else it is wrong: IoU, p of the true answer, exact, half of the people's.
Answers of other tasks can be right in part: from 0.999 they are right, at 0 wrong."""
RULES: Final[dict[Measured, str]] = {
    "bbox": "✓ an IoU of 0.5 or more with a true box, ✗ less",
    "boxes": "✓ every instance found and nothing else, ◐ part of that, ✗ nothing right",
    "count": "✓ the very number, ✗ another",
    "vqa": "✓ the answer (or half of what people said), ✗ another",
    "sbir": "✓ p of the true answer is 0.5 or more, ✗ less",
    "retrieval": "✓ and a green frame: shows what was sketched, ✗ does not",
    "describe": "✓ class named and box exact, ◐ part of that, ✗ neither",
}
"""What marks say, in the words of RIGHT."""

Mark = Literal["right", "partly", "wrong"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that a page holds; width and height in pixels."""

    url: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a ranking."""

    picture: Picture | None
    p_yes: float
    is_relevant: bool


@dataclass(frozen=True, slots=True)
class Card:
    """An example as it is shown; a picture that is not there, or damaged, is None."""

    task: Measured
    example: Example
    sketch: Picture | None
    image: Picture | None
    strip: tuple[Place, ...]

    @property
    def mark(self) -> Mark:
        """Of its score."""
        return mark_of(self.task, self.example.score)


def mark_of(task: Measured, score: float) -> Mark:
    """Whether an answer with this score is right."""
    if score >= RIGHT.get(task, 0.999):
        return "right"
    return "wrong" if task in RIGHT or score <= 0 else "partly"


@dataclass
class Pictures:
    """Those of one folder; `room` shrinks with each new one."""

    folder: Path
    room: int = ROOM
    _known: dict[tuple[str, int], Picture | None] = field(default_factory=dict)

    def get(self, name: str, side: int = SIDE) -> Picture | None:
        """None for "", and for what is no picture inside the folder."""
        key = (name, side)
        if name and key not in self._known:
            self._known[key] = _read(self.folder, name, side)
            self.room -= len(found.url) if (found := self._known[key]) else 0
        elif (found := self._known.get(key)) is not None:
            self.room -= len(found.url)  # shown twice, written twice
        return self._known.get(key)


def cards(pictures: Pictures, entries: Sequence[Entry]) -> tuple[dict[str, list[Card]], int]:
    """By the name of the entry, the examples that there is room for; and how many there is none for.

    Room goes first to the first of each kind of each entry, so that no entry stays without.
    """
    wanted = [
        (place, number, entry, example)
        for number, entry in enumerate(entries)
        for kind in ("best", "worst", "random")
        for place, example in enumerate(one for one in entry.examples if one.kind == kind)
    ]
    made: dict[str, list[Card]] = {entry.name: [] for entry in entries}
    left = 0
    for _, _, entry, example in sorted(wanted, key=lambda one: one[:2]):
        if pictures.room <= 0:
            left += 1
            continue
        made[entry.name].append(card(pictures, entry.task, example))
    order = ("best", "worst", "random")
    return {name: sorted(them, key=lambda one: order.index(one.example.kind)) for name, them in made.items()}, left


def card(pictures: Pictures, task: Measured, example: Example) -> Card:
    """With its pictures."""
    strip = tuple(Place(pictures.get(name, STRIP_SIDE), p, relevant) for name, p, relevant in example.gallery)
    return Card(task, example, pictures.get(example.sketch), pictures.get(example.image), strip)


def _read(folder: Path, name: str, side: int) -> Picture | None:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        return None
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as opened:
            kind = opened.format or ""
            opened.load()
            if max(opened.size) > side:
                data, kind, size = _smaller(opened, side)
            else:
                size = opened.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises for damaged files
        return None
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode('ascii')}"
    return Picture(url, *size)


def _smaller(picture: Image.Image, side: int) -> tuple[bytes, str, tuple[int, int]]:
    """As JPEG; drawings as PNG, which is smaller for strokes and leaves no halo."""
    scale = side / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    is_drawing = picture.mode in ("1", "L", "P")
    small = picture.convert("L" if is_drawing else "RGB").resize(size, Image.Resampling.LANCZOS)
    file, kind = io.BytesIO(), "PNG" if is_drawing else "JPEG"
    small.save(file, kind, **({} if is_drawing else {"quality": QUALITY}))
    return file.getvalue(), kind, size
