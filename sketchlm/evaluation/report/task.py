"""Tasks as a report shows them: the scores of a row, its measures, and which of them say most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from data_manifests.schema import Measured
from sketchlm.metrics import (
    BOX,
    BOXES,
    COUNTING,
    RETRIEVAL,
    VQA,
    BoxesRow,
    BoxRow,
    CountRow,
    Measure,
    RetrievalRow,
    VqaRow,
    average,
    balanced_accuracy,
)

LOWER: Final = frozenset(
    {"MAE", "unreadable", "tied", "excluded", "duplicates", "hallucinated"}
    | {"duplicates, suppressed", "hallucinated, suppressed"}
)
"""Measures of which less is better."""
NEITHER: Final = frozenset({"said yes"})
"""Measures of which neither more nor less is better."""
NO_SHARES: Final = frozenset({"MAE"})
"""Measures that are no shares from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as a report shows it."""

    title: str
    short: str
    """For a big number."""
    fields: tuple[str, ...]
    """Of a row."""
    measures: Mapping[str, Measure]
    head: tuple[str, ...]
    """Measures that say most, of which the first that there is counts."""
    columns: tuple[str, ...]
    """Measures of a table whose protocol names none."""
    reads: bool = False
    """Whether something is read in what the model said, so that an answer can be unreadable."""


SBIR_FIELDS: Final = ("right", "truth", "yes")
DESCRIBE_FIELDS: Final = ("named", "iou", "half", "unread")
TASKS: Final[dict[Measured, Task]] = {
    "sbir": Task(
        title="Is it in the image?",
        short="SBIR",
        fields=SBIR_FIELDS,
        measures={
            "balanced accuracy": balanced_accuracy,  # it reads the first two columns
            "accuracy": average(SBIR_FIELDS, "right"),
            "said yes": average(SBIR_FIELDS, "yes"),
        },
        head=("balanced accuracy",),
        columns=("balanced accuracy", "accuracy"),
    ),
    "count": Task(
        title="Counting",
        short="COUNT",
        fields=CountRow._fields,
        measures=COUNTING,
        head=("exact",),
        columns=("exact", "exact, present", "within 1", "MAE", "unreadable"),
        reads=True,
    ),
    "bbox": Task(
        title="Detection, one box",
        short="BBOX",
        fields=BoxRow._fields,
        measures=BOX,
        head=("Acc@0.5", "own Acc@0.5"),
        columns=("Acc", "Acc@0.5", "Acc-S", "Acc-M", "Acc-L"),
        reads=True,
    ),
    "boxes": Task(
        title="Detection, every instance",
        short="BOXES",
        fields=BoxesRow._fields,
        measures=BOXES,
        head=("F1",),
        columns=("precision", "recall", "F1", "duplicates", "hallucinated"),
        reads=True,
    ),
    "vqa": Task(
        title="Questions",
        short="VQA",
        fields=VqaRow._fields,
        measures=VQA,
        head=("VQAv2 accuracy", "exact"),
        columns=("VQAv2 accuracy", "exact"),
    ),
    "retrieval": Task(
        title="A gallery ranked",
        short="SBIR gallery",
        fields=RetrievalRow._fields,
        measures=RETRIEVAL,
        head=("precision@1",),
        columns=("precision@1", "precision@5", "precision@10", "hit@10", "mAP"),
    ),
    "describe": Task(
        title="Descriptions",
        short="DESCRIBE",
        fields=DESCRIBE_FIELDS,
        measures={
            "class named": average(DESCRIBE_FIELDS, "named"),
            "Acc@0.5": average(DESCRIBE_FIELDS, "half"),
            "mean IoU": average(DESCRIBE_FIELDS, "iou"),
            "no box": average(DESCRIBE_FIELDS, "unread"),
        },
        head=("class named",),
        columns=("class named", "Acc@0.5", "mean IoU", "no box"),
    ),
}
