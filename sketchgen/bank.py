"""The protocol of sketch banks: where drawings come from that were not made from the image they are asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sketchgen.seed import seed_of

VAL_SHARE = 0.1
"""Of what chance divides into train and val."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """One sketch of a bank. image: [256, 256] uint8, dark strokes on white; the other fields as in the shard."""

    sketch_id: str
    category: str
    source: str
    style: str
    generator: str
    image: NDArray[np.uint8]


def split_of(source: str, key: str) -> str:
    """`train` or `val`, by chance that this key of this bank alone decides: all that shares it stays together."""
    return "val" if seed_of(source, key) % 1000 < 1000 * VAL_SHARE else "train"


class SketchBank(Protocol):
    """Drawings by category. Every bank (shapeworld's hand, QuickDraw, Sketchy, ...) serves this."""

    @property
    def categories(self) -> tuple[str, ...]:
        """All categories that can be drawn."""
        ...

    def draw(self, category: str, seed: int) -> Drawing:
        """The drawing of this seed: the same each time, another one for another seed.

        Raises ValueError for a category that the bank does not have.
        """
        ...

    def lookalikes(self, category: str) -> tuple[str, ...]:
        """Categories easily confused with this one; () where none is known."""
        ...
