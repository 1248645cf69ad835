"""Boxes against true boxes: one that answers a question, and several in an image that holds several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sketchlm.metrics.box import OVERLAP, Boxes, Scores, checked_boxes, checked_scores, overlaps, suppress
from sketchlm.metrics.figure import Values, average, ratio, rest

THRESHOLDS = np.arange(50, 100, 5) / 100
"""Of Acc: 0.50, 0.55, ..., 0.95, as COCO has them."""
SMALL, LARGE = 32**2, 96**2
"""Square pixels of the true box: small is below the first, large from the second on."""
NOWHERE = 0.1
"""Overlap under which a box shows nothing true: hallucinated."""


class BoxRow(NamedTuple):
    """How one box compares with the true ones; `own` is the object that the sketch was drawn of."""

    iou: float
    """With the instance of the class that it fits best, in [0, 1]."""
    acc: float
    """Share of THRESHOLDS that the overlap reaches."""
    half: float
    """1 where it reaches 0.5."""
    own_iou: float
    """The same with the sketch's own object; 0 where that is not known."""
    own_acc: float
    own_half: float
    own: float
    """1 where the sketch's own object is known."""
    small: float
    medium: float
    large: float
    unread: float
    """1 where the answer holds no box: wrong."""


def box_row(found: Sequence[float] | None, truth: Boxes, own: int = -1) -> BoxRow:
    """found: xyxy pixels of the image, as `truth` [n, 4]: every instance of the class; None where there is no box.

    own: which of them the sketch shows, -1 where none of them in particular (a drawing of a bank). The size is that of
    its box; else of the largest, the easiest to hit: so it never depends on the answer, and two models compare.
    Raises ValueError where there is no true box, or `own` is none of them.
    """
    true = checked_boxes(truth)
    if not -1 <= own < len(true) or not len(true):
        raise ValueError(f"own is {own} of {len(true)} true boxes: give at least one, and its place or -1")
    fits = np.zeros(len(true)) if found is None else overlaps([found], true)[0]
    best, mine = float(fits.max()), float(fits[own]) if own >= 0 else 0.0
    areas = (true[:, 2:] - true[:, :2]).prod(1)
    area = areas[own] if own >= 0 else areas.max()
    return BoxRow(
        iou=best,
        acc=float((best >= THRESHOLDS).mean()),
        half=float(best >= 0.5),
        own_iou=mine,
        own_acc=float((mine >= THRESHOLDS).mean()),
        own_half=float(mine >= 0.5),
        own=float(own >= 0),
        small=float(area < SMALL),
        medium=float(SMALL <= area < LARGE),
        large=float(area >= LARGE),
        unread=float(found is None),
    )


BOX = {
    "Acc": average(BoxRow._fields, "acc"),
    "Acc@0.5": average(BoxRow._fields, "half"),
    "Acc-S": average(BoxRow._fields, "acc", "small"),
    "Acc-M": average(BoxRow._fields, "acc", "medium"),
    "Acc-L": average(BoxRow._fields, "acc", "large"),
    "mean IoU": average(BoxRow._fields, "iou"),
    "own Acc": average(BoxRow._fields, "own_acc", "own"),
    "own Acc@0.5": average(BoxRow._fields, "own_half", "own"),
    "own Acc-S": average(BoxRow._fields, "own_acc", "own", "small"),
    "own Acc-M": average(BoxRow._fields, "own_acc", "own", "medium"),
    "own Acc-L": average(BoxRow._fields, "own_acc", "own", "large"),
    "own mean IoU": average(BoxRow._fields, "own_iou", "own"),
    "unreadable": average(BoxRow._fields, "unread"),
}
"""Any instance of the class is right; `own`: only the one that the sketch was drawn of, where that is known."""


class Matching(NamedTuple):
    """Which true box each found one took: places [m], -1 where none; best: its highest overlap with any, [m]."""

    taken: NDArray[np.int64]
    best: NDArray[np.float64]


