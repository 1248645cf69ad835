"""The figures of the sketcher's model card: drawings that training never saw, and crops of real photos."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from sketchgen.crop import Crop, cut
from sketchgen.segmenters.annotation import AnnotationSegmenter
from sketchgen.sketcher import Sketcher
from sketchgen.source import SourceConfig
from sketchgen.sources import read_source
from sketchgen.training.boundary import (
    Counts,
    Rival,
    best_rival,
    canny_settings,
    f_score,
    interval,
    match,
    thin,
    xdog_settings,
)
from sketchgen.training.openmoji import Pair, shade

SPECK = 12
"""A connected piece of ink with fewer pixels is a speck."""
RIM = 6
"""Ink at least this many pixels inside the mask is an inner stroke."""


def print_drawing_figures(sketcher: Sketcher, pairs: list[Pair], console: Console) -> None:
    """F of the sketcher and of its rivals, each rival at its best setting over these very pairs, and the differences.

    pairs: flat-coloured and held out; shaded here like those of the training, from a seed of their own.
    """
    rng = np.random.default_rng(1)
    shaded = [shade(pair, rng) for pair in pairs]
    strokes = sketcher.sketch([Crop(pair.rgb, pair.mask) for pair in shaded])
    ours = np.stack([match(thin(drawn), thin(pair.target)) for drawn, pair in zip(strokes, shaded, strict=True)])
    rivals = [
        best_rival("Canny, customary blur", canny_settings((1.4,)), shaded),
        best_rival("Canny, best blur too", canny_settings((1.0, 1.4, 2.0, 3.0, 4.0)), shaded),
        best_rival("XDoG", xdog_settings(), shaded),
    ]
    table = Table("drawer", "F", "95 %", "ours minus this", "95 %", title=f"{len(pairs)} held-out drawings")
    for rival in (Rival(sketcher.style, ours), *rivals):
        table.add_row(
            rival.name, *_f_cells(rival.counts), *([] if rival.counts is ours else _gap_cells(ours, rival.counts))
        )
    console.print(table)


def _f_cells(counts: Counts) -> list[str]:
    low, high = interval(lambda picks: f_score(counts[picks]), len(counts))
    return [f"{f_score(counts):.3f}", f"{low:.3f} to {high:.3f}"]


def _gap_cells(ours: Counts, rival: Counts) -> list[str]:
    low, high = interval(lambda picks: f_score(ours[picks]) - f_score(rival[picks]), len(ours))
    return [f"{f_score(ours) - f_score(rival):+.3f}", f"{low:+.3f} to {high:+.3f}"]


def print_photo_figures(sketcher: Sketcher, crops: list[Crop], console: Console) -> None:
    """Ink, inner ink, specks and blank drawings of real crops, and the time an instance takes."""
    start = time.perf_counter()
    strokes = sketcher.sketch(crops)
    seconds = time.perf_counter() - start
    rows = np.array([stroke_figures(drawn, crop.mask) for drawn, crop in zip(strokes, crops, strict=True)])
    table = Table("figure", "mean", "95 %", title=f"{len(crops)} crops of held-out photos")
    names = ("ink, share of the mask", "inner ink, share of the inner mask", "specks an instance", "without inner ink")
    for name, column in zip(names, rows.T, strict=True):
        low, high = interval(lambda picks, column=column: column[picks].mean(axis=1), len(column))  # type: ignore[misc]
        table.add_row(name, f"{column.mean():.4f}", f"{low:.4f} to {high:.4f}")
    console.print(table, f"{1000 * seconds / len(crops):.0f} ms an instance")


def stroke_figures(drawn: NDArray[np.uint8], mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Of one drawing [h, w]: ink over mask area, inner ink over inner mask area, number of specks, and 1.0 when its
    inner mask has no ink at all. Ink = pixels under 128."""
    ink = drawn < 128
    inside = cv2.distanceTransform(np.pad(mask, 1).view(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1] > RIM
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink.view(np.uint8), connectivity=8)
    specks = np.count_nonzero(stats[1:, cv2.CC_STAT_AREA] < SPECK)
    inner = np.count_nonzero(ink & inside)
    return ink.sum() / max(1, mask.sum()), inner / max(1, inside.sum()), float(specks), float(inner == 0)


def held_out_crops(annotations: Path, images: Path, side: int, min_area: int = 32 * 32) -> Iterator[Crop]:
    """Crops, cut along the annotated masks, of photos that training never sees (image_id % 3 == 0)."""
    segmenter = AnnotationSegmenter()
    for entry in read_source(SourceConfig("coco", annotations=str(annotations), images=str(images))):
        if int(entry.image_id) % 3:
            continue
        objects = [row.instance for row in entry.instances if row.status == "planned"]
        picture = np.asarray(cv2.imread(str(images / entry.file), cv2.IMREAD_COLOR_RGB), np.uint8)
        for mask in segmenter.segment([picture], [objects])[0]:
            if mask.area > min_area:
                yield cut(picture, mask, side)
