"""`sbir`: whether the image shows what the sketch shows."""

from __future__ import annotations

from collections.abc import Sequence

from data_manifests.schema import Query, Sketch
from sketchgen.tasks.config import TasksConfig
from sketchgen.tasks.facts import Facts
from sketchgen.tasks.query import make_query


def sbir(facts: Facts, sketches: Sequence[Sketch], seed: int, config: TasksConfig) -> list[Query]:
    """One query for each sketch; `choose_categories` sees to it that half of them match.

    The id of one that does not says whether its class is `alike` one that is there, or `random`.
    """
    return [_asked(facts, sketch) for sketch in sketches]


def _asked(facts: Facts, sketch: Sketch) -> Query:
    is_there = sketch.category in facts.present
    kind = "" if is_there else "alike" if sketch.category in facts.alike else "random"
    return make_query("sbir", sketch, kind, match=is_there)
