"""Settings of the task builders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from data_manifests.schema import MAX_ROWS

TaskName = Literal["describe", "bbox", "count", "vqa", "sbir"]
TASK_NAMES: tuple[TaskName, ...] = get_args(TaskName)
QuestionKind = Literal[
    "category", "presence", "place", "number", "neighbour", "comparison", "size", "colour", "coloured"
]
QUESTION_KINDS: tuple[QuestionKind, ...] = get_args(QuestionKind)
USUAL_KINDS = QUESTION_KINDS[:-1]
"""All but `coloured`, which asks yes or no about what `colour` asks for."""


@dataclass(frozen=True)
class TasksConfig:
    """What is drawn and asked."""

    names: tuple[TaskName, ...] = TASK_NAMES
    """Tasks whose queries are written."""
    max_rows: int = MAX_ROWS
    """Sketches a sample at most, half of them of classes that the image lacks."""
    lookalikes: float = 0.5
    """Share of the absent classes that are look-alikes of a present one."""
    zero_rate: float = 0.15
    """Share of the absent classes that are counted (none is there)."""
    min_counts: int = 2
    """Different numbers that an image must hold before its classes are counted."""
    min_singles: int = 2
    """Classes with few enough boxes (`max_boxes`) that an image must hold before a box is asked for."""
    questions: tuple[QuestionKind, ...] = USUAL_KINDS
    """Kinds of questions of `vqa` that are made from facts."""
    pairs: int = 1
    """Pairs of a drawing that matches and one that does not for each photo of sketchy."""
    own: float = 0.0
    """Share of these pairs that ask whether a drawing was made of this very photo, or of another of its class, in place
    of whether the class is there."""
    max_boxes: int = 1
    """Boxes of one answer at most; a class with more instances is not asked for its boxes."""

    @property
    def asks_absent(self) -> bool:
        """Whether any task asks about what is not there."""
        return bool({"vqa", "sbir"} & set(self.names)) or ("count" in self.names and self.zero_rate > 0)


def check_tasks(config: TasksConfig) -> None:
    """Raises ValueError for settings that mean nothing, with the flag and what it must be."""
    if not config.names:
        raise ValueError(f"tasks.names is empty: name at least one of {', '.join(TASK_NAMES)}")
    if unknown := [name for name in config.names if name not in TASK_NAMES]:
        raise ValueError(f"tasks.names: there is no task {unknown[0]!r}; known are {', '.join(TASK_NAMES)}")
    if unknown_kinds := [kind for kind in config.questions if kind not in QUESTION_KINDS]:
        known = ", ".join(QUESTION_KINDS)
        raise ValueError(f"tasks.questions: there is no kind {unknown_kinds[0]!r}; known are {known}")
    if "vqa" in config.names and not {"category", "presence"} & set(config.questions):
        raise ValueError(
            "tasks.questions must hold category or presence: of a class that is not there nothing else is asked"
        )
    if not 2 <= config.max_rows <= MAX_ROWS:
        raise ValueError(f"tasks.max_rows is {config.max_rows}, must be from 2 to {MAX_ROWS} (rows of a strip)")
    for name in ("lookalikes", "zero_rate", "own"):
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"tasks.{name} is {getattr(config, name)}, must be from 0 to 1")
    if 2 * config.pairs > MAX_ROWS:
        raise ValueError(f"tasks.pairs is {config.pairs}, must be at most {MAX_ROWS // 2} (rows of a strip)")
    for name in ("min_counts", "min_singles", "max_boxes", "pairs"):
        if getattr(config, name) < 1:
            raise ValueError(f"tasks.{name} is {getattr(config, name)}, must be at least 1")