def match(found: Boxes, scores: Scores, truth: Boxes, threshold: float = 0.5) -> Matching:
    """COCO's greedy matching: boxes [m, 4] by falling score (equal: the earlier first), each takes the free true box
    [n, 4] that it overlaps most (equal: the last), if by the threshold.

    Raises ValueError for what are no boxes, or no score for each.
    """
    fits = overlaps(found, truth)
    taken = np.full(len(fits), -1)
    free = np.ones(fits.shape[1], bool)
    for place in np.argsort(-checked_scores(scores, len(fits)), kind="stable"):
        able = np.flatnonzero(free & (fits[place] >= threshold))
        if len(able):
            taken[place] = able[::-1][fits[place, able[::-1]].argmax()]
            free[taken[place]] = False
    return Matching(taken, fits.max(1, initial=0.0))


class BoxesRow(NamedTuple):
    """How the boxes of one answer compare with the true ones: as found, and `kept`, as suppression leaves them."""

    true: float
    found: float
    hits: float
    duplicates: float
    """Boxes whose true box a better one has taken."""
    hallucinated: float
    """Boxes that show nothing true; what is neither a hit nor a duplicate nor this lies loosely."""
    half_all: float
    """Half of true and found boxes together: F1 is the share of hits in it."""
    kept: float
    kept_hits: float
    kept_duplicates: float
    kept_hallucinated: float
    kept_half_all: float


def boxes_row(found: Boxes, scores: Scores, truth: Boxes, threshold: float = OVERLAP) -> BoxesRow:
    """found [m, 4] and truth [n, 4], every instance of the class: xyxy pixels; no true box where it is absent.

    scores: how sure each is; where a model does not say, falling in the order in which it names them.
    threshold: overlap above which suppression drops the lesser of two. Raises ValueError as `match` does.
    """
    boxes, true = checked_boxes(found), checked_boxes(truth)
    sure = checked_scores(scores, len(boxes))
    kept = suppress(boxes, sure, threshold)
    before, after = _tally(boxes, sure, true), _tally(boxes[kept], sure[kept], true)
    return BoxesRow(
        true=float(len(true)),
        found=float(len(boxes)),
        hits=before.hits,
        duplicates=before.duplicates,
        hallucinated=before.hallucinated,
        half_all=(len(boxes) + len(true)) / 2,
        kept=float(len(kept)),
        kept_hits=after.hits,
        kept_duplicates=after.duplicates,
        kept_hallucinated=after.hallucinated,
        kept_half_all=(len(kept) + len(true)) / 2,
    )


class _Tally(NamedTuple):
    hits: float
    duplicates: float
    hallucinated: float


def _tally(found: Values, scores: Values, truth: Values) -> _Tally:
    taken, best = match(found, scores, truth)
    hit = taken >= 0
    duplicate = ~hit & (best >= 0.5)  # had the true box that it overlaps been free, it had taken it
    return _Tally(float(hit.sum()), float(duplicate.sum()), float((best < NOWHERE).sum()))


BOXES = {
    "precision": ratio(BoxesRow._fields, "hits", "found"),
    "recall": ratio(BoxesRow._fields, "hits", "true"),
    "F1": ratio(BoxesRow._fields, "hits", "half_all"),
    "duplicates": ratio(BoxesRow._fields, "duplicates", "found"),
    "hallucinated": ratio(BoxesRow._fields, "hallucinated", "found"),
    "loose": rest(BoxesRow._fields, "found", "hits", "duplicates", "hallucinated"),
    "precision, suppressed": ratio(BoxesRow._fields, "kept_hits", "kept"),
    "recall, suppressed": ratio(BoxesRow._fields, "kept_hits", "true"),
    "F1, suppressed": ratio(BoxesRow._fields, "kept_hits", "kept_half_all"),
    "duplicates, suppressed": ratio(BoxesRow._fields, "kept_duplicates", "kept"),
    "hallucinated, suppressed": ratio(BoxesRow._fields, "kept_hallucinated", "kept"),
    "loose, suppressed": rest(BoxesRow._fields, "kept", "kept_hits", "kept_duplicates", "kept_hallucinated"),
}
"""At IoU 0.5, boxes pooled over questions; duplicates, hallucinated and loose ones are shares of the boxes."""
