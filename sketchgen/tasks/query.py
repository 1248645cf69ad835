"""Making one query: what a task does not ask keeps its sentinel."""

from __future__ import annotations

from data_manifests.schema import Box, Query, Sketch
from sketchgen.tasks.config import TaskName

TEMPLATE = "template"
"""Who answered: words that facts filled."""
ANNOTATION = "annotation"
"""Who answered: the people who annotated the source."""


def make_query(
    task: TaskName,
    sketch: Sketch,
    kind: str = "",
    boxes: list[Box] | None = None,
    count: int = -1,
    question: str = "",
    answer: str = "",
    match: bool | None = None,
    source: str = TEMPLATE,
) -> Query:
    """A query about one sketch. Its id names the task, the row and, where a task has several, the kind."""
    return Query(
        query_id="-".join(filter(None, (task, str(sketch.row), kind))),
        task=task,
        row=sketch.row,
        category=sketch.category,
        boxes=boxes or [],
        count=count,
        question=question,
        answers=[answer],
        match=-1 if match is None else 1 if match else 0,
        answer_source=source,
    )
