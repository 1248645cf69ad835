"""`vqa`: short questions about the sketch and the image, answered from the facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from data_manifests.schema import Object, Query, Sketch
from sketchgen.colour import COLOURS
from sketchgen.tasks import words
from sketchgen.tasks.config import TasksConfig
from sketchgen.tasks.count import pick_counts
from sketchgen.tasks.facts import Facts, area
from sketchgen.tasks.query import make_query

LARGER = 1.5
"""Ratio of two boxes' areas from which one object is called larger."""

Asked = tuple[dict[str, str], str]
"""What fills the question, and the answer."""


def vqa(facts: Facts, sketches: Sequence[Sketch], seed: int, config: TasksConfig) -> list[Query]:
    """At most one question for each sketch.

    The same share of all sketches is asked `presence`, so that yes and no are even. Of the others, one
    whose class is there gets any kind of question that its facts answer, all kinds alike; one whose
    class is not there is asked what it shows, or for a number that is 0, as often as the kinds come up.
    """
    random = Random(f"vqa/{seed}")
    numbers = {sketch.row: number for sketch, number in pick_counts(facts, sketches, seed, config)}
    queries = []
    for sketch in sketches:
        possible = _possible(facts, sketch, numbers.get(sketch.row), random)
        kinds = list(config.questions)
        kind = random.choice(kinds)
        if kind not in possible and sketch.category in facts.counted:
            kind = random.choice([name for name in possible if name in kinds and name != "presence"] or ["presence"])
        if kind in possible:
            fill, answer = possible[kind]
            question = random.choice(words.QUESTIONS[kind]).format(**fill)
            queries.append(make_query("vqa", sketch, kind, question=question, answer=answer))
    return queries


def _possible(facts: Facts, sketch: Sketch, number: int | None, random: Random) -> dict[str, Asked]:
    """The kinds of question that the facts answer without doubt."""
    asked: dict[str, Asked] = {
        "category": ({}, sketch.category),
        "presence": ({}, "yes" if sketch.category in facts.present else "no"),
    }
    if number is not None:
        asked["number"] = ({}, str(number))
    found = facts.counted.get(sketch.category, [])
    if len(found) == 1:
        makers: dict[str, Callable[[Facts, Object, Random], Asked | None]] = {
            "place": _place,
            "neighbour": _neighbour,
            "comparison": _comparison,
            "size": _size,
            "colour": _colour,
            "coloured": _coloured,
        }
        for kind, make in makers.items():
            if question := make(facts, found[0], random):
                asked[kind] = question
    return asked


def _place(facts: Facts, target: Object, random: Random) -> Asked | None:
    return ({}, facts.place(target.box)) if facts.has_clear_place(target.box) else None


def _size(facts: Facts, target: Object, random: Random) -> Asked | None:
    """Not where it is of medium size: people would differ."""
    size = facts.size(target.box)
    return ({}, size) if size in (words.SIZES[0], words.SIZES[-1]) else None


def _colour(facts: Facts, target: Object, random: Random) -> Asked | None:
    colour = facts.colours.get(target.object_id, "")
    return ({}, colour) if colour else None


def _coloured(facts: Facts, target: Object, random: Random) -> Asked | None:
    """Yes or no, as often; of the object's own chance, so that the other kinds are what they are without this one."""
    colour = facts.colours.get(target.object_id, "")
    if not colour:
        return None
    own = Random(f"coloured/{target.object_id}/{colour}")
    if own.random() < 0.5:
        return {"colour": colour}, "yes"
    return {"colour": own.choice([name for name in COLOURS if name != colour])}, "no"


def _neighbour(facts: Facts, target: Object, random: Random) -> Asked | None:
    """One side of the target on which exactly one class lies, and plainly there."""
    around: dict[str, set[str]] = {}
    plain = set()
    for o in facts.objects:
        if o is not target:
            plain.add((facts.relation(o.box, target.box), o.category))
            for side in facts.sides(o.box, target.box):
                around.setdefault(side, set()).add(o.category)
    alone = [(side, *names) for side, names in sorted(around.items()) if len(names) == 1]
    alone = [pair for pair in alone if pair in plain and pair[1]]
    if not alone:
        return None
    side, name = random.choice(alone)
    return {"relation": side}, name


def _comparison(facts: Facts, target: Object, random: Random) -> Asked | None:
    """Against a single object of another class whose size is plainly another."""
    size = area(target.box)
    others = [o for o in facts.singles if o is not target and max(area(o.box) / size, size / area(o.box)) >= LARGER]
    if not others:
        return None
    other = random.choice(others)
    return {"other": other.category}, "larger" if size > area(other.box) else "smaller"
