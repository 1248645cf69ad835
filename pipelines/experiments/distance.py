"""How far the drawings of exams are from those of training, as `sketchgen gap` measures it, beside what is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from scipy import stats

from pipelines.experiments.exam import Drawings
from pipelines.experiments.plots import TASK_WORDS, markdown
from pipelines.experiments.results import Results
from pipelines.gaps import all_traits, tower_features
from sketchgen.gap import Measured, measure
from sketchgen.gap.pool import LEAST

TASKS: Final = ("sbir", "bbox")
"""In which a loss is looked at."""


def measured(drawings: Sequence[Drawings]) -> list[Measured]:
    """Their traits and what the tower of the demonstration model makes of them."""
    features = tower_features([one.images for one in drawings], lambda number: None, device="cpu")
    return [
        Measured(all_traits(one.images), one.categories, seen) for one, seen in zip(drawings, features, strict=True)
    ]


def distances(own: Drawings, others: Sequence[Drawings]) -> list[dict[str, float | None]]:
    """Of each from `own`: `shape` (mean Wasserstein distance of the traits, in pooled spreads) and `tower` (MMD², class
    by class), of as many drawings of each class that both have; None where these are fewer than LEAST."""
    first, *rest = measured([own, *others])
    found: list[dict[str, float | None]] = []
    for one in rest:
        sides = _paired(first, one)
        gap = measure(*sides).apart if len(sides[0].categories) >= LEAST else None
        shape, tower = (gap.shape, gap.tower) if gap else (None, None)
        found.append({"shape": shape.value if shape else None, "tower": tower.value if tower else None})
    return found


def _paired(a: Measured, b: Measured) -> tuple[Measured, Measured]:
    """Of each class that both have, as many of both: two at least."""
    counts = [Counter(side.categories) for side in (a, b)]
    shared = {name: min(one[name] for one in counts) for name in counts[0] if min(one[name] for one in counts) > 1}
    return _some(a, shared), _some(b, shared)


def _some(side: Measured, counts: Mapping[str, int]) -> Measured:
    """The first so many of each class."""
    left, rows = Counter(counts), []
    for place, name in enumerate(side.categories):
        if left[name] > 0:
            rows.append(place)
            left[name] -= 1
    features = None if side.features is None else side.features[rows]
    return Measured(side.traits[rows], [side.categories[place] for place in rows], features)


def losses(results: Results, arm: str, exam: str, own: str) -> dict[str, list[float]]:
    """Of each task, how much lower an arm's figure is in an exam than in its own, once a seed; [] where it was not
    asked."""
    found: dict[str, list[float]] = {}
    for task in TASKS:
        mine, theirs = results.find(arm, own, task), results.find(arm, exam, task)
        found[task] = [a - b for a, b in zip(mine.values, theirs.values, strict=True)] if mine and theirs else []
    return found


def ranks(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Spearman's rank correlation of each distance with the mean of each loss, and the chance of one as far from 0 were
    there none; [] for fewer than four."""
    found: dict[str, list[float]] = {}
    for distance in ("shape", "tower"):
        for task in TASKS:
            asked = [row for row in rows if row[task] and row[distance] is not None]
            pairs = [(row[distance], float(np.mean(row[task]))) for row in asked]
            told = stats.spearmanr(*zip(*pairs, strict=True)) if len(pairs) > 3 else None
            found[f"{distance}, {TASK_WORDS[task]}"] = [float(told.statistic), float(told.pvalue)] if told else []
    return found


def distance_table(head: Sequence[str], rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """A line for each row; head: the titles of the columns `names`, which come first."""
    titles = [*head, "apart in shape", "apart in the tower (MMD²)", *(f"{TASK_WORDS[task]} lost" for task in TASKS)]
    lines = [
        [*(str(row[name]) for name in names), _said(row["shape"], 2), _said(row["tower"], 3)]
        + [f"{np.mean(row[task]):+.3f}" if row[task] else "" for task in TASKS]
        for row in rows
    ]
    return markdown([titles, *lines])


def _said(distance: float | None, places: int) -> str:
    return "too few" if distance is None else f"{distance:.{places}f}"


def ranks_told(found: dict[str, list[float]], number: int) -> str:
    """The correlations in words."""
    said = [f"{name} {told[0]:+.2f} (p = {told[1]:.2g})" for name, told in found.items() if told]
    return (
        f"Rank correlation (Spearman) of distance and loss over {number} lines: {'; '.join(said) or 'too few'}. p: by "
        "chance, were the lines independent; those of one kind are not."
    )


def draw_losses(axes: Any, rows: Sequence[tuple[str, Mapping[str, Any], str]]) -> None:
    """What SBIR loses over the distance in the tower, of rows with their names and colours; of points that lie together
    one is named."""
    named: list[tuple[float, float]] = []
    asked = [one for one in rows if one[1]["sbir"] and one[1]["tower"] is not None]
    found = [(name, (row["tower"], float(np.mean(row["sbir"]))), colour) for name, row, colour in asked]
    wide, high = (max((abs(place[n]) for _, place, _ in found), default=0.0) or 1.0 for n in (0, 1))
    for name, place, colour in sorted(found, key=lambda one: -one[1][0]):
        axes.plot(*place, "o", color=colour, markersize=5)
        if all(abs(place[0] - x) > 0.25 * wide or abs(place[1] - y) > 0.06 * high for x, y in named):
            axes.annotate(name, place, (4, 3), textcoords="offset points", fontsize=7)
            named.append(place)
    axes.set(title="lost, over the distance", xlabel="MMD² in the tower", ylabel="SBIR lost")
