"""Edges and composition: the classical half of a sketch (paper, figure "sketch pipeline")."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.crop import Crop


@dataclass(frozen=True)
class EdgesConfig:
    """The drawn edges. Lengths in pixels of the sketch."""

    outline: int = 3
    """Width of the closed outline."""
    inner: float = 220.0
    """Gradient (grey values a pixel, of the smoothed and stretched crop, times 4) from which an inner
    edge is sure; it is followed down to 0.4 of it. 0 = no inner edges."""
    smooth: float = 2.0
    """Sigma of the blur before inner edges are looked for: larger = fewer of them."""
    min_length: int = 20
    """Inner edges shorter than this are specks."""


def edges(crop: Crop, config: EdgesConfig) -> NDArray[np.uint8]:
    """Closed dark outline and strong inner edges of a masked crop: [h, w] uint8, dark on white.

    The outline is the morphological gradient of the mask, so it is closed by construction. Inner edges
    are looked for by Canny, whose ridges are one pixel wide where those of a morphological gradient are
    broad and ragged.
    """
    drawn = np.full(crop.mask.shape, 255, np.uint8)
    if config.inner > 0:
        drawn[_inner(crop, config)] = 0
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (config.outline, config.outline))
    drawn[cv2.morphologyEx(crop.mask.view(np.uint8), cv2.MORPH_GRADIENT, disc) > 0] = 0
    # grey the stairs at the sides of strokes; their middle stays black
    return cv2.GaussianBlur(drawn, (3, 3), 0.6)


def _inner(crop: Crop, config: EdgesConfig) -> NDArray[np.bool_]:
    smooth = cv2.GaussianBlur(_stretched(crop), (0, 0), config.smooth)
    found = cv2.Canny(smooth, 0.4 * config.inner, config.inner, L2gradient=True)
    # some pixels inside the mask: the outline is drawn already
    found &= cv2.erode(crop.mask.view(np.uint8), np.ones((9, 9), np.uint8)) * np.uint8(255)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    keep = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) >= config.min_length
    keep[0] = False
    lines = keep[labels].view(np.uint8)
    return cv2.dilate(lines, np.ones((2, 2), np.uint8)).view(np.bool_)


MAX_GAIN = 2.5
"""Dark objects are stretched to full contrast, but not so far that their noise becomes lines."""


def _stretched(crop: Crop) -> NDArray[np.uint8]:
    """Grey values inside the mask, stretched to the full range; outside a smear of them, so that the
    border of the mask makes no gradient inside it."""
    grey = cv2.cvtColor(crop.rgb, cv2.COLOR_RGB2GRAY)
    low, high = np.percentile(grey[crop.mask], (2, 98))
    gain = min(MAX_GAIN, 255 / max(high - low, 1.0))
    bright = cv2.convertScaleAbs(cv2.subtract(grey, float(low)), alpha=gain)
    weight = crop.mask.view(np.uint8)
    total = cv2.boxFilter(bright * weight, cv2.CV_32F, (15, 15))
    share = cv2.boxFilter(weight, cv2.CV_32F, (15, 15))
    smear = cv2.divide(total, cv2.max(share, 1e-3))
    return np.where(crop.mask, bright, cv2.convertScaleAbs(smear))


def compose(strokes: NDArray[np.uint8], drawn: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The final sketch: the darker stroke wins, centred on a white [side, side] square.

    Both [h, w] uint8, dark on white, h and w at most `side`.
    """
    assert strokes.shape == drawn.shape and max(drawn.shape) <= side, (strokes.shape, drawn.shape, side)
    sketch = np.full((side, side), 255, np.uint8)
    top, left = (side - drawn.shape[0]) // 2, (side - drawn.shape[1]) // 2
    sketch[top : top + drawn.shape[0], left : left + drawn.shape[1]] = np.minimum(strokes, drawn)
    return sketch
