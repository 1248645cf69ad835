"""What is drawn for an image and asked about it, by what its source knows: boxes, a class, counts or questions."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import NamedTuple

from data_manifests.schema import Query, Sketch
from sketchgen.bank import Drawing, SketchBank
from sketchgen.source import SourceImage, SourceQuery
from sketchgen.tasks import build_queries
from sketchgen.tasks.choice import Choice, choose_categories
from sketchgen.tasks.config import TaskName, TasksConfig
from sketchgen.tasks.facts import Facts
from sketchgen.tasks.query import ANNOTATION, make_query

ANSWERED: dict[str, tuple[TaskName, ...]] = {
    "boxes": ("describe", "bbox", "count", "vqa", "sbir"),
    "classes": ("sbir",),
    "counts": ("count",),
    "questions": ("vqa",),
}
"""The tasks that each kind of knowledge answers."""
OWN_QUESTION = "Was the sketch drawn from this very image?"


class Asked(NamedTuple):
    """Drawings to be made, one for each row of the strip, and queries about them (row -1: about none)."""

    choices: list[Choice]
    queries: list[Query]


def ask(
    image: SourceImage,
    facts: Facts,
    knows: str,
    bank: SketchBank,
    seed: int,
    config: TasksConfig,
    surplus: Mapping[str, int],
    pair: tuple[Drawing, Drawing] | None = None,
) -> Asked:
    """Everything that can be asked about an image.

    knows: a key of ANSWERED; surplus: see `choose_categories`; pair: a drawing made of this very photo and one of
    another, where `config.own` may ask which is which.
    """
    if knows in ("counts", "questions"):
        return _repeat(image, bank, config)
    if pair and Random(f"own/{seed}").random() < config.own:
        return _ask_own(pair, facts)
    choices = choose_categories(facts.objects, bank, seed, config, surplus)
    sketches = [placeholder(row, choice) for row, choice in enumerate(choices)]
    return Asked(choices, build_queries(facts, sketches, seed, config))


def compact(asked: Asked, queries: list[Query]) -> Asked:
    """Only these queries, and the drawings that they are about, in rows without gaps."""
    rows = sorted({query.row for query in queries if query.row >= 0})
    number = {row: new for new, row in enumerate(rows)} | {-1: -1}
    return Asked([asked.choices[row] for row in rows], [renumbered(query, number[query.row]) for query in queries])


def renumbered(query: Query, row: int) -> Query:
    """The same query about the drawing in another row; its id names the row."""
    if query.row == row:
        return query
    task, _, *kind = query.query_id.split("-")
    return query.model_copy(update={"row": row, "query_id": "-".join((task, str(row), *kind))})


def placeholder(row: int, choice: Choice) -> Sketch:
    """What builders need of a drawing that is not made yet."""
    return Sketch(
        row=row,
        sketch_id="",
        category=choice.category,
        source="",
        style="",
        object_id=choice.object_id,
        generator="",
    )


def _ask_own(pair: tuple[Drawing, Drawing], facts: Facts) -> Asked:
    """Whether a drawing is of this very photo, or of another of its class."""
    [shown] = facts.objects
    choices = [
        Choice(shown.category, shown.object_id, True, pair[0]),
        Choice(shown.category, "", False, pair[1]),
    ]
    queries = [
        make_query("sbir", placeholder(row, choice), kind, question=OWN_QUESTION, match=choice.is_present)
        for row, (choice, kind) in enumerate(zip(choices, ("own", "other"), strict=True))
    ]
    return Asked(choices, queries)


def _repeat(image: SourceImage, bank: SketchBank, config: TasksConfig) -> Asked:
    """What the source itself asks, about a drawing of the class where it names one."""
    choices: list[Choice] = []
    queries = []
    for query in image.asked:
        if query.reason or query.task not in config.names:
            continue
        if not query.category:
            queries.append(_without_sketch(query))
        elif query.category in bank.categories and len(choices) < config.max_rows:
            sketch = placeholder(len(choices), Choice(query.category, "", True))
            queries.append(make_query("count", sketch, count=query.count, source=ANNOTATION))
            choices.append(Choice(query.category, "", True))
    return Asked(choices, queries)


def _without_sketch(query: SourceQuery) -> Query:
    return Query(
        query_id=f"vqa-{query.query_id}",
        task="vqa",
        row=-1,
        category="",
        boxes=[],
        count=-1,
        question=query.question,
        answers=list(query.answers),
        match=-1,
        answer_source=ANNOTATION,
    )
