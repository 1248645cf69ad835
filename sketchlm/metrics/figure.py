"""Figures of rows of scores, one row a question, each with a 95 % interval over images drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
BLOCK = 64
"""Rounds at once: a block of draws of 100,000 images takes 51 MB."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its 95 % interval and the number of questions behind it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure that is worked out from sums over questions: drawing images anew is then one matrix product."""

    terms: Callable[[Values], Values]
    """Rows [n, k] -> what is summed [n, m]; all zero where a question does not enter."""
    value: Callable[[Values], Values]
    """Sums [..., m] -> figures [...]; nan where no question entered."""

    def __call__(self, rows: Values) -> float:
        return float(self.value(self.terms(rows).sum(0)))


def average(fields: Sequence[str], name: str, *where: str) -> Measure:
    """Mean of the column `name` over the questions where the columns `where` (0 or 1) are all 1."""
    top, kept = fields.index(name), [fields.index(column) for column in where]

    def terms(rows: Values) -> Values:
        enters = rows[:, kept].prod(1)  # of no columns: 1
        return np.stack([rows[:, top] * enters, enters], 1)

    return Measure(terms, _quotient)


def ratio(fields: Sequence[str], top: str, bottom: str) -> Measure:
    """Sum of one column over the sum of another: of boxes, say, pooled over questions.

    Both are 0 or more, and `top` is 0 where `bottom` is: such a question does not enter.
    """
    columns = [fields.index(top), fields.index(bottom)]
    return Measure(lambda rows: rows[:, columns], _quotient)


def rest(fields: Sequence[str], whole: str, *parts: str) -> Measure:
    """What the columns `parts` leave of the column `whole`, as a share of it; each is 0 or more, and no more together.
    A question whose `whole` is 0 does not enter."""
    column, less = fields.index(whole), [fields.index(part) for part in parts]

    def terms(rows: Values) -> Values:
        return np.stack([rows[:, column] - rows[:, less].sum(1), rows[:, column]], 1)

    return Measure(terms, _quotient)


def _quotient(sums: Values) -> Values:
    top, bottom = sums[..., 0], sums[..., 1]
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def _by_class(rows: Values) -> Values:
    right, truth = rows[:, :1], rows[:, 1:2] == [0, 1]
    return np.concatenate([right * truth, truth], 1)


def _mean_recall(sums: Values) -> Values:
    right, asked = sums[..., :2], sums[..., 2:]
    recalls = np.divide(right, asked, out=np.zeros_like(right), where=asked > 0)
    return _quotient(np.stack([recalls.sum(-1), (asked > 0).sum(-1).astype(np.float64)], -1))


mean = average(("value",), "value")
"""Mean of the first column."""
balanced_accuracy = Measure(_by_class, _mean_recall)
"""rows [n, 2]: right (0 or 1), and the true class (0 or 1); mean of the recall of each class that is there."""


def difference(measure: Measure, width: int, other: Measure | None = None) -> Measure:
    """Of rows [n, 2 * width], a model's beside another's: how much higher the measure of the first is than the same of
    the second, or than `other`, of as many terms."""
    theirs = other or measure

    def terms(rows: Values) -> Values:
        return np.concatenate([measure.terms(rows[:, :width]), theirs.terms(rows[:, width:])], 1)

    def value(sums: Values) -> Values:
        half = sums.shape[-1] // 2
        return measure.value(sums[..., :half]) - theirs.value(sums[..., half:])

    return Measure(terms, value)


