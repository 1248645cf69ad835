"""Counts against true counts."""

from __future__ import annotations

from typing import NamedTuple

from sketchlm.metrics.figure import average


class CountRow(NamedTuple):
    """How one answer compares with the true count."""

    exact: float
    """1 where it is right."""
    near: float
    """1 where it is right or one off."""
    off: float
    """How far it is off; 0 where it holds no number."""
    read: float
    """1 where it holds a number."""
    unread: float
    """1 where it holds none: wrong, and no part of the mean error."""
    present: float
    """1 where there is one at least: who always says 0 gets the others for nothing."""


def count_row(said: int, truth: int) -> CountRow:
    """said: -1 where the answer holds no number. Raises ValueError for a true count below 0."""
    if truth < 0:
        raise ValueError(f"true count is {truth} (-1 = not known): leave the question out")
    off, read = abs(said - truth), said >= 0
    return CountRow(
        float(off == 0), float(read and off <= 1), float(read and off), float(read), float(not read), float(truth > 0)
    )


COUNTING = {
    "exact": average(CountRow._fields, "exact"),
    "exact, present": average(CountRow._fields, "exact", "present"),
    "within 1": average(CountRow._fields, "near"),
    "MAE": average(CountRow._fields, "off", "read"),
    "unreadable": average(CountRow._fields, "unread"),
}
"""Shares of all questions, but MAE of those whose answer holds a number: read it beside the share of those without."""
