"""A bank that draws nothing: a white page for every class that we have a name for. For questions in words alone."""

from __future__ import annotations

import numpy as np

from data_manifests.schema import STRIP_SIDE
from data_manifests.vocabulary import vocabulary
from sketchgen.bank import Drawing

SOURCE = "blank"


class BlankBank:
    """White pages (see `sketchgen.bank.SketchBank`)."""

    @property
    def categories(self) -> tuple[str, ...]:
        """All names of the vocabulary: every class of COCO is among them."""
        return vocabulary().names

    def draw(self, category: str, seed: int) -> Drawing:
        """The same page each time."""
        page = np.full((STRIP_SIDE, STRIP_SIDE), 255, np.uint8)
        return Drawing(f"{SOURCE}/{category}", category, SOURCE, SOURCE, "none", page)

    def lookalikes(self, category: str) -> tuple[str, ...]:
        """None is known."""
        return ()
