"""Answers as rows of scores: what figures, parts of them and differences are worked out from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from data_manifests.schema import Measured
from sketchlm.evaluation.record import AnswerRecord
from sketchlm.metrics import (
    BOX,
    BOXES,
    COUNTING,
    RETRIEVAL,
    VQA,
    BoxesRow,
    BoxRow,
    CountRow,
    Figure,
    Measure,
    RetrievalRow,
    Values,
    VqaRow,
    average,
    balanced_accuracy,
    differences,
    figures,
)

SURE: Final = 0.5
"""p(yes) from which an answer counts as yes."""
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
        short="SBIR, gallery",
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


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of one task, of one entry or of several, with a row of scores each."""

    task: Measured
    records: tuple[AnswerRecord, ...]
    rows: Values
    """[n, k], by the task's fields."""

    @property
    def images(self) -> list[str]:
        """The image of each, over which intervals are drawn."""
        return [record.image for record in self.records]

    @property
    def measures(self) -> Mapping[str, Measure]:
        """By name."""
        return TASKS[self.task].measures

    @property
    def head(self) -> str:
        """The measure that says most of those that a question enters; "" where none does."""
        names = TASKS[self.task].head
        entered = (name for name in names if len(self.rows) and self.measures[name].terms(self.rows).any())
        return next(entered, "")

    def figure(self, name: str) -> Figure:
        """A measure with its interval."""
        return figures(self.rows, {"": self.measures[name]}, self.images)[""]

    def at(self, places: Sequence[int]) -> Answers:
        """Those at these places, in that order."""
        records = tuple(self.records[place] for place in places)
        return replace(self, records=records, rows=self.rows[np.asarray(places, np.int64)])

    def where(self, keep: Callable[[AnswerRecord], bool]) -> Answers:
        """Those that are kept."""
        return self.at([place for place, record in enumerate(self.records) if keep(record)])

    def by(self, name: Callable[[AnswerRecord], str]) -> dict[str, Answers]:
        """Apart by a name, in the order in which names come."""
        places: dict[str, list[int]] = {}
        for place, record in enumerate(self.records):
            places.setdefault(name(record), []).append(place)
        return {group: self.at(them) for group, them in places.items()}


def answers_of(task: Measured, records: Sequence[AnswerRecord]) -> Answers:
    """Raises ValueError, with the place of the record from 0, for one that is none of the task's."""
    rows = np.zeros((len(records), len(TASKS[task].fields)))
    for place, record in enumerate(records):
        try:
            rows[place] = _row(task, record)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"answer {place} ({record.key}) is none of {task}: {_what(error)}") from None
    return Answers(task, tuple(records), rows)


def _row(task: Measured, record: AnswerRecord) -> list[float]:
    if task == "sbir":
        truth, said = yes_or_no(record), p_yes(record)
        is_yes = said is not None and said >= SURE
        return [float(said is not None and is_yes == bool(truth)), float(truth), float(is_yes)]
    if task == "count":
        count_of(record.truth)
    if task == "boxes":
        boxes_of(record.truth)
    if task == "retrieval":
        grades(record)
    return [record.row[name] for name in TASKS[task].fields]


def _what(error: Exception) -> str:
    return f"its row has no {error}" if isinstance(error, KeyError) else str(error)


def yes_or_no(record: AnswerRecord) -> int:
    """The truth of an sbir question. Raises ValueError for what is neither 0 nor 1."""
    if record.truth not in (0, 1):
        raise ValueError(f"truth is {record.truth!r:.80}, must be 0 or 1")
    return int(record.truth)


def p_yes(record: AnswerRecord) -> float | None:
    """Of an sbir answer; None where it was not found. Raises ValueError for what is no probability."""
    if record.found is None:
        return None
    if not isinstance(record.found, int | float) or not 0 <= record.found <= 1:
        raise ValueError(f"found is {record.found!r:.80}, must be p(yes), 0 to 1")
    return float(record.found)


def count_of(value: object) -> int:
    """A count as it was read or is true; -1 where there is none. Raises ValueError for what is no number."""
    if value is None:
        return -1
    if not isinstance(value, int | float) or value != value or abs(value) > 1e9:
        raise ValueError(f"count is {value!r:.80}, must be a number")
    return int(value)


