"""Where two models part: examples that one has right and the other wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

import numpy as np

from data_manifests.schema import Measured
from sketchlm.evaluation.record import AnswerRecord, Entry, Example
from sketchlm.evaluation.report.answers import Answers
from sketchlm.evaluation.report.folder import Folder
from sketchlm.evaluation.report.picture import Card, Mark, Pictures, card, mark_of
from sketchlm.evaluation.report.values import SURE, boxes_of, p_yes

PARTINGS: Final = 12
"""Examples of each kind at most."""


@dataclass(frozen=True, slots=True)
class Parting:
    """A question that one model has right and the other wrong."""

    card: Card
    said: tuple[str, str]
    """By A and by B."""
    marks: tuple[Mark, Mark]
    boxes: tuple[list[list[float]], list[list[float]]]
    """Found by A and by B, as shares of the picture."""


def partings(
    a: Folder, b: Folder, both: Sequence[tuple[Entry, Entry]]
) -> tuple[tuple[tuple[str, tuple[Parting, ...]], ...], int]:
    """Among the examples of either record, those that only A has right, and only B, entries in turn; and how many
    examples do not say which question they are."""
    pictures = Pictures(a.path), Pictures(b.path)
    found: dict[str, list[list[Parting]]] = {"A": [], "B": []}
    unkeyed = 0
    for mine, theirs in both:
        answers = a.of(mine), b.of(theirs)
        if mine.condition != "asked" or mine.task == "retrieval" or answers[0] is None or answers[1] is None:
            continue
        examples = [(pictures[0], one) for one in mine.examples] + [(pictures[1], one) for one in theirs.examples]
        unkeyed += sum(not one.key for _, one in examples)
        keyed = {one.key: (source, one) for source, one in reversed(examples) if one.key}
        parted = [_parting(source, mine.task, one, answers[0], answers[1]) for source, one in keyed.values()]
        for side, place in (("A", 0), ("B", 1)):
            found[side].append([one for one in parted if one is not None and one.marks[place] == "right"])
    chosen = {side: tuple(_in_turn(entries))[:PARTINGS] for side, entries in found.items()}
    return tuple((side, them) for side, them in chosen.items() if them), unkeyed


def _in_turn(entries: Sequence[Sequence[Parting]]) -> Iterator[Parting]:
    """The first of each, then the second."""
    return (one for rank in zip_longest(*entries) for one in rank if one is not None)


def _parting(pictures: Pictures, task: Measured, example: Example, a: Answers, b: Answers) -> Parting | None:
    places = [_place(side, example.key) for side in (a, b)]
    if None in places:
        return None
    sides = [side.at([place]) for side, place in zip((a, b), places, strict=True) if place is not None]
    marks = [_mark(side) for side in sides]
    if marks.count("right") != 1:
        return None
    records = [side.records[0] for side in sides]
    boxes = [_shares(record, example) for record in records]
    said = [_said(task, record) for record in records]
    return Parting(card(pictures, task, example), (said[0], said[1]), (marks[0], marks[1]), (boxes[0], boxes[1]))


def _place(answers: Answers, key: str) -> int | None:
    places = [place for place, record in enumerate(answers.records) if record.key == key]
    return places[0] if len(places) == 1 else None


def _mark(one: Answers) -> Mark:
    """Of a single answer, by the head measure of it alone."""
    return mark_of(one.task, one.measures[one.head](one.rows) if one.head else 0.0)


def _said(task: Measured, record: AnswerRecord) -> str:
    if task != "sbir":
        return record.said
    yes = p_yes(record)
    return "nothing readable" if yes is None else f"{'yes' if yes >= SURE else 'no'} ({yes:.2f})"


def _shares(record: AnswerRecord, example: Example) -> list[list[float]]:
    """Boxes found, pixels, as shares of the picture: its size follows from a true box that is known as both."""
    true = boxes_of(record.truth) if example.true_boxes else []
    if not true or not record.found:
        return []
    pixels, shares = (np.asarray([box[:4] for box in boxes]).max(0) for boxes in (true, example.true_boxes))
    width, height = pixels[2:] / np.maximum(shares[2:], 1e-9)
    size = (width, height, width, height)
    return [[*(float(v / s) for v, s in zip(box[:4], size, strict=True)), *box[4:]] for box in boxes_of(record.found)]