def bootstrap(
    rows: Sequence[Sequence[float]] | Values,
    measure: Measure | Callable[[Values], float],
    groups: Sequence[str],
    rounds: int = 1000,
    seed: int = 0,
) -> Figure:
    """`measure` of the rows [n, k], and its interval over images drawn anew.

    groups: the image of each row: questions on one image are not independent, so images are drawn.
    A plain function of rows serves too, and takes longer. Raises ValueError as `figures` does.
    """
    if isinstance(measure, Measure):
        return figures(rows, {"": measure}, groups, rounds, seed)[""]
    values = _checked(rows, groups)
    if not len(values):
        return _NOTHING
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    everyone = np.arange(len(values))
    drawn = [
        measure(values[np.repeat(everyone, counts[places])])
        for block in _draws(len(names), rounds, seed)
        for counts in block
    ]
    return Figure(float(measure(values)), *_interval(np.asarray(drawn)), len(values))


def figures(
    rows: Sequence[Sequence[float]] | Values,
    measures: Mapping[str, Measure],
    groups: Sequence[str],
    rounds: int = 1000,
    seed: int = 0,
) -> dict[str, Figure]:
    """Each measure of the rows [n, k] with its interval; all see the same draws of images.

    groups: the image of each row. `n` of a figure counts the questions that enter it.
    Raises ValueError for rows that are no numbers, or are more or fewer than groups.
    """
    values = _checked(rows, groups)
    if not len(values):
        return dict.fromkeys(measures, _NOTHING)
    terms = [measure.terms(values) for measure in measures.values()]
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    summed = [np.bincount(places, column, len(names)) for term in terms for column in term.T]
    sums = np.stack(summed, 1) if summed else np.zeros((len(names), 0))
    drawn = np.concatenate([block @ sums for block in _draws(len(names), rounds, seed)])
    found: dict[str, Figure] = {}
    start = 0
    for (name, measure), term in zip(measures.items(), terms, strict=True):
        end = start + term.shape[1]
        interval = _interval(measure.value(drawn[:, start:end]))
        found[name] = Figure(measure(values), *interval, int(term.any(1).sum()))
        start = end
    return found


def differences(
    mine: Sequence[Sequence[float]] | Values,
    theirs: Sequence[Sequence[float]] | Values,
    measures: Mapping[str, Measure],
    groups: Sequence[str],
    rounds: int = 1000,
    seed: int = 0,
) -> dict[str, Figure]:
    """How much higher each measure of `mine` is than that of `theirs`, rows [n, k] of the same questions.

    The interval is that of the difference: what is hard for one is hard for the other, so it is narrower.
    Raises ValueError for rows of another shape, and as `figures` does.
    """
    both = [_checked(mine, groups), _checked(theirs, groups)]
    if both[0].shape != both[1].shape:
        raise ValueError(f"rows are {both[0].shape} and {both[1].shape}: compare two models on one task")
    width = both[0].shape[-1]
    paired = {name: difference(measure, width) for name, measure in measures.items()}
    return figures(np.concatenate(both, -1), paired, groups, rounds, seed)


_NOTHING = Figure(float("nan"), float("nan"), float("nan"), 0)


def _checked(rows: Sequence[Sequence[float]] | Values, groups: Sequence[str]) -> Values:
    values = np.asarray(rows, np.float64)
    if len(values) != len(groups):
        raise ValueError(f"{len(values)} rows and {len(groups)} groups: name the image of each row")
    if len(values) and values.ndim != 2:
        raise ValueError(f"rows are of shape {values.shape}, must be [n, k]: a question each, a score each")
    if not np.isfinite(values).all():
        place = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise ValueError(f"row {place} is {values[place].tolist()}: where a score does not apply, leave the row out")
    return values


def _draws(images: int, rounds: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each image is drawn, [at most BLOCK, images] at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, rounds, BLOCK):
        block = range(start, min(start + BLOCK, rounds))
        yield np.stack([np.bincount(rng.integers(0, images, images), minlength=images) for _ in block])


def _interval(drawn: Values) -> tuple[float, float]:
    """Of the draws in which a figure exists; nan where there is none."""
    there = drawn[~np.isnan(drawn)]
    if not len(there):
        return float("nan"), float("nan")
    low, high = np.percentile(there, [2.5, 97.5])
    return float(low), float(high)
