"""A ranked gallery against what in it is relevant, one row a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sketchlm.metrics.box import Scores, checked_scores
from sketchlm.metrics.figure import average


class RetrievalRow(NamedTuple):
    """How one query ranks its gallery. All 0 but `empty` where nothing there is relevant."""

    hit_1: float
    """1 where one at least of the first 1 is relevant; 5 and 10 likewise."""
    hit_5: float
    hit_10: float
    precision_1: float
    """Share of relevant among the first 1; 5 and 10 likewise, also of a gallery with fewer: the rest is wrong."""
    precision_5: float
    precision_10: float
    average_precision: float
    average_precision_200: float
    tied: float
    """Share of the relevant whose score an irrelevant one has too: they rank behind it."""
    asked: float
    """1 where something in the gallery is relevant."""
    empty: float
    """1 where nothing is: no part of the other figures."""


NOTHING = RetrievalRow(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""Of a query that has nothing relevant in its gallery."""


def retrieval_row(scores: Scores, grades: Sequence[int] | NDArray[np.int64], least: int = 1) -> RetrievalRow:
    """scores and grades of the gallery [g]; relevant is what has the grade `least` or a higher one.

    So that one gallery serves for the class and for the very photo: grade 1 is the sketch's class, 2 its photo, say.
    Among equal scores the irrelevant come first: what a model cannot tell apart counts against it, and no figure
    depends on the order of the gallery.
    Raises ValueError for an empty gallery, a score that is nan, or not one grade for each score.
    """
    sure = checked_scores(scores, len(grades))
    if not len(sure):
        raise ValueError("the gallery is empty: rank at least one image")
    relevant = np.asarray(grades) >= least
    if not relevant.any():
        return NOTHING
    ranked = relevant[np.lexsort((relevant, -sure))]
    found = {k: float(ranked[:k].sum()) for k in (1, 5, 10)}
    return RetrievalRow(
        hit_1=float(found[1] > 0),
        hit_5=float(found[5] > 0),
        hit_10=float(found[10] > 0),
        precision_1=found[1],
        precision_5=found[5] / 5,
        precision_10=found[10] / 10,
        average_precision=average_precision(ranked),
        average_precision_200=average_precision(ranked, 200),
        tied=float(np.isin(sure[relevant], sure[~relevant]).mean()),
        asked=1.0,
        empty=0.0,
    )


def average_precision(ranked: NDArray[np.bool_], k: int = 0) -> float:
    """Mean of the precision at each relevant place of the first k; ranked [g]: relevant or not, best first; k: 0 = all.

    Over as many as could be there, the lesser of k and all relevant: the best order reaches 1. (Others divide by those
    that were found among the first k, which forgives what was not.) Raises ValueError where nothing is relevant.
    """
    if not ranked.any():
        raise ValueError("nothing in the gallery is relevant: leave the query out, and count it")
    places = np.flatnonzero(ranked[:k] if k else ranked)
    precisions = np.arange(1, len(places) + 1) / (places + 1)
    return float(precisions.sum() / min(k or len(ranked), ranked.sum()))


RETRIEVAL = {
    "hit@1": average(RetrievalRow._fields, "hit_1", "asked"),
    "hit@5": average(RetrievalRow._fields, "hit_5", "asked"),
    "hit@10": average(RetrievalRow._fields, "hit_10", "asked"),
    "precision@1": average(RetrievalRow._fields, "precision_1", "asked"),
    "precision@5": average(RetrievalRow._fields, "precision_5", "asked"),
    "precision@10": average(RetrievalRow._fields, "precision_10", "asked"),
    "mAP": average(RetrievalRow._fields, "average_precision", "asked"),
    "mAP@200": average(RetrievalRow._fields, "average_precision_200", "asked"),
    "tied": average(RetrievalRow._fields, "tied", "asked"),
    "excluded": average(RetrievalRow._fields, "empty"),
}
"""precision@K is the paper's Acc@K. `excluded`: the share of queries whose gallery holds nothing relevant."""
