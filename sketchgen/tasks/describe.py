"""`describe`: what the sketch shows, how large it is, where it lies and beside what; stage I learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from data_manifests.schema import Object, Query, Sketch
from sketchgen.tasks import words
from sketchgen.tasks.config import TasksConfig
from sketchgen.tasks.facts import Facts, area, shape
from sketchgen.tasks.query import make_query


def describe(facts: Facts, sketches: Sequence[Sketch], seed: int, config: TasksConfig) -> list[Query]:
    """One query for each sketch of a class whose number in the image is known and not zero.

    `answers` holds the text, `boxes` the box of the object that it describes: the one that the sketch
    shows, else the largest of the class; or all boxes of the class where `max_boxes` takes them.
    """
    random = Random(f"describe/{seed}")
    queries = []
    for sketch in sketches:
        found = facts.counted.get(sketch.category, [])
        if found:
            drawn = [o for o in found if o.object_id == sketch.object_id]
            target = drawn[0] if drawn else max(found, key=lambda o: area(o.box))
            text = _text(facts, found, target, bool(drawn), random)
            boxes = [o.box for o in found] if not drawn and len(found) <= config.max_boxes else [target.box]
            queries.append(make_query("describe", sketch, boxes=boxes, answer=text))
    return queries


def _text(facts: Facts, found: list[Object], target: Object, is_drawn: bool, random: Random) -> str:
    name, number = target.category, len(found)
    subject = words.IT if number == 1 else words.DRAWN if is_drawn else words.LARGEST
    fill = {"subject": subject, "size": facts.size(target.box), "shape": shape(target.box)}
    fill |= {"place": facts.place(target.box)}
    place = words.PLACE
    if other := _landmark(facts, target):
        place = words.PLACE_RELATION
        fill |= {"relation": facts.relation(target.box, other.box), "other": other.category}
    sentences = [
        random.choice(words.SHOWS).format(a=words.article(name), name=name),
        words.NUMBER_ONE if number == 1 else words.NUMBER_MANY.format(number=number),
        (words.SIZE_SHAPE if fill["shape"] else words.SIZE).format(**fill),
        place.format(**fill),
    ]
    return " ".join(sentences)


def _landmark(facts: Facts, target: Object) -> Object | None:
    """The nearest single object of another class that the target lies clearly beside, above or below."""
    others = [o for o in facts.singles if o.category != target.category and facts.relation(target.box, o.box)]
    return min(others, key=lambda o: (facts.distance(target.box, o.box), o.object_id), default=None)
