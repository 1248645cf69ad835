"""`sbir`: whether the image shows what the sketch shows."""

from __future__ import annotations

from collections.abc import Sequence

from data_manifests.schema import Query, Sketch
from sketchgen.tasks.config import TasksConfig
from sketchgen.tasks.facts import Facts
from sketchgen.tasks.query import make_query


def sbir(facts: Facts, sketches: Sequence[Sketch], seed: int, config: TasksConfig) -> list[Query]:
    """One query for each sketch; `choose_categories` sees to it that half of them match."""
    return [make_query("sbir", sketch, match=sketch.category in facts.present) for sketch in sketches]
