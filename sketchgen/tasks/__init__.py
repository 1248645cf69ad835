"""Task builders: pure functions (facts, sketches, seed) -> queries, and the choice of what is drawn.

Prompts are not made here: a query holds what is asked and the answer's facts, sketchlm words it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from data_manifests.schema import Query, Sketch
from sketchgen.tasks.bbox import bbox
from sketchgen.tasks.config import TaskName, TasksConfig
from sketchgen.tasks.count import count
from sketchgen.tasks.describe import describe
from sketchgen.tasks.facts import Facts
from sketchgen.tasks.sbir import sbir
from sketchgen.tasks.vqa import vqa
from sketchgen.tasks.words import vocabulary

__all__ = ["BUILDERS", "Facts", "TaskName", "TasksConfig", "build_queries", "vocabulary"]

BUILDERS: dict[TaskName, Callable[[Facts, Sequence[Sketch], int, TasksConfig], list[Query]]] = {
    "describe": describe,
    "bbox": bbox,
    "count": count,
    "vqa": vqa,
    "sbir": sbir,
}


def build_queries(facts: Facts, sketches: Sequence[Sketch], seed: int, config: TasksConfig) -> list[Query]:
    """The queries of all tasks that `config` names, in a fixed order."""
    return [
        query
        for name, build in BUILDERS.items()
        if name in config.names
        for query in build(facts, sketches, seed, config)
    ]
