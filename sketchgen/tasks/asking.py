"""What is drawn for an image and asked about it, by what its source knows: boxes, a class, counts or questions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from data_manifests.schema import Query, Sketch
from sketchgen.bank import Drawing, SketchBank
from sketchgen.seed import seed_of
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
    own: Callable[[int], tuple[Drawing, Drawing] | None] = lambda seed: None,
    without: Collection[str] = (),
) -> Asked:
    """Everything that can be asked about an image.

    knows: a key of ANSWERED; surplus, without: see `choose_categories`; own: a drawing made of this very photo and one
    of another of its class, by a seed, where there are such.
    """
    if knows in ("counts", "questions"):
        return _repeat(image, bank, config, without)
    if knows == "classes":
        return _ask_pairs(facts, bank, seed, config, surplus, own, without)
    choices = choose_categories(facts, bank, seed, config, surplus, without)
    return Asked(choices, build_queries(facts, _placeholders(choices), seed, config))


def _ask_pairs(
    facts: Facts,
    bank: SketchBank,
    seed: int,
    config: TasksConfig,
    surplus: Mapping[str, int],
    own: Callable[[int], tuple[Drawing, Drawing] | None],
    without: Collection[str],
) -> Asked:
    """`config.pairs` times a drawing of the class that is shown and one of another, or the very photo and another."""
    found = Asked([], [])
    for number in range(config.pairs):
        of_pair = seed_of(seed, "pair", number) if number else seed
        is_own = facts.objects and Random(f"own/{of_pair}").random() < config.own
        pair = own(of_pair) if is_own else None
        if pair:
            found = _joined(found, _ask_own(pair, facts))
            continue
        absent = {choice.category for choice in found.choices} - facts.present
        choices = choose_categories(facts, bank, of_pair, config, surplus, {*without, *absent})
        choices = [choice._replace(number=number) for choice in choices]
        found = _joined(found, Asked(choices, build_queries(facts, _placeholders(choices), of_pair, config)))
    return found


def _joined(one: Asked, other: Asked) -> Asked:
    """Both, the rows of the other after those of the one."""
    first = len(one.choices)
    return Asked([*one.choices, *other.choices], [*one.queries, *(renumbered(q, q.row + first) for q in other.queries)])


def _placeholders(choices: Sequence[Choice]) -> list[Sketch]:
    return [placeholder(row, choice) for row, choice in enumerate(choices)]


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
    mine, other = (replace(drawing, category=shown.category) for drawing in pair)
    choices = [Choice(shown.category, shown.object_id, True, mine), Choice(shown.category, "", False, other)]
    queries = [
        make_query("sbir", placeholder(row, choice), kind, question=OWN_QUESTION, match=choice.is_present)
        for row, (choice, kind) in enumerate(zip(choices, ("own", "other"), strict=True))
    ]
    return Asked(choices, queries)


def _repeat(image: SourceImage, bank: SketchBank, config: TasksConfig, without: Collection[str]) -> Asked:
    """What the source itself asks, about a drawing of the class where it names one."""
    choices: list[Choice] = []
    queries = []
    drawn = set(bank.categories) - set(without)
    for query in image.asked:
        if query.reason or query.task not in config.names:
            continue
        if not query.category:
            queries.append(_without_sketch(query))
        elif query.category in drawn and len(choices) < config.max_rows:
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
