"""Boxes, xyxy: overlap, and suppression of those that say the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sketchlm.metrics.figure import Values

Boxes = Sequence[Sequence[float]] | Values
Scores = Sequence[float] | Values
OVERLAP = 0.4
"""Of two boxes that overlap by more the surer stays: two that both fit one object at 0.5 may share as little as a third
(benchmarks/library.md has what each value costs)."""


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two xyxy boxes, in [0, 1]."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / union) if union > 0 else 0.0  # areas too small for a float


def overlaps(a: Boxes, b: Boxes) -> Values:
    """`iou` of each of the boxes [m, 4] with each of [n, 4], -> [m, n]. Raises ValueError for what are no boxes."""
    first, second = checked_boxes(a)[:, None], checked_boxes(b)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = sides.clip(0).prod(-1)
    union = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=(shared > 0) & (union > 0))


def suppress(boxes: Boxes, scores: Scores, threshold: float = OVERLAP) -> list[int]:
    """Places of the boxes that non-maximum suppression leaves, best first; equal scores: the earlier first.

    A box goes where it overlaps a better one that stays by more than the threshold. Raises ValueError for what are
    no boxes, or no score for each.
    """
    import torch
    from torchvision.ops import nms

    values = torch.from_numpy(checked_boxes(boxes))
    kept = nms(values, torch.from_numpy(checked_scores(scores, len(values))), threshold)
    return [int(place) for place in kept]


def checked_boxes(boxes: Boxes) -> Values:
    """[n, 4]. Raises ValueError for another shape, or for what is no number."""
    values = np.asarray(boxes, np.float64)
    if not values.size:
        return values.reshape(0, 4)
    if values.ndim != 2 or values.shape[1] != 4 or not np.isfinite(values).all():
        raise ValueError(f"boxes are {values.tolist()}: each needs four numbers, x1, y1, x2, y2")
    return values


def checked_scores(scores: Scores, count: int) -> Values:
    """[count]. Raises ValueError for more or fewer, or for nan."""
    values = np.asarray(scores, np.float64)
    if values.shape != (count,) or np.isnan(values).any():
        raise ValueError(f"scores are {values.tolist()}: {count} numbers are needed, one for each")
    return values
