"""The comparison of two sets of sketches, beside that of two halves of one, which tells what is noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sketchgen.gap.distance import Difference, Estimate, Rows, Values, differences, kernel_distance, told_apart
from sketchgen.gap.traits import TRAITS


@dataclass(frozen=True, slots=True)
class Distances:
    """Of two sets of sketches."""

    traits: dict[str, Difference]
    """By the name of each of TRAITS."""
    shape: Estimate
    """Mean over traits of the Wasserstein distances."""
    shape_told: Estimate
    """Accuracy of a probe that sees the traits."""
    tower: Estimate | None
    """MMD^2 of the tower's features, class by class; None where no tower was asked."""
    tower_told: Estimate | None
    """Accuracy of a probe that sees the tower's features."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Of A and B, and, so that it can be seen what is noise, of one half of A's sketches and the other."""

    apart: Distances
    noise: Distances


@dataclass(frozen=True, slots=True)
class Measured:
    """Sketches of one side as numbers, those of one class together."""

    traits: Values
    """[n, k]: the TRAITS of each."""
    categories: Sequence[str]
    features: Values | None = None
    """[n, d]: of a tower."""


def measure(a: Measured, b: Measured, matched: bool = True, seed: int = 0) -> Gap:
    """How far they are apart. matched: both have the same classes, of which each is compared for itself.

    Raises ValueError for sides of fewer than four sketches, and for values that are not finite.
    """
    for rows in (a.traits, b.traits, a.features, b.features):
        if rows is not None and (len(rows) < 4 or not np.isfinite(rows).all()):
            finite = int(np.isfinite(rows).all(axis=1).sum())
            raise ValueError(
                f"{finite} of {len(rows)} sketches have finite numbers: all must, and there be four or more"
            )
    return Gap(_distances(a, b, matched, seed), _distances(_part(a, 0), _part(a, 1), matched, seed))


def _part(side: Measured, first: int) -> Measured:
    """Every second sketch: half of each class."""
    features = None if side.features is None else side.features[first::2]
    return Measured(side.traits[first::2], side.categories[first::2], features)


def _distances(a: Measured, b: Measured, matched: bool, seed: int) -> Distances:
    found, shape = differences(a.traits, b.traits, seed)
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*a.categories, *b.categories]))}
    classes = [np.array([numbers[name] if matched else 0 for name in side.categories]) for side in (a, b)]
    tower = None
    if a.features is not None and b.features is not None:
        tower = Rows(a.features, classes[0]), Rows(b.features, classes[1])
    return Distances(
        {trait.name: one for trait, one in zip(TRAITS, found, strict=True)},
        shape,
        told_apart(Rows(a.traits, classes[0]), Rows(b.traits, classes[1]), seed),
        kernel_distance(*tower, seed=seed) if tower else None,
        told_apart(*tower, seed=seed) if tower else None,
    )
