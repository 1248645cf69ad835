"""Checks: what may not become a sketch, and the reason that the ledger gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sketchgen.instance import Box, Mask

DARK = 128
"""Sketch pixels below this grey value count as ink."""


@dataclass(frozen=True)
class ChecksConfig:
    """Thresholds; the value seen is in the ledger beside each reject."""

    min_side: float = 24.0
    """Shorter side of the clipped box, pixels of the stored photo (`box-small`); smaller ones give blobs."""
    duplicate_iou: float = 0.9
    """A later box of the same class that overlaps an earlier one this much is a `duplicate`."""
    min_score: float = 0.64
    """Confidence of the segmenter (`mask-score`), from the card of boxseg; segmenters without one (-1) pass."""
    min_fill: float = 0.08
    """Mask area / box area (`mask-fill`)."""
    min_agreement: float = 0.5
    """IoU of the mask's own bounding box and the annotated one (`mask-box`)."""
    min_ink: float = 0.008
    """Share of dark pixels of the sketch (`ink-low`)."""
    max_ink: float = 0.4
    """(`ink-high`)"""


@dataclass(frozen=True, slots=True)
class Reject:
    """Why an instance was refused: a slug, and the value seen."""

    reason: str
    detail: str


def clip_box(box: Box, width: int, height: int, min_side: float) -> Box | Reject:
    """The part of the box inside the image, or why there is none worth drawing."""
    if not all(math.isfinite(value) for value in box):
        return Reject("box-invalid", f"box {_text(box)} has a value that is missing or not finite")
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        return Reject("box-empty", f"box {_text(box)} has no area or is reversed")
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return Reject("box-outside", f"box {_text(box)} lies outside the image of {width}x{height}")
    shorter = min(inside[2] - inside[0], inside[3] - inside[1])
    if shorter < min_side:
        return Reject("box-small", f"shorter side {shorter:.1f} px, at least {min_side:g} wanted")
    return inside


def find_duplicate(
    box: Box, category: str, kept: Sequence[tuple[str, Box, str]], config: ChecksConfig
) -> Reject | None:
    """Whether an earlier instance (category, box, object_id) is the same object."""
    for other_category, other, object_id in kept:
        if other_category == category and box_iou(box, other) >= config.duplicate_iou:
            return Reject("duplicate", f"overlaps {object_id} by IoU {box_iou(box, other):.2f}")
    return None


def check_mask(mask: Mask, box: Box, config: ChecksConfig) -> Reject | None:
    """Whether mask and box agree."""
    if mask.area == 0:
        return Reject("mask-empty", "the segmenter (or, with `annotation`, the source) has no mask for this box")
    if 0 <= mask.score < config.min_score:
        return Reject("mask-score", f"score {mask.score:.2f} < {config.min_score:g}")
    fill = mask.area / box_area(box)
    if fill < config.min_fill:
        return Reject("mask-fill", f"covers {fill:.1%} of the box, at least {config.min_fill:.0%} wanted")
    agreement = box_iou(mask_box(mask), box)
    if agreement < config.min_agreement:
        return Reject("mask-box", f"mask spans another box: IoU {agreement:.2f} < {config.min_agreement:g}")
    return None


def check_ink(ink: float, config: ChecksConfig) -> Reject | None:
    """Whether the sketch is neither blank nor smeared."""
    if ink < config.min_ink:
        return Reject("ink-low", f"ink {ink:.2%} < {config.min_ink:.2%}")
    if ink > config.max_ink:
        return Reject("ink-high", f"ink {ink:.2%} > {config.max_ink:.2%}")
    return None


def ink_of(sketch: NDArray[np.uint8]) -> float:
    """Share of dark pixels of a sketch, in [0, 1]."""
    return float(np.count_nonzero(sketch < DARK)) / sketch.size


def mask_box(mask: Mask) -> Box:
    """Bounding box of the true pixels; the mask must not be empty."""
    rows = np.flatnonzero(mask.bits.any(axis=1))
    cols = np.flatnonzero(mask.bits.any(axis=0))
    return (
        float(mask.x + cols[0]),
        float(mask.y + rows[0]),
        float(mask.x + cols[-1] + 1),
        float(mask.y + rows[-1] + 1),
    )


def box_area(box: Box) -> float:
    """Area in square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes of positive area, in [0, 1]."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0.0) * max(height, 0.0)
    return overlap / (box_area(a) + box_area(b) - overlap)


def _text(box: Box) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
