"""`bbox`: the boxes of the class that the sketch shows."""

from __future__ import annotations

from collections.abc import Sequence

from data_manifests.schema import Query, Sketch
from sketchgen.tasks.config import TasksConfig
from sketchgen.tasks.facts import Facts
from sketchgen.tasks.query import make_query


def bbox(facts: Facts, sketches: Sequence[Sketch], seed: int, config: TasksConfig) -> list[Query]:
    """One query for each sketch of a class with at most `max_boxes` instances.

    Only where the image holds `min_singles` such classes: with one alone, who never looks at the sketch
    finds it too. Boxes go left to right, then top to bottom.
    """
    few = {name: found for name, found in facts.counted.items() if len(found) <= config.max_boxes}
    if len(few) < config.min_singles:
        return []
    return [
        make_query("bbox", sketch, boxes=[o.box for o in few[sketch.category]])
        for sketch in sketches
        if sketch.category in few
    ]
