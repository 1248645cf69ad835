"""Facts: what is annotated in an image, and what follows from its boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from data_manifests.schema import Box, Image, Object

CLEAR = 0.1
"""Distance of two centres, as a share of the image's longer side, from which a relation is clear."""
SLANT = 1.5
"""How many times farther along one axis than along the other, so that it is `left of` and not `above`."""
RIM = 0.04
"""Nearer than this to the line between two ninths (share of the side) a place is not clear."""
SMALL, LARGE = 0.04, 0.06
"""Box area / image area of what is called small, and large."""
TALL = 1.5
"""Ratio of sides from which a box is called tall or wide."""


@dataclass(frozen=True)
class Facts:
    """An image and all its annotated objects, as a sample stores them."""

    image: Image
    objects: tuple[Object, ...]
    alike: frozenset[str] = frozenset()
    """Classes easily confused with one that is there."""
    colours: Mapping[str, str] = field(default_factory=dict)
    """The colour of things (of nobody), by their id, where one word is enough."""
    unclear: frozenset[str] = frozenset()
    """Classes of which nobody can say whether they are there, or how often."""

    @cached_property
    def present(self) -> set[str]:
        """Every class that the image shows, crowds included."""
        return {o.category for o in self.objects}

    @cached_property
    def counted(self) -> dict[str, list[Object]]:
        """The objects of each class whose number is known, left to right, then top to bottom.

        A class with a crowd has no known number, nor has an unclear one; an object of unknown class ("") has no class.
        """
        crowds = {o.category for o in self.objects if o.status == "crowd"} | {""} | self.unclear
        classes: dict[str, list[Object]] = {}
        for o in sorted(self.objects, key=lambda o: (o.box[0], o.box[1], o.object_id)):
            if o.category not in crowds:
                classes.setdefault(o.category, []).append(o)
        return classes

    @cached_property
    def singles(self) -> list[Object]:
        """The object of each class that has exactly one: what "the cup" means without doubt."""
        return [found[0] for found in self.counted.values() if len(found) == 1]

    def centre(self, box: Box) -> tuple[float, float]:
        """Centre of a box as shares (x, y) of the image's sides, in [0, 1]."""
        return (box[0] + box[2]) / 2 / self.image.width, (box[1] + box[3]) / 2 / self.image.height

    def place(self, box: Box) -> str:
        """The ninth of the image that holds the centre of the box: `upper left`, ..., `middle`."""
        x, y = (min(2, int(3 * value)) for value in self.centre(box))
        row, column = ("upper", "middle", "lower")[y], ("left", "middle", "right")[x]
        return "middle" if row == column else f"{row} {column}"

    def has_clear_place(self, box: Box) -> bool:
        """Whether the centre is well inside its ninth."""
        return all(abs(value - line) >= RIM for value in self.centre(box) for line in (1 / 3, 2 / 3))

    def relation(self, box: Box, other: Box) -> str:
        """Where the box lies as seen from the other: `left of`, `right of`, `above`, `below`; "" if unclear."""
        dx, dy = self._offset(box, other)
        near, far = sorted((abs(dx), abs(dy)))
        if far < CLEAR or far < SLANT * near:
            return ""
        if abs(dx) > abs(dy):
            return "left of" if dx < 0 else "right of"
        return "above" if dy < 0 else "below"

    def sides(self, box: Box, other: Box) -> set[str]:
        """Every relation that one could speak of: both `left of` and `above` for a box on the upper left."""
        dx, dy = self._offset(box, other)
        horizontal = {"left of" if dx < 0 else "right of"} if abs(dx) >= CLEAR else set()
        vertical = {"above" if dy < 0 else "below"} if abs(dy) >= CLEAR else set()
        return horizontal | vertical

    def distance(self, box: Box, other: Box) -> float:
        """Distance of the two centres, as a share of the image's longer side."""
        return math.hypot(*self._offset(box, other))

    def _offset(self, box: Box, other: Box) -> tuple[float, float]:
        """Centre of the box minus centre of the other, as shares of the image's longer side."""
        longer = max(self.image.width, self.image.height)
        return (
            (box[0] + box[2] - other[0] - other[2]) / 2 / longer,
            (box[1] + box[3] - other[1] - other[3]) / 2 / longer,
        )

    def size(self, box: Box) -> str:
        """`small`, `of medium size` or `large`, by the share of the image that the box covers."""
        share = area(box) / (self.image.width * self.image.height)
        return "small" if share < SMALL else "large" if share > LARGE else "of medium size"


def area(box: Box) -> float:
    """Area of a box, square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def shape(box: Box) -> str:
    """`tall`, `wide`, or "" for a box of about equal sides."""
    ratio = (box[2] - box[0]) / (box[3] - box[1])
    return "wide" if ratio >= TALL else "tall" if ratio <= 1 / TALL else ""
