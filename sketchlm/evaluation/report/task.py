"""Tasks as a report shows them, and which of their figures say most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from data_manifests.schema import Measured

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
    head: tuple[str, ...]
    """Measures that say most, of which the first that there is counts."""
    columns: tuple[str, ...]
    """Measures of a table whose protocol names none."""
    reads: bool = False
    """Whether something is read in what the model said, so that an answer can be unreadable."""


TASKS: Final[dict[Measured, Task]] = {
    "sbir": Task(
        title="Is it in the image?",
        short="SBIR",
        head=("balanced accuracy",),
        columns=("balanced accuracy", "accuracy"),
    ),
    "count": Task(
        title="Counting",
        short="COUNT",
        head=("exact",),
        columns=("exact", "exact, present", "within 1", "MAE", "unreadable"),
        reads=True,
    ),
    "bbox": Task(
        title="Detection, one box",
        short="BBOX",
        head=("Acc@0.5", "own Acc@0.5"),
        columns=("Acc", "Acc@0.5", "Acc-S", "Acc-M", "Acc-L", "own Acc", "own Acc@0.5"),
        reads=True,
    ),
    "boxes": Task(
        title="Detection, every instance",
        short="BOXES",
        head=("F1, suppressed",),
        columns=("F1, suppressed", "recall, suppressed", "recall", "duplicates", "duplicates, suppressed"),
        reads=True,
    ),
    "vqa": Task(
        title="Questions",
        short="VQA",
        head=("VQAv2 accuracy", "exact"),
        columns=("VQAv2 accuracy", "exact"),
    ),
    "retrieval": Task(
        title="A gallery ranked",
        short="SBIR gallery",
        head=("precision@1",),
        columns=("precision@1", "precision@5", "precision@10", "hit@10", "mAP", "own hit@1", "own hit@10"),
    ),
    "describe": Task(
        title="Descriptions",
        short="DESCRIBE",
        head=("class named",),
        columns=("class named", "Acc@0.5", "mean IoU", "no box"),
    ),
}
