"""Rankings: p(yes) of every sketch with every image of a gallery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_manifests.schema import Query
from sketchlm.answer import Question, answer
from sketchlm.processor import Picture, Processor

PAPERS = 0
"""Draw of the wording: the paper's, the same for all, so that scores compare."""


def p_yes(
    model: Any,
    processor: Processor,
    sketches: Sequence[Picture | None],
    categories: Sequence[str],
    photos: Sequence[Picture],
    batch: int = 32,
    told: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float64]:
    """p(yes) of each sketch [q] with each photo [g], -> [q, g]; told: how many came.

    sketches: None where the class is named in words instead; categories: the class of each [q].
    """
    pairs = [(q, g) for q in range(len(sketches)) for g in range(len(photos))]
    found = np.zeros((len(sketches), len(photos)))
    for start in range(0, len(pairs), batch):
        group = pairs[start : start + batch]
        questions = [_question(sketches[q], categories[q], photos[g]) for q, g in group]
        for sort in (1, 2):  # of the same number of pictures at once
            places = [n for n, question in enumerate(questions) if len(question.pictures) == sort]
            given = answer(model, processor, [questions[n] for n in places], batch)
            for n, one in zip(places, given, strict=True):
                found[group[n]] = one.yes
        told(len(group))
    return found


def _question(sketch: Picture | None, category: str, photo: Picture) -> Question:
    query = Query(
        query_id="",
        task="sbir",
        row=-1 if sketch is None else 0,
        category=category,
        boxes=[],
        count=-1,
        question="",
        answers=[""],
        match=0,
        answer_source="",
    )
    return Question((photo,) if sketch is None else (sketch, photo), query, PAPERS)
