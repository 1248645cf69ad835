"""Quick, Draw!: a line of json for each drawing, one file a class, simplified or raw."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

import cv2
import numpy as np

from tests.datasets.drawings import Strokes, strokes_of

CLASSES = ("apple", "bird", "bus", "car", "cat", "clock", "cup", "dog", "horse", "hot air balloon", "mouse", "umbrella")
EPSILON = 2.0
"""Pixels that a simplified line may differ from the raw one."""
UNRECOGNISED = 5
"""Each fifth drawing is one that the game did not recognise."""


def quickdraw_row(key: str, drawing: Any, word: str = "cat", **fields: Any) -> dict[str, Any]:
    """A drawing as its file has it. drawing: [[x, ...], [y, ...]] for each stroke, raw ones with [t, ...]."""
    row = {
        "word": word, "countrycode": "DE", "timestamp": "2017-03-08 21:12:07.26604 UTC", "recognized": True,
        "key_id": key, "drawing": drawing,
    }  # fmt: skip
    return row | fields


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    """The rows as ndjson; one that is text already goes in as it is. Returns the path."""
    lines = [row if isinstance(row, str) else json.dumps(row, separators=(",", ":")) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_quickdraw(
    root: Path,
    classes: Sequence[str] = CLASSES,
    n: int = 100,
    kind: Literal["simplified", "raw"] = "simplified",
    prefix: str = "",
    broken: bool = True,
    seed: int = 0,
) -> None:
    """`PREFIXCLASS.ndjson` of n drawings each, a fifth of them not recognised.

    prefix: files are called `full_simplified_` or `full_raw_` by some ways to load them down. broken: after the third
    drawing comes one that was cut short.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name in classes:
        random = Random(f"quickdraw/{seed}/{name}")
        rows: list[Any] = []
        for number in range(n):
            strokes = strokes_of(name, 10_000 * seed + number)
            drawing = simplified(strokes) if kind == "simplified" else raw(strokes, random)
            key = str(random.randrange(4_503_599_627_370_496, 6_755_399_441_055_744))
            recognised = number % UNRECOGNISED != UNRECOGNISED - 1
            rows.append(quickdraw_row(key, drawing, name, recognized=recognised))
        if broken:
            cut = json.dumps(rows[0], separators=(",", ":"))
            rows.insert(3, cut[: 2 * len(cut) // 3])
        write_lines(root / f"{prefix}{name}.ndjson", rows)


def simplified(strokes: Strokes) -> list[list[list[int]]]:
    """At the top left of a square of 256, integers from 0 to 255, lines simplified by Ramer, Douglas and Peucker."""
    points = np.concatenate(strokes)
    low = points.min(axis=0)
    scale = 255 / float((points - low).max() or 1)
    drawing = []
    for stroke in strokes:
        line = cv2.approxPolyDP(((stroke - low) * scale).astype(np.float32)[:, None], EPSILON, False)[:, 0]
        drawing.append(np.rint(line).astype(int).T.tolist())
    return drawing


def raw(strokes: Strokes, random: Random) -> list[list[list[float]]]:
    """In pixels of a player's screen, anywhere on it, with milliseconds since the first point."""
    scale, x, y = random.uniform(200, 500), random.uniform(300, 600), random.uniform(300, 600)
    now = 0
    drawing = []
    for stroke in strokes:
        times = [now + 16 * n for n in range(len(stroke))]
        now = times[-1] + random.randint(200, 900)
        xs, ys = ((stroke * scale + (x, y)).round(2).astype(float)).T.tolist()
        drawing.append([[round(v, 2) for v in xs], [round(v, 2) for v in ys], times])
    return drawing
