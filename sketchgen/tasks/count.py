"""`count`: how many objects of the class that the sketch shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random

from data_manifests.schema import Query, Sketch
from sketchgen.tasks.config import TasksConfig
from sketchgen.tasks.facts import Facts
from sketchgen.tasks.query import make_query


def count(facts: Facts, sketches: Sequence[Sketch], seed: int, config: TasksConfig) -> list[Query]:
    """Queries for the sketches that `pick_counts` takes."""
    return [make_query("count", sketch, count=number) for sketch, number in pick_counts(facts, sketches, seed, config)]


def pick_counts(facts: Facts, sketches: Sequence[Sketch], seed: int, config: TasksConfig) -> list[tuple[Sketch, int]]:
    """The sketches whose class is counted, with the number, in the order of their rows.

    One class for each different number in the image, so that who knows the image's numbers, and not
    the sketch, has one chance in as many; none where the image has fewer than `min_counts` of them.
    Beside these, `zero_rate` of the classes that the image lacks.
    """
    random = Random(f"count/{seed}")
    by_number: dict[int, list[Sketch]] = defaultdict(list)
    picked = []
    for sketch in sketches:
        if sketch.category in facts.counted:
            by_number[len(facts.counted[sketch.category])].append(sketch)
        elif sketch.category not in facts.present and random.random() < config.zero_rate:
            picked.append((sketch, 0))
    if len(by_number) >= config.min_counts:
        picked += [(random.choice(found), number) for number, found in sorted(by_number.items())]
    return sorted(picked, key=lambda pair: pair[0].row)
