"""Scores and figures of every task that a protocol measures: what a row holds, and what is worked out from rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from data_manifests.schema import Measured
from sketchlm.metrics import (
    BOX,
    BOXES,
    COUNTING,
    PRESENCE,
    RETRIEVAL,
    VQA,
    BoxesRow,
    BoxRow,
    CountRow,
    Measure,
    PresenceRow,
    RetrievalRow,
    VqaRow,
    average,
)


class DescribeRow(NamedTuple):
    """How one description compares with the object that is described."""

    named: float
    """1 where it names the class."""
    iou: float
    """Of the first box that it gives, with the true one that it fits best."""
    half: float
    unread: float
    """1 where it gives no box."""


DESCRIBING = {
    "class named": average(DescribeRow._fields, "named"),
    "Acc@0.5": average(DescribeRow._fields, "half"),
    "mean IoU": average(DescribeRow._fields, "iou"),
    "no box": average(DescribeRow._fields, "unread"),
}

OWN = "own "
"""Before the figures of a ranking whose one relevant image is that which the sketch was made of."""
RANKED = (*RetrievalRow._fields, *(f"own_{name}" for name in RetrievalRow._fields))


def _own(name: str) -> Measure:
    """The measure of this name, of the second half of a row as RANKED has it."""
    measure, width = RETRIEVAL[name], len(RetrievalRow._fields)
    return Measure(lambda rows: measure.terms(rows[:, width:]), measure.value)


FIELDS: dict[Measured, tuple[str, ...]] = {
    "bbox": BoxRow._fields,
    "boxes": BoxesRow._fields,
    "count": CountRow._fields,
    "vqa": VqaRow._fields,
    "sbir": PresenceRow._fields,
    "retrieval": RANKED,
    "describe": DescribeRow._fields,
}
"""Names of the scores of a question, by task, in order: what `AnswerRecord.row` holds."""
MEASURES: dict[Measured, Mapping[str, Measure]] = {
    "bbox": BOX,
    "boxes": BOXES,
    "count": COUNTING,
    "vqa": VQA,
    "sbir": PRESENCE,
    "retrieval": {**RETRIEVAL, **{OWN + name: _own(name) for name in RETRIEVAL}},
    "describe": DESCRIBING,
}
"""The figures of rows of these fields."""
