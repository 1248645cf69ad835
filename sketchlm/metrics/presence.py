"""Yes or no against whether the image shows what the sketch shows."""

from __future__ import annotations

from typing import NamedTuple

from sketchlm.metrics.figure import average, balanced_accuracy


class PresenceRow(NamedTuple):
    """How one answer compares with the truth."""

    right: float
    """1 where it is right."""
    truth: float
    """1 where the image shows it."""
    yes: float
    """1 where the answer is yes."""


def presence_row(yes: float, truth: int) -> PresenceRow:
    """yes: p(yes), from 0.5 on the answer is yes. Raises ValueError for a truth that is neither 0 nor 1."""
    if truth not in (0, 1):
        raise ValueError(f"truth is {truth} (-1 = not known): leave the question out")
    said = yes >= 0.5
    return PresenceRow(float(said == truth), float(truth), float(said))


PRESENCE = {
    "balanced accuracy": balanced_accuracy,  # it reads the first two columns
    "accuracy": average(PresenceRow._fields, "right"),
    "said yes": average(PresenceRow._fields, "yes"),
}
"""Balanced: who always says the same reaches a half, however many are there."""
