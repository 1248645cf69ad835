"""Scores: what an answer says, compared with the truth; figures of many, and what a constant answer reaches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from data_manifests.schema import Measured
from sketchlm.answer import read_count
from sketchlm.evaluation.measures import FIELDS, MEASURES, OWN, RANKED, DescribeRow
from sketchlm.evaluation.questions import Asked
from sketchlm.evaluation.record import AnswerRecord
from sketchlm.frame import Frame, from_frame, to_frame
from sketchlm.metrics import (
    BoxRow,
    Figure,
    box_row,
    boxes_row,
    count_row,
    figures,
    presence_row,
    retrieval_row,
    vqa_row,
)

Row: TypeAlias = tuple[float, ...]
FIXED = 32
"""Boxes that are tried as an answer that is always the same."""
FIRST = 10
"""Images of a ranking that its record keeps."""


class Said(NamedTuple):
    """What a model answered. boxes: where it gives some, xyxy pixels of the image; scores: how sure it is of each."""

    text: str
    yes: float = 0.5
    boxes: Sequence[Sequence[float]] = ()
    scores: Sequence[float] = ()


def figures_of(task: Measured, records: Sequence[AnswerRecord]) -> dict[str, Figure]:
    """The figures of a task; those that no question enters are left out."""
    rows = [[record.row[name] for name in FIELDS[task]] for record in records]
    found = figures(rows, MEASURES[task], [record.image for record in records])
    return {name: figure for name, figure in found.items() if figure.n and not math.isnan(figure.value)}


def score(task: Measured, asked: Asked, said: Said) -> AnswerRecord:
    """One answer, read and compared. Not for rankings."""
    return SCORERS[task](asked, said)


def _bbox(asked: Asked, said: Said) -> AnswerRecord:
    row = box_row(said.boxes[0] if said.boxes else None, asked.query.boxes, asked.own)
    kept = _first(said)
    return _record(asked, said, asked.query.boxes, row, kept, "" if kept else "no box", _size(row))


def _first(said: Said) -> list[list[float]] | None:
    """The first box with its score, as a record keeps it."""
    return [[*said.boxes[0], said.scores[0]]] if said.boxes else None


def _boxes(asked: Asked, said: Said) -> AnswerRecord:
    row = boxes_row(said.boxes, said.scores, asked.query.boxes)
    size = _size(box_row(None, asked.query.boxes)) if len(asked.query.boxes) == 1 else ""
    kept = [[*box, sure] for box, sure in zip(said.boxes, said.scores, strict=True)]
    return _record(asked, said, asked.query.boxes, row, kept or None, "" if kept else "no box", size)


def _count(asked: Asked, said: Said) -> AnswerRecord:
    found = read_count(said.text)
    row, truth = count_row(found, asked.query.count), asked.query.count
    return _record(asked, said, truth, row, None if found < 0 else found, "no number" if found < 0 else "")


def _vqa(asked: Asked, said: Said) -> AnswerRecord:
    answers = asked.query.answers
    return _record(asked, said, answers, vqa_row(said.text, answers), said.text)


def _sbir(asked: Asked, said: Said) -> AnswerRecord:
    return _record(asked, said, asked.query.match, presence_row(said.yes, asked.query.match), said.yes)


def _describe(asked: Asked, said: Said) -> AnswerRecord:
    truth, kept = asked.query.boxes, _first(said)
    box = box_row(said.boxes[0] if said.boxes else None, truth, asked.own) if truth else None
    named = f" {asked.query.category}" in said.text
    row = DescribeRow(float(named), box.iou if box else 0.0, box.half if box else 0.0, float(not kept))
    return _record(asked, said, truth, row, kept, "" if kept else "no box", _size(box) if box else "")


SCORERS: dict[Measured, Callable[[Asked, Said], AnswerRecord]] = {
    "bbox": _bbox,
    "boxes": _boxes,
    "count": _count,
    "vqa": _vqa,
    "sbir": _sbir,
    "describe": _describe,
}


def score_ranking(asked: Asked, yes: Sequence[float], names: Sequence[str], grades: Sequence[int]) -> AnswerRecord:
    """A gallery [g] ranked for one sketch. yes: p(yes) of each image; grades: 1 = shows its class, 2 = the image that
    it was made of."""
    row = (*retrieval_row(yes, grades, 1), *retrieval_row(yes, grades, 2))
    order = np.lexsort((np.asarray(grades) > 0, -np.asarray(yes)))[:FIRST]  # ties as in the figures
    found = [[names[place], float(yes[place]), int(grades[place])] for place in order]
    return AnswerRecord(
        key=asked.key,
        image=asked.key,  # of its sketch: queries share their gallery
        category=asked.query.category,
        said="",
        truth=sum(grade > 0 for grade in grades),
        found=found,
        row=dict(zip(RANKED, row, strict=True)),
    )


def _record(
    asked: Asked,
    said: Said,
    truth: Any,
    row: Any,
    found: Any,
    reason: str = "",
    size: Literal["S", "M", "L", ""] = "",
) -> AnswerRecord:
    return AnswerRecord(
        key=asked.key,
        image=asked.image.id,
        category=asked.query.category,
        said=said.text,
        truth=truth,
        found=found,
        reason=reason,
        size=size,
        row=row._asdict(),
    )


def _size(row: BoxRow) -> Literal["S", "M", "L"]:
    return "S" if row.small else "M" if row.medium else "L"


def constants(task: Measured, asked: Sequence[Asked], frame: Frame) -> dict[str, float]:
    """What the best answer that is always the same reaches on these questions, by figure; {} where that is not known.

    count: one number; sbir: yes or no; vqa: one text; bbox: one box, as shares of the frame (the best of FIXED + 1).
    """
    if not asked:
        return {}
    if task == "count":
        return _constant_count([one.query.count for one in asked])
    if task == "sbir":
        share = sum(one.query.match for one in asked) / len(asked)
        return {"balanced accuracy": 0.5 if 0 < share < 1 else 1.0, "accuracy": max(share, 1 - share)}
    if task == "vqa":
        common = Counter(one.query.answers[0] for one in asked).most_common(1)[0][0]
        rows = [vqa_row(common, one.query.answers) for one in asked]
        return _values("vqa", rows)
    if task == "bbox":
        return _fixed_box(asked, frame)
    return {}


def _constant_count(truth: Sequence[int]) -> dict[str, float]:
    def best(of: Sequence[int], name: str, sign: int = 1) -> float:
        numbers = range(min(of), min(max(of), min(of) + 100) + 1)
        reached = [_values("count", [count_row(number, true) for true in of])[name] for number in numbers]
        return sign * max(sign * value for value in reached)

    present = [number for number in truth if number]
    found = {"exact": best(truth, "exact"), "within 1": best(truth, "within 1"), "MAE": best(truth, "MAE", -1)}
    return found | ({"exact, present": best(present, "exact, present")} if present else {})


def _fixed_box(asked: Sequence[Asked], frame: Frame) -> dict[str, float]:
    """The best of the mean box and of FIXED true ones, for each figure."""
    sizes = [(one.image.width, one.image.height) for one in asked]
    framed = [to_frame(one.query.boxes[0], size, frame) for one, size in zip(asked, sizes, strict=True)]
    tried = [np.mean(framed, axis=0).tolist(), *framed[:: max(1, len(framed) // FIXED)][:FIXED]]
    best: dict[str, float] = {}
    for box in tried:
        pairs = zip(asked, sizes, strict=True)
        rows = [box_row(from_frame(box, size, frame), one.query.boxes, one.own) for one, size in pairs]
        for name, value in _values("bbox", rows).items():
            best[name] = max(best.get(name, 0.0), value)
    return {name: value for name, value in best.items() if name != "unreadable"}


def _values(task: Measured, rows: Sequence[Row]) -> dict[str, float]:
    found = {name: measure(np.asarray(rows, np.float64)) for name, measure in MEASURES[task].items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def by_chance(grades: Sequence[Sequence[int]]) -> dict[str, float]:
    """What rankings reach that have nothing to do with the sketch, on average; grades [q][g] of the galleries.

    Queries whose gallery holds nothing relevant are left out, as figures do.
    """
    found: dict[str, float] = {}
    for prefix, least in (("", 1), (OWN, 2)):
        pairs = [(sum(grade >= least for grade in row), len(row)) for row in grades]
        pairs = [(relevant, size) for relevant, size in pairs if relevant]
        if not pairs:
            continue
        for k in (1, 5, 10):
            found[f"{prefix}precision@{k}"] = float(np.mean([r / g * min(k, g) / k for r, g in pairs]))
            missed = [math.comb(g - r, min(k, g)) / math.comb(g, min(k, g)) for r, g in pairs]
            found[f"{prefix}hit@{k}"] = float(1 - np.mean(missed))
        found[f"{prefix}mAP"] = float(np.mean([_chance_precision(r, g) for r, g in pairs]))
    return found


def _chance_precision(relevant: int, size: int) -> float:
    """Average precision of a drawn order, on average: at place k, that it is relevant, and the share before it."""
    others = (relevant - 1) / (size - 1) if size > 1 else 0.0
    return sum((1 + (k - 1) * others) / k for k in range(1, size + 1)) / size