def boxes_of(value: object) -> list[list[float]]:
    """One box, a list of them, or none, as a list. Raises ValueError for what are no boxes."""
    if value is None:
        return []
    listed: list[Any] = value if isinstance(value, list) else [value]
    boxes = [listed] if listed and not isinstance(listed[0], list) else listed
    for box in boxes:
        if not isinstance(box, list) or len(box) not in (4, 5) or not all(isinstance(v, int | float) for v in box):
            raise ValueError(f"box is {box!r:.80}, must be four numbers, or five with its score")
    return boxes


def grades(record: AnswerRecord) -> list[int]:
    """Of the first images of a ranking, 0 = not relevant. Raises ValueError for what is no ranking."""
    found = record.found or []
    try:
        return [int(grade) for _, _, grade in found]
    except (TypeError, ValueError):
        raise ValueError(f"found is {found!r:.80}, must be [image id, p(yes), grade] each") from None


def is_unread(task: Measured, record: AnswerRecord) -> bool:
    """Whether nothing could be read in what was said, though there is something to say."""
    if task == "boxes" and not boxes_of(record.truth):
        return False  # no box is the right answer
    return bool(record.reason) or (TASKS[task].reads and record.found is None)


def joined(parts: Sequence[Answers]) -> Answers:
    """Several of one task as one."""
    records = tuple(record for part in parts for record in part.records)
    return replace(parts[0], records=records, rows=np.concatenate([part.rows for part in parts]))


def gap(mine: Answers, theirs: Answers, name: str) -> Figure:
    """How much higher a measure of mine is, with its interval over images drawn anew.

    Images are drawn for both at once, so questions on the same image stay paired; others need no partner.
    """
    return _of_parts([mine, theirs], name, lambda values: values[..., 0] - values[..., 1])


def mean_of(parts: Sequence[Answers], name: str) -> Figure:
    """The mean of the parts' figures, each of the same weight, as the last column of the paper's table."""
    return _of_parts(parts, name, lambda values: values.mean(-1))


def _of_parts(parts: Sequence[Answers], name: str, value: Callable[[Values], Values]) -> Figure:
    """What `value` [..., parts] -> [...] makes of the figures of all parts."""
    measure = _parted(parts[0].measures[name], len(parts), value)
    places = np.repeat(np.arange(len(parts)), [len(part.records) for part in parts])
    rows = np.column_stack([places, np.concatenate([part.rows for part in parts])])
    return figures(rows, {"": measure}, [image for part in parts for image in part.images])[""]


def _parted(measure: Measure, parts: int, value: Callable[[Values], Values]) -> Measure:
    """Of rows [n, 1 + k], the first column the part that a row belongs to."""

    def terms(rows: Values) -> Values:
        inner = measure.terms(rows[:, 1:])
        return np.concatenate([inner * (rows[:, :1] == part) for part in range(parts)], 1)

    def of(sums: Values) -> Values:
        return value(np.stack([measure.value(block) for block in np.split(sums, parts, -1)], -1))

    return Measure(terms, of)


@dataclass(frozen=True, slots=True)
class Paired:
    """The questions that two models were both asked, in the same order."""

    mine: Answers
    theirs: Answers

    def difference(self, name: str) -> Figure:
        """How much higher a measure of mine is; the interval is that of the difference."""
        measure = {"": self.mine.measures[name]}
        return differences(self.mine.rows, self.theirs.rows, measure, self.mine.images)[""]


def paired(mine: Answers, theirs: Answers) -> Paired:
    """By their keys; keys that a side holds twice are left out, as nobody knows which is meant."""
    places = [_places(side) for side in (mine, theirs)]
    both = [key for key in places[0] if key in places[1]]
    return Paired(mine.at([places[0][key] for key in both]), theirs.at([places[1][key] for key in both]))


def _places(answers: Answers) -> dict[str, int]:
    places: dict[str, int] = {}
    twice = set()
    for place, record in enumerate(answers.records):
        if record.key in places:
            twice.add(record.key)
        places[record.key] = place
    return {key: place for key, place in places.items() if key not in twice}
