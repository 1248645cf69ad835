"""Tasks as a report shows them, and which of their figures say most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from data_manifests.schema import Measured
from sketchlm.evaluation.measures import OWN

LOWER: Final = frozenset(
    {"MAE", "unreadable", "tied", "excluded", "duplicates", "hallucinated", "loose"}
    | {"duplicates, suppressed", "hallucinated, suppressed", "loose, suppressed"}
)
"""Measures of which less is better."""
NEITHER: Final = frozenset({"said yes"})
"""Measures of which neither more nor less is better."""
NO_SHARES: Final = frozenset({"MAE"})
"""Measures that are no shares from 0 to 1."""


SUPPRESSED: Final = ", suppressed"
SUPPRESSING: Final = "after non-maximum suppression"
MEANINGS: Final = {
    "Acc": "mean share of the IoU limits 0.5, 0.55, ... 0.95 that the box reaches, as COCO's AP has them",
    "Acc@0.5": "box with an IoU of 0.5 or more with a true one",
    "Acc-S": "Acc of true boxes below 32 x 32 pixels",
    "Acc-M": "Acc of true boxes from 32 x 32 to 96 x 96 pixels",
    "Acc-L": "Acc of true boxes above 96 x 96 pixels",
    "mean IoU": "overlap with the true box that fits best",
    "unreadable": "answers without a number or box",
    "no box": "answers without a box",
    "class named": "answers that name the class",
    "precision": "boxes found that are true",
    "recall": "true boxes that are found",
    "F1": "precision and recall in one: their harmonic mean",
    "duplicates": "boxes found whose object a better box has taken",
    "hallucinated": "boxes found that show nothing true (IoU below 0.1)",
    "loose": "boxes found that meet something true and miss it (IoU from 0.1 to below 0.5)",
    "exact": "right answers",
    "exact, present": "right answers where there is at least one",
    "within 1": "counts that are off by one at most",
    "MAE": "how far counts are off, on average; less is better",
    "VQAv2 accuracy": "agreement with ten people's answers, as VQAv2 has it",
    "balanced accuracy": "mean of the right answers where yes is true and where no is: guessing reaches half",
    "accuracy": "right answers",
    "said yes": "answers that say yes, right or wrong",
    "mAP": "mean average precision: 100 where all relevant images come first",
    "mAP@200": "mAP of the first 200 images",
    "tied": "relevant images whose score an irrelevant one has too; they rank behind it",
    "excluded": "sketches whose gallery holds nothing relevant; no part of the other figures",
}
"""What a measure says."""
OF_FIRST: Final = {
    "hit": "sketches with a relevant image among the first {}",
    "precision": "share of relevant images among the first {}",
}
"""The same of those that look at so many images of a ranking, `hit@5` say."""


def meaning(measure: str, task: Measured) -> str:
    """What it says, in few words; "" of one that only other releases know."""
    if measure.startswith(OWN):
        return f"{meaning(measure.removeprefix(OWN), task)}; {_own(task)}"
    if measure.endswith(SUPPRESSED):
        return f"{meaning(measure.removesuffix(SUPPRESSED), task)}; {SUPPRESSING}"
    name, _, first = measure.partition("@")
    return OF_FIRST[name].format(first) if first and name in OF_FIRST else MEANINGS.get(measure, "")


def glossary(measures: Iterable[str], task: Measured) -> list[tuple[str, str]]:
    """What all of these say, what several have in common once."""
    found: dict[str, str] = {}
    extra: dict[str, str] = {}
    for measure in measures:
        if measure.startswith(OWN):
            extra["own"] = _own(task)
        if measure.endswith(SUPPRESSED):
            extra["suppressed"] = SUPPRESSING
        plain = measure.removeprefix(OWN).removesuffix(SUPPRESSED)
        name, _, first = plain.partition("@")
        plain = f"{name}@k" if first and name in OF_FIRST else plain
        found[plain] = meaning(plain, task)
    return [(name, said) for name, said in (found | extra).items() if said]


def _own(task: Measured) -> str:
    return f"only the very {'image' if task == 'retrieval' else 'object'} that the sketch was made of counts"


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
