"""How well strokes lie on a drawing's lines: boundary F-score, and the classical rivals Canny and XDoG.

Both sides are thinned to one pixel. A drawn pixel is right when the truth has a pixel within the tolerance, a true
pixel is found when the drawing has one (distance transforms, no one-to-one matching: a doubled line is forgiven,
to the advantage of Canny, which finds two sides of a stroke). Counts are pooled over all pictures before F is taken
(as ODS of BSDS500 does), and intervals are bootstrapped over pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from sketchgen.training.openmoji import Pair

Lines = NDArray[np.bool_]
Counts = NDArray[np.int64]
"""[..., 4]: drawn pixels that are right, drawn pixels, true pixels found, true pixels."""


def thin(drawing: NDArray[np.uint8]) -> Lines:
    """One pixel wide lines of a drawing [h, w], dark on white: its pixels under 128, skeletonised."""
    return np.asarray(skeletonize(drawing < 128), np.bool_)


def match(drawn: Lines, truth: Lines, tolerance: float = 2.0) -> Counts:
    """Counts [4] of two thinned drawings [h, w]; tolerance in pixels."""
    return np.array(
        [
            (drawn & _near(truth, tolerance)).sum(),
            drawn.sum(),
            (truth & _near(drawn, tolerance)).sum(),
            truth.sum(),
        ],
        np.int64,
    )


def _near(lines: Lines, tolerance: float) -> Lines:
    if not lines.any():
        return np.zeros_like(lines)
    distance = cv2.distanceTransform((~lines).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance <= tolerance + 1e-3, np.bool_)


def f_score(counts: Counts) -> NDArray[np.float64]:
    """F of pooled counts [..., N, 4] -> [...], in [0, 1]; 0 where nothing was drawn or found."""
    right, drawn, found, true = np.moveaxis(counts.sum(axis=-2).astype(np.float64), -1, 0)
    precision, recall = right / np.maximum(drawn, 1), found / np.maximum(true, 1)
    return np.asarray(2 * precision * recall / np.maximum(precision + recall, 1e-12))


def interval(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], size: int, draws: int = 2000
) -> tuple[float, float]:
    """95 % bootstrap interval: `statistic` maps picture numbers [draws, size], drawn with replacement, to [draws]."""
    picks = np.random.default_rng(0).integers(0, size, (draws, size))
    low, high = np.percentile(statistic(picks), (2.5, 97.5))
    return float(low), float(high)


# --- rivals ----------------------------------------------------------------------------------------

Drawer = Callable[[NDArray[np.uint8]], Lines]


def canny(rgb: NDArray[np.uint8], sigma: float, high: float) -> Lines:
    """Canny's edges of an RGB picture, blurred by `sigma` pixels; the low threshold is 0.4 of the high one."""
    return cv2.Canny(cv2.GaussianBlur(rgb, (0, 0), sigma), 0.4 * high, high, L2gradient=True) > 0


def xdog(rgb: NDArray[np.uint8], sigma: float, sharpness: float, level: float) -> Lines:
    """Thinned ink of XDoG (Winnemoeller et al., 2012) with a steep ramp: where the sharpened picture
    (1 + p) G_sigma - p G_1.6 sigma is darker than `level` (of white = 1)."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    sharp = (1 + sharpness) * cv2.GaussianBlur(grey, (0, 0), sigma)
    sharp -= sharpness * cv2.GaussianBlur(grey, (0, 0), 1.6 * sigma)
    return np.asarray(skeletonize(sharp < level), np.bool_)


@dataclass(frozen=True)
class Rival:
    """A classical method at its best setting: its name with the setting, and counts [N, 4] of the pictures."""

    name: str
    counts: Counts


def best_rival(name: str, settings: Iterable[tuple[str, Drawer]], pairs: Sequence[Pair]) -> Rival:
    """The setting with the highest F over these very pairs, which favours the rival."""
    truths = [thin(pair.target) for pair in pairs]
    best = Rival("", np.zeros((len(pairs), 4), np.int64))
    for setting, draw in settings:
        counts = np.stack([match(draw(pair.rgb), truth) for pair, truth in zip(pairs, truths, strict=True)])
        if f_score(counts) > f_score(best.counts) or not best.name:
            best = Rival(f"{name} ({setting})", counts)
    return best


def canny_settings(sigmas: Sequence[float]) -> Iterable[tuple[str, Drawer]]:
    """Blur times threshold."""
    for sigma, high in product(sigmas, (30, 60, 90, 120, 160, 200, 250, 300, 400)):
        yield f"sigma {sigma}, high {high}", lambda rgb, sigma=sigma, high=high: canny(rgb, sigma, high)  # type: ignore[misc]


def xdog_settings() -> Iterable[tuple[str, Drawer]]:
    """Scale times sharpness times threshold."""
    for sigma, sharpness, level in product(
        (0.5, 0.8, 1.4, 2.0, 3.0), (5.0, 20.0, 60.0), (-4.0, -2.0, -1.0, -0.5, 0.0, 0.2, 0.4, 0.6, 0.8)
    ):
        yield (
            f"sigma {sigma}, p {sharpness}, level {level}",
            lambda rgb, sigma=sigma, sharpness=sharpness, level=level: xdog(rgb, sigma, sharpness, level),  # type: ignore[misc]
        )
