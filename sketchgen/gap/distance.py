"""Distances of two samples, of single numbers and of vectors, each with a 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
ROUNDS = 1000
BLOCK = 50
"""Rounds at once: of two samples of 5,000 each, what is summed takes 4 MB."""
FOLDS = 5
RIDGE = 0.1
"""Of the probe, by the number of sketches it is fitted to: features are of variance one."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one number of the sketches of two sources, A and B."""

    mean_a: Estimate
    mean_b: Estimate
    d: Estimate
    """Cohen's: mean of B less that of A, by the pooled spread; infinite where there is a difference and no spread."""
    wasserstein: Estimate
    """How far sketches of A have to be moved on average to become those of B, by the pooled spread."""


def differences(a: Values, b: Values, seed: int = 0) -> tuple[list[Difference], Estimate]:
    """Of each column of a [n, k] and b [m, k], and the mean Wasserstein distance over columns.

    Intervals are of ROUNDS bootstrap samples of each side: their spread around their median, laid around the value. A
    Wasserstein distance of samples is never 0, and larger the fewer they are: look at that of two halves of one source.
    """
    whole = _Drawn(np.ones((1, len(a))), np.ones((1, len(b))))
    rows = [_measured(a, b, drawn) for drawn in _draws(len(a), len(b), seed)]
    values, drawn = _measured(a, b, whole)[:, 0], np.concatenate(rows, axis=1)  # [4, k], [4, rounds, k]
    found = [Difference(*(_around(values[i, j], drawn[i, :, j], i == 3) for i in range(4))) for j in range(a.shape[1])]
    return found, _around(float(values[3].mean()), drawn[3].mean(axis=1), True)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """How often each sketch of A and of B was drawn: [rounds, n] and [rounds, m]."""

    a: Values
    b: Values


def _draws(n: int, m: int, seed: int) -> Iterator[_Drawn]:
    """Bootstrap samples of both sides, BLOCK at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, ROUNDS, BLOCK):
        size = min(BLOCK, ROUNDS - start)
        yield _Drawn(*(rng.multinomial(k, np.full(k, 1 / k), size).astype(np.float64) for k in (n, m)))


def _measured(a: Values, b: Values, drawn: _Drawn) -> Values:
    """Mean of A, mean of B, d, Wasserstein distance [4, rounds, k] of each round and column."""
    mean_a, mean_b = drawn.a @ a / len(a), drawn.b @ b / len(b)
    # of centred values: what is left of the squares of large ones would be rounding
    centre = (a.mean(axis=0) + b.mean(axis=0)) / 2
    squares = [
        np.maximum(drawn_x @ (x - centre) ** 2 / len(x) - (mean - centre) ** 2, 0) * len(x) / (len(x) - 1)
        for x, drawn_x, mean in ((a, drawn.a, mean_a), (b, drawn.b, mean_b))
    ]
    spread = np.sqrt((squares[0] + squares[1]) / 2)
    moved = np.stack([_moved(a[:, j], b[:, j], drawn) for j in range(a.shape[1])], axis=1)
    return np.stack([mean_a, mean_b, _by(mean_b - mean_a, spread), _by(moved, spread)])


def _by(difference: Values, spread: Values) -> Values:
    """Their quotient; where there is no spread 0 or infinite."""
    # a millionth: what rounding leaves of the spread of equal values is none
    sure = spread > 1e-6 * np.maximum(np.abs(difference), 1e-6)
    without = np.where(np.abs(difference) > 1e-9, np.copysign(np.inf, difference), 0.0)
    return np.where(sure, difference / np.where(sure, spread, 1.0), without)


def _moved(a: Values, b: Values, drawn: _Drawn) -> Values:
    """Wasserstein-1 distance [rounds]: the area between the two cumulated distributions."""
    values = np.concatenate([a, b])
    order = np.argsort(values, kind="stable")
    weights = np.concatenate([drawn.a / len(a), -drawn.b / len(b)], axis=1)[:, order]
    return np.asarray(np.abs(np.cumsum(weights, axis=1)[:, :-1]) @ np.diff(values[order]))


def _around(value: float, drawn: Values, is_distance: bool = False) -> Estimate:
    drawn = drawn[np.isfinite(drawn)]
    if not math.isfinite(value) or not len(drawn):
        return Estimate(value, value, value)
    low, middle, high = np.percentile(drawn, [2.5, 50, 97.5])
    low = value + float(low - middle)
    return Estimate(float(value), max(low, 0.0) if is_distance else low, float(value + high - middle))


@dataclass(frozen=True, slots=True)
class Rows:
    """Features [n, d] of sketches, and the class of each (any number for all where classes are not matched)."""

    features: Values
    classes: NDArray[np.int64]

    def part(self, kept: Any) -> Rows:
        """Those of these places."""
        return Rows(self.features[kept], self.classes[kept])


def kernel_distance(a: Rows, b: Rows, seed: int = 0) -> Estimate:
    """MMD^2 of features, with the kernel (x y / d + 1)^3 of KID, of each class for itself and then averaged.

    Unbiased: around 0, and as often below, where both are of one distribution, however few they are. Of all classes at
    once it would not be: with as many of each on both sides, a side is a little more unlike itself than the other. The
    interval is of ROUNDS random halves of each class and side, whose values spread as those of whole samples do (and
    wider around 0): bootstrap samples would meet each sketch with its doubles.
    Classes of fewer than two on a side are left out; nan where there are no others.
    """
    counts = [np.bincount(x.classes, minlength=1 + max(a.classes.max(), b.classes.max())) for x in (a, b)]
    enough = (counts[0] >= 2) & (counts[1] >= 2)
    a, b = (x.part(enough[x.classes]) for x in (a, b))
    if not enough.any():
        return Estimate(math.nan, math.nan, math.nan)
    share = np.where(enough, counts[0] + counts[1], 0) / (counts[0] + counts[1])[enough].sum()
    kernels = [_kernel(x, y) * (x.classes[:, None] == y.classes) for x, y in ((a, a), (b, b), (a, b))]
    for kernel in kernels[:2]:
        np.fill_diagonal(kernel, 0.0)
    rng = np.random.default_rng(seed)
    whole = [_Taken.of(np.ones((1, len(x.classes))), x.classes, share) for x in (a, b)]
    value = float(_mmd(kernels, *whole)[0])
    rounds = [
        _mmd(kernels, *(_Taken.of(_halves(rng, x.classes), x.classes, share) for x in (a, b)))
        for _ in range(0, ROUNDS, BLOCK)
    ]
    return _around(value, np.concatenate(rounds))


def _kernel(x: Rows, y: Rows) -> Values:
    return np.asarray((x.features @ y.features.T / x.features.shape[1] + 1) ** 3)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Which rows are taken [rounds, n], and for each row [n] how many of its class are, and the share of the class."""

    rows: Values
    number: Values
    share: Values

    @classmethod
    def of(cls, rows: Values, classes: NDArray[np.int64], share: Values) -> _Taken:
        """rows: as many of each class in every round."""
        number = np.bincount(classes, rows[0], minlength=len(share)).astype(np.float64)
        return cls(rows, number[classes], share[classes])


