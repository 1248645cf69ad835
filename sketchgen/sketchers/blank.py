"""The sketcher that draws nothing: sketches are then their edges alone, fast and without weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sketchgen.crop import Crop


class BlankSketcher:
    """White paper for every crop."""

    style = ""
    generator = "edges"

    def sketch(self, crops: Sequence[Crop]) -> list[NDArray[np.uint8]]:
        """See `sketchgen.sketcher.Sketcher`."""
        return [np.full(crop.mask.shape, 255, np.uint8) for crop in crops]
