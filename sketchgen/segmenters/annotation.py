"""The segmenter that reads what the source ships."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sketchgen.instance import Instance, Mask
from sketchgen.segmentation import read_mask


class AnnotationSegmenter:
    """Reads `Instance.segmentation`; boxes and pixels are ignored, so a mask may leave its box.

    No segmentation, an empty and a malformed one (odd number of coordinates, NaN, a run-length
    encoding of another image size, ...) all give a mask with area 0. Masks have no score (-1).
    """

    def segment(self, images: Sequence[NDArray[np.uint8]], instances: Sequence[Sequence[Instance]]) -> list[list[Mask]]:
        """See `sketchgen.segmenter.Segmenter`."""
        return [
            [read_mask(instance, *image.shape[:2]) for instance in of_image]
            for image, of_image in zip(images, instances, strict=True)
        ]