def _halves(rng: np.random.Generator, classes: NDArray[np.int64]) -> Values:
    """[BLOCK, n]: 1 for a random half of each class, two at least, 0 for the others."""
    taken = np.zeros((BLOCK, len(classes)))
    for one in np.unique(classes):
        places = np.flatnonzero(classes == one)
        order = rng.permuted(np.tile(places, (BLOCK, 1)), axis=1)[:, : max(2, len(places) - len(places) // 2)]
        np.put_along_axis(taken, order, 1.0, axis=1)
    return taken


def _mmd(kernels: list[Values], a: _Taken, b: _Taken) -> Values:
    """MMD^2 [rounds]; kernels: A A and B B with a diagonal of 0, A B; all of them 0 between classes."""
    inside = sum(
        ((x.rows @ kernel) * x.rows) @ (x.share / (x.number * (x.number - 1)))
        for x, kernel in zip((a, b), kernels, strict=False)
    )
    across = (((b.rows / b.number) @ kernels[2].T) * a.rows) @ (a.share / a.number)
    return np.asarray(inside - 2 * across)


def told_apart(a: Rows, b: Rows, seed: int = 0) -> Estimate:
    """Accuracy of a linear probe that tells rows of a from rows of b, on rows that it was not fitted to: 0.5 = not to
    be told apart, 1 = always. Both sides count alike, and of each class its mean over both sides is taken away first.

    Folds go by place: rows of one class have to lie together. The interval is of bootstrap samples of the answers.
    """
    sides = _centred(a, b)
    right = [np.zeros(len(x)) for x in sides]
    folds = [np.arange(len(x)) % FOLDS for x in sides]
    for fold in range(FOLDS):
        weights, bias = _probe(*(x[own != fold] for x, own in zip(sides, folds, strict=True)))
        for side, (x, own) in enumerate(zip(sides, folds, strict=True)):
            said = x[own == fold] @ weights + bias
            right[side][own == fold] = said < 0 if side == 0 else said > 0
    drawn = [
        (one.a @ right[0] / len(right[0]) + one.b @ right[1] / len(right[1])) / 2
        for one in _draws(len(right[0]), len(right[1]), seed)
    ]
    return _around(float((right[0].mean() + right[1].mean()) / 2), np.concatenate(drawn), True)


def _centred(a: Rows, b: Rows) -> tuple[Values, Values]:
    """Features less the mean of their class, of which both sides count alike."""
    size = 1 + max(a.classes.max(), b.classes.max())
    means = np.zeros((2, size, a.features.shape[1]))
    counts = np.zeros((2, size, 1))
    for side, x in enumerate((a, b)):
        np.add.at(means[side], x.classes, x.features)
        counts[side, :, 0] = np.bincount(x.classes, minlength=size)
    means /= np.maximum(counts, 1)
    mean = means.sum(axis=0) / np.maximum((counts > 0).sum(axis=0), 1)
    return a.features - mean[a.classes], b.features - mean[b.classes]


def _probe(a: Values, b: Values) -> tuple[Values, float]:
    """Weights [d] and bias of a ridge regression: rows of a come out below 0, those of b above."""
    both = np.concatenate([a, b])
    mean, spread = both.mean(axis=0), both.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    rows = (both - mean) / spread
    truth = np.repeat([-1.0, 1.0], [len(a), len(b)])
    gram = rows.T @ rows + RIDGE * len(rows) * np.eye(rows.shape[1])
    weights = np.linalg.solve(gram, rows.T @ (truth - truth.mean())) / spread
    return weights, -float((a.mean(axis=0) + b.mean(axis=0)) @ weights) / 2
