"""Metrics, each with a 95 % bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its 95 % interval and the number of questions behind it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def bootstrap(
    rows: Sequence[Sequence[float]],
    measure: Callable[[Values], float],
    groups: Sequence[str],
    rounds: int = 1000,
    seed: int = 0,
) -> Figure:
    """`measure` of the rows [n, k], and its interval over images drawn anew.

    groups: the image of each row: questions on one image are not independent, so images are drawn.
    """
    values = np.asarray(rows, np.float64)
    if not len(values):
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(places == number) for number in range(len(names))]
    drawn = [
        measure(values[np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))])])
        for _ in range(rounds)
    ]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Figure(float(measure(values)), float(low), float(high), len(values))


def mean(values: Values) -> float:
    """Mean of the first column."""
    return float(values[:, 0].mean())


def balanced_accuracy(values: Values) -> float:
    """values [n, 2]: right (0 or 1), and the true class (0 or 1); mean of both classes' recall."""
    recalls = [values[values[:, 1] == kind, 0].mean() for kind in (0, 1) if (values[:, 1] == kind).any()]
    return float(np.mean(recalls))


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two xyxy boxes, in [0, 1]."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / union) if union > 0 else 0.0  # areas too small for a float
