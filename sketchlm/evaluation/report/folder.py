"""The folder of an evaluation, read and checked: its record, and the answers of each entry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from sketchlm.evaluation.record import AGAIN, RECORD, AnswerRecord, Entry, Evaluation, answers_file, read_record, why
from sketchlm.evaluation.report.answers import Answers, answers_of

CLOSE = 1e-3
"""How far a figure of the record may be from what its answers give: they may be rounded."""


@dataclass(frozen=True)
class Folder:
    """An evaluation as it lies on disk."""

    path: Path
    evaluation: Evaluation
    answers: dict[str, Answers]
    """By the name of the entry; an entry whose file is not there is left out."""

    def of(self, entry: Entry) -> Answers | None:
        """Its answers; None where there is no file."""
        return self.answers.get(entry.name)


def read_folder(path: str | Path) -> Folder:
    """Raises ValueError, naming the file and the remedy, for what is no evaluation, of another version, or damaged.

    Answers that are not there are no error: a report says which, and shows the rest.
    """
    path = Path(path).expanduser()
    evaluation = read_record(path)
    names = [entry.name for entry in evaluation.entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path / RECORD} has two entries {twice[0]!r}: {AGAIN}")
    found = {}
    for entry in evaluation.entries:
        boxes = [box for example in entry.examples for box in (*example.boxes, *example.true_boxes)]
        if wrong := [box for box in boxes if len(box) not in (4, 5)]:
            raise ValueError(f"{path / RECORD}: an example of {entry.name!r} has a box {wrong[0]}: {AGAIN}")
        file = answers_file(path, entry)
        if file.is_file():
            found[entry.name] = _read_answers(file, entry)
    return Folder(path, evaluation, found)


def _read_answers(path: Path, entry: Entry) -> Answers:
    records = []
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({why(error)}): {AGAIN}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(AnswerRecord.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{path}, line {number}: {where or 'not JSON'}: {first['msg']}: {AGAIN}") from None
    if len(records) != entry.questions:
        raise ValueError(f"{path} has {len(records)} answers, {RECORD} says {entry.questions}: {AGAIN}")
    try:
        answers = answers_of(entry.task, records)
    except ValueError as error:
        raise ValueError(f"{path}: {error}: {AGAIN}") from None
    _agree(path, entry, answers)
    return answers


def _agree(path: Path, entry: Entry, answers: Answers) -> None:
    """The figures of the record are those of the answers, else tables and breakdowns tell two stories."""
    for name, measure in answers.measures.items():
        if name not in entry.figures or not len(answers.rows):
            continue
        value, said = measure(answers.rows), entry.figures[name].value
        if not math.isclose(value, said, abs_tol=CLOSE):
            raise ValueError(f"{path} gives {name} {value:.4f}, {RECORD} says {said:.4f}: {AGAIN}")
