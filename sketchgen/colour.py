"""The colour of a thing in one word, where one word is enough."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.instance import Mask

COLOURS = ("black", "white", "grey", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink")
"""The basic colour terms of English (Berlin and Kay 1969)."""
MOST, REST = 0.6, 0.2
"""Share of the pixels that the colour must have at least, and the next one at most."""
FEWEST = 100
"""Pixels of a mask whose colour can be told."""
STEP = 4
"""A thing of many pixels is looked at in a grid of this step."""
HUES = ((15, "red"), (42, "orange"), (70, "yellow"), (165, "green"), (258, "blue"), (292, "purple"), (345, "pink"),
        (361, "red"))  # fmt: skip
"""Degrees up to which a hue is called so."""


def colour_of(rgb: NDArray[np.uint8], mask: Mask) -> str:
    """The colour that most of a thing has; "" where it has several, or is too small to tell.

    rgb: [H, W, 3] of the photo that the mask belongs to.
    """
    if mask.area < FEWEST:
        return ""
    height, width = mask.bits.shape
    step = STEP if mask.area > FEWEST * STEP**2 * 4 else 1
    crop = rgb[mask.y : mask.y + height, mask.x : mask.x + width][::step, ::step]
    names = named(crop[mask.bits[: crop.shape[0] * step : step, : crop.shape[1] * step : step]])
    counts = np.sort(np.bincount(names, minlength=len(COLOURS)))[::-1] / max(1, len(names))
    if counts[0] < MOST or counts[1] > REST:
        return ""
    return COLOURS[int(np.bincount(names, minlength=len(COLOURS)).argmax())]


def named(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The colour of each pixel as a number in COLOURS. pixels: [N, 3] RGB; result: [N]."""
    if not len(pixels):
        return np.zeros(0, np.int64)
    hsv = cv2.cvtColor(np.ascontiguousarray(pixels[None]).astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[0]
    hue, saturation, value = hsv[:, 0], hsv[:, 1], hsv[:, 2]
    by_hue = np.array([COLOURS.index(name) for _, name in HUES])
    names = by_hue[np.searchsorted([end for end, _ in HUES], hue, side="right").clip(0, len(HUES) - 1)]
    warm = np.isin(names, [COLOURS.index("red"), COLOURS.index("orange")])
    names[warm & (hue >= 8) & (hue < 50) & (value < 0.62)] = COLOURS.index("brown")
    names[(names == COLOURS.index("red")) & (saturation < 0.5) & (value > 0.75)] = COLOURS.index("pink")
    pale = saturation < np.where(value < 0.4, 0.28, 0.16)
    names[pale] = COLOURS.index("grey")
    names[pale & (value > 0.8)] = COLOURS.index("white")
    names[value < 0.2] = COLOURS.index("black")
    return names.astype(np.int64)
