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
from sketchgen.gap import Measured
from sketchgen.gap.distance import Rows, differences, kernel_distance
from sketchgen.gap.pool import LEAST

TASKS: Final = ("sbir", "bbox")
"""In which a loss is looked at."""


def distances(own: Drawings, others: Sequence[Drawings]) -> list[dict[str, float | None]]:
    """Of each from `own`: `shape` (mean Wasserstein distance of the traits, in pooled spreads) and `tower` (MMD² of
    what the tower of the demonstration model makes of them, class by class), of as many drawings of each class that
    both have; None where these are fewer than LEAST."""
    features = tower_features([one.images for one in (own, *others)], lambda number: None, device="cpu")
    first, *rest = (
        Measured(all_traits(one.images), one.categories, seen)
        for one, seen in zip((own, *others), features, strict=True)
    )
    found: list[dict[str, float | None]] = []
    for one in rest:
        a, b = _paired(first, one)
        if len(a.categories) < LEAST:
            found.append({"shape": None, "tower": None})
            continue
        _, shape = differences(a.traits, b.traits)
        found.append({"shape": shape.value, "tower": kernel_distance(_rows(a), _rows(b)).value})
    return found


def _rows(side: Measured) -> Rows:
    names = sorted(set(side.categories))
    assert side.features is not None
    return Rows(side.features, np.array([names.index(name) for name in side.categories]))


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
    """Of each task Spearman's rank correlation of the distance in the tower with the mean loss, the chance of one as
    far from 0 were there none, and the number of pairs; tasks of fewer than four are left out. Not of the distance in
    shape, which is the larger the fewer drawings there are."""
    found = {}
    for task in TASKS:
        asked = [row for row in rows if row[task] and row["tower"] is not None]
        pairs = [(row["tower"], float(np.mean(row[task]))) for row in asked]
        if len(pairs) > 3 and all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
            told = stats.spearmanr(*zip(*pairs, strict=True))
            found[task] = [float(told.statistic), float(told.pvalue), len(pairs)]
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


def ranks_told(found: dict[str, list[float]]) -> str:
    """The correlations in words."""
    said = [
        f"{TASK_WORDS[task]} {rank:+.2f} (p = {chance:.2g}, {number:.0f} lines)"
        for task, (rank, chance, number) in found.items()
    ]
    return (
        f"Rank correlation (Spearman) of the distance in the tower and the loss: {'; '.join(said) or 'too few lines'}. "
        "p: by chance, were the lines independent; those of one kind are not."
    )


NEAR = 0.06
"""Share of the greatest distance and loss under which a point is not named for itself."""


def draw_losses(axes: Any, rows: Sequence[tuple[str, Mapping[str, Any], str]], title: str) -> None:
    """What SBIR loses over the distance in the tower, of rows with their names and colours; each is named on the right
    or left where there is room, those that are near 0 together."""
    asked = [one for one in rows if one[1]["sbir"] and one[1]["tower"] is not None]
    found = [(name, (row["tower"], float(np.mean(row["sbir"]))), colour) for name, row, colour in asked]
    wide, high = (max((abs(place[n]) for _, place, _ in found), default=0.0) or 1.0 for n in (0, 1))
    taken: list[tuple[float, float]] = []
    near = [place for _, place, _ in found if abs(place[0]) < NEAR * wide and abs(place[1]) < NEAR * high]
    if len(near) > 1:
        right = (max(x for x, _ in near), float(np.mean([y for _, y in near])))
        axes.annotate(f"{len(near)} near 0", right, (6, -6), textcoords="offset points", fontsize=7, va="center")
    for name, (x, y), colour in sorted(found, key=lambda one: -one[1][0]):
        axes.plot(x, y, "o", color=colour, markersize=5)
        if len(near) > 1 and (x, y) in near:
            continue
        for side, align, shift in ((1, "left", 5), (-1, "right", -5)):
            middle = x + side * 0.14 * wide
            if all(abs(middle - a) > 0.25 * wide or abs(y - b) > 0.035 * high for a, b in taken):
                axes.annotate(name, (x, y), (shift, 0), textcoords="offset points", fontsize=7, ha=align, va="center")
                taken.append((middle, y))
                break
    axes.set_xlim(-0.08 * wide, 1.45 * wide)
    axes.set(title=title, xlabel="MMD² in the tower", ylabel="SBIR lost")
