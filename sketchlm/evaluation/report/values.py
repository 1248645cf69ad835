"""What an answer holds, checked: its truth, and what was found in it."""

from __future__ import annotations

from typing import Any, Final

from data_manifests.schema import Measured
from sketchlm.evaluation.record import AnswerRecord
from sketchlm.evaluation.report.task import TASKS

SURE: Final = 0.5
"""p(yes) from which an answer counts as yes."""


def check(task: Measured, record: AnswerRecord) -> None:
    """Raises ValueError for a truth, or something found, that is none of the task's."""
    if task == "count":
        count_of(record.truth)
        count_of(record.found)
    if task in ("bbox", "boxes"):
        boxes_of(record.truth)
        boxes_of(record.found)
    if task == "retrieval":
        count_of(record.truth)
        grades(record)


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
