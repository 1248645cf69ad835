"""Answers as rows of scores: what figures, parts of them and differences are worked out from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_manifests.schema import Measured
from sketchlm.evaluation.measures import FIELDS, MEASURES
from sketchlm.evaluation.record import AnswerRecord
from sketchlm.evaluation.report.task import TASKS
from sketchlm.evaluation.report.values import SURE, check, p_yes, yes_or_no
from sketchlm.metrics import Figure, Measure, Values, differences, figures


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
        return MEASURES[self.task]

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
    rows = np.zeros((len(records), len(FIELDS[task])))
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
    check(task, record)
    return [record.row[name] for name in FIELDS[task]]


def _what(error: Exception) -> str:
    return f"its row has no {error}" if isinstance(error, KeyError) else str(error)


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

    def differences(self) -> dict[str, Figure]:
        """How much higher each measure of mine is, with the interval of the difference."""
        return differences(self.mine.rows, self.theirs.rows, self.mine.measures, self.mine.images)


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
