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
FEWEST = 25
"""Pixels that are looked at, at least."""
COLOURLESS = 16
"""Of 255: difference of the channels below which nearly all of a grey photo stays."""
HUES = ((15, "red"), (42, "orange"), (70, "yellow"), (165, "green"), (258, "blue"), (292, "purple"), (345, "pink"),
        (361, "red"))  # fmt: skip
"""Degrees up to which a hue is called so."""


def colour_of(rgb: NDArray[np.uint8], mask: Mask, reduced: int = 1) -> str:
    """The colour that most of a thing has; "" where it has several, or is too small to tell.

    rgb: [H, W, 3] of the photo that the mask belongs to, or of one smaller by `reduced`.
    """
    middle = reduced // 2  # of the pixels that one of rgb stands for
    rows = np.arange(-(-(mask.y - middle) // reduced), min(len(rgb), -(-(mask.y + len(mask.bits) - middle) // reduced)))
    columns = np.arange(
        -(-(mask.x - middle) // reduced),
        min(rgb.shape[1], -(-(mask.x + mask.bits.shape[1] - middle) // reduced)),
    )
    bits = mask.bits[np.ix_(rows * reduced + middle - mask.y, columns * reduced + middle - mask.x)]
    names = named(rgb[np.ix_(rows, columns)][bits])
    if len(names) < FEWEST:
        return ""
    shares = np.bincount(names, minlength=len(COLOURS)) / len(names)
    first, second = np.sort(shares)[:-3:-1]
    return COLOURS[int(shares.argmax())] if first >= MOST and second <= REST else ""


def has_colours(rgb: NDArray[np.uint8]) -> bool:
    """Whether a photo is more than shades of one hue. rgb: [H, W, 3]."""
    spread = rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2)
    return bool(np.percentile(spread, 95) >= COLOURLESS)


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
