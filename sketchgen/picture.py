"""A picture on its way through the worker: its source rows, its photo, its planned instances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sketchgen.checks import Reject
from sketchgen.crop import Crop
from sketchgen.instance import Instance, Mask
from sketchgen.ledger import LedgerRow
from sketchgen.photo import Photo
from sketchgen.source import SourceImage


@dataclass
class Item:
    """One planned instance, in pixels of the stored photo; what is not made yet is None."""

    instance: Instance
    row: LedgerRow
    mask: Mask | None = None
    crop: Crop | None = None
    strokes: NDArray[np.uint8] | None = None
    edges: NDArray[np.uint8] | None = None
    sketch: NDArray[np.uint8] | None = None

    @property
    def alive(self) -> bool:
        """Whether no check has refused it so far."""
        return not self.row.reason

    def refuse(self, reject: Reject) -> None:
        """Give the ledger row its reason."""
        self.row.reason, self.row.detail = reject.reason, reject.detail

    def forget_pixels(self) -> None:
        """Keep only what the ledger needs."""
        self.mask = self.crop = self.strokes = self.edges = self.sketch = None


@dataclass
class Picture:
    """One image of the shard."""

    source: SourceImage
    items: list[Item]
    photo: Photo | None = None

    @classmethod
    def of(cls, shard: int, image: SourceImage) -> Picture:
        """The picture of one planned image, nothing read yet."""
        items = []
        for row in image.instances:
            if row.status == "planned":
                i = row.instance
                x1, y1, x2, y2 = i.box
                ledger = LedgerRow(shard, image.image_id, i.object_id, i.category, x1=x1, y1=y1, x2=x2, y2=y2)
                items.append(Item(i, ledger))
        return cls(image, items)

    def forget_pixels(self) -> None:
        """Keep only what the ledger needs."""
        self.photo = None
        for item in self.items:
            item.forget_pixels()
