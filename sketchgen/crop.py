"""The masked crop: what sketchers and edges see of an instance."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.instance import Mask


@dataclass(frozen=True, slots=True)
class Crop:
    """An instance on white, cut to its mask and scaled so that its longer side has a fixed length.

    rgb: [h, w, 3] uint8, 255 outside the mask; mask: [h, w] bool. Scaling happens before anything
    is drawn, so that strokes are equally wide for small and large objects. category and key (which instance
    it is) are for sketchers that draw by words or by chance.
    """

    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    category: str = ""
    key: str = ""


def cut(image: NDArray[np.uint8], mask: Mask, side: int, margin: int = 8) -> Crop:
    """Cut the masked instance out of an RGB image; the longer side of the crop becomes `side` pixels.

    image: [H, W, 3] uint8. margin: white pixels on all four sides, within `side`, so that an outline
    has room to close. Raises ValueError for an empty mask.
    """
    if mask.area == 0:
        raise ValueError("cannot cut an instance whose mask is empty")
    rows = np.flatnonzero(mask.bits.any(axis=1))
    cols = np.flatnonzero(mask.bits.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, cols[0], cols[-1] + 1
    bits = mask.bits[top:bottom, left:right]
    pixels = image[mask.y + top : mask.y + bottom, mask.x + left : mask.x + right]
    height, width = bits.shape
    scale = (side - 2 * margin) / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    rgb = cv2.resize(pixels, size, interpolation=how)
    soft = cv2.resize(bits.astype(np.float32), size, interpolation=how)
    white, outside = (255, 255, 255), 0.0
    rgb = cv2.copyMakeBorder(rgb, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=white)
    soft = cv2.copyMakeBorder(soft, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=outside)
    if scale > 1:  # an enlarged mask shows its pixels as stairs: round them off
        soft = cv2.GaussianBlur(soft, (0, 0), min(0.5 * scale, max(1.0, margin / 3)))
    inside = soft > 0.5
    if not inside.any():  # a mask thinner than a target pixel
        inside = soft >= soft.max()
    rgb = np.where(inside[..., None], rgb, np.uint8(255))
    return Crop(rgb=np.ascontiguousarray(rgb), mask=inside)
