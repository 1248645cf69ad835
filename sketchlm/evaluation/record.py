"""What an evaluation leaves on disk, so that reports, comparisons and later runs need neither model nor shards.

    evaluation.json              an `Evaluation`: the model, and figures of every entry; written anew after each entry
    answers/ENTRY.jsonl          an `AnswerRecord` a line: every question of the entry, what was said, its scores
    examples/ENTRY/*.jpg, *.png  pictures that `Example`s name, small
    report.md, report.html       made of the above alone (sketchlm.evaluation.report)

An **entry** is one protocol and task, asked with the sketches of one source, under one condition.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from data_manifests.schema import Condition, Measured, Protocol
from sketchlm.metrics import Figure

VERSION: Final = 1
RECORD: Final = "evaluation.json"
ANSWERS: Final = "answers"
EXAMPLES: Final = "examples"
AGAIN: Final = "remove it and run the same evaluation again: what is missing is asked anew"


Style = Literal["seen", "unseen", ""]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelFacts(_Record):
    """Which model answered."""

    name: str
    """As the user named it, shortened to what tells it from others."""
    path: str
    """Folder or hub id."""
    fingerprint: str
    """sha256 of its weights and prompt, the first 16 digits."""
    facts: dict[str, str | int | float] = {}
    """Stage, base, recipe, steps, connector, parameters: what is known, for readers and for the failure signatures."""


class Example(_Record):
    """One question as pictures; paths are relative to the folder of the record."""

    kind: Literal["best", "worst", "random"]
    key: str = ""
    """Of its answer (`AnswerRecord.key`), by which another model's is found; "" in records from before it was kept."""
    question: str
    said: str
    truth: str
    """The right answer in words; "" where boxes or the gallery tell it."""
    score: float
    """Of this answer, 0 to 1: 1 is right."""
    category: str
    sketch: str = ""
    """Picture; "" where there was none."""
    image: str = ""
    """Picture; "" for retrieval."""
    boxes: list[list[float]] = []
    """Found, xyxy as shares of the picture, a score as fifth number."""
    true_boxes: list[list[float]] = []
    """xyxy as shares of the picture."""
    gallery: list[tuple[str, float, bool]] = []
    """Of retrieval: picture, p(yes), and whether it is relevant; best first."""


class Entry(_Record):
    """Figures of one protocol and task, for the sketches of one source, under one condition."""

    protocol: str
    task: Measured
    sketches: str
    """Where the sketches come from: name of a bank; "" where there are none."""
    style: Style
    """Whether training is to see this way of drawing, as the protocol says; "" where there is no sketch."""
    condition: Condition
    questions: int
    images: int
    figures: dict[str, Figure]
    """By name of the measure (sketchlm.metrics); those that no question enters are left out."""
    constant: dict[str, float] = {}
    """What the best answer that is always the same reaches, where that is known."""
    seconds: float = 0.0
    """Of the asking; 0 = not known, of a run that was killed after the answers and before the record."""
    examples: list[Example] = []

    @property
    def name(self) -> str:
        """Unique in its evaluation, and the stem of its files."""
        parts = (self.protocol, self.task, self.sketches or "none", self.condition)
        return "--".join(parts)


class Missing(_Record):
    """A protocol, or the sketches of one source in it, whose data are not here."""

    protocol: str
    sketches: str
    what: str
    """What is missing where, and what to do about it."""
    folders: dict[str, str] = {}
    """Those that the data folder lacks, each with the way to get it; {} in records from before it was kept."""


class Evaluation(_Record):
    """`evaluation.json`."""

    version: Literal[1] = VERSION
    model: ModelFacts
    recipe: str
    created: str
    """Date and time, ISO."""
    device: str
    settings: dict[str, Any]
    """What decides the figures: seed, limits, protocols; a run into the same folder with others is refused."""
    entries: list[Entry]
    missing: list[Missing] = []
    protocols: list[Protocol] = []
    """Manifests of what was asked."""


class AnswerRecord(_Record):
    """One answered question; one line of `answers/ENTRY.jsonl`."""

    key: str
    """Of the question, the same in every evaluation that asks it: image id / query id / sketch id."""
    image: str
    """Id of the image, over which intervals are drawn; of the query's sketch for retrieval."""
    category: str
    said: str
    """As the model said it; "" for retrieval."""
    truth: Any
    """count: the number; sbir: 0 or 1; bbox, boxes: xyxy pixels; vqa: answers; retrieval: number of relevant images."""
    found: Any = None
    """What was read in it: a number, p(yes), boxes of five numbers (the last is the score), the first images of the
    ranking as [image id, p(yes), grade]; null where nothing can be read."""
    reason: str = ""
    """Why nothing was read."""
    size: Literal["S", "M", "L", ""] = ""
    """Of the true box (COCO's sizes), where one is known."""
    row: dict[str, float]
    """Scores by the fields of the task's row (CountRow, BoxRow, ...)."""


def answers_file(folder: str | Path, entry: Entry) -> Path:
    """Where the answers of an entry lie."""
    return Path(folder) / ANSWERS / f"{entry.name}.jsonl"


def read_record(folder: str | Path) -> Evaluation:
    """The record of a folder. Raises ValueError, with the remedy, where there is none that can be read, and for one of
    another version."""
    path = Path(folder) / RECORD
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({why(error)}): give the folder that an evaluation wrote") from None
    try:
        return Evaluation.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        if first["loc"] == ("version",):
            raise ValueError(
                f"{path} is of version {first['input']!r:.20}, this release reads {VERSION}: evaluate again into a new "
                "folder, or use the release that wrote it"
            ) from None
        raise ValueError(f"{path}: {where}: {first['msg']}: {AGAIN}") from None


def write_record(folder: str | Path, record: Evaluation) -> None:
    """Write the record in one step."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_text(Path(folder) / RECORD, f"{text}\n")


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    begun = path.with_name(f".tmp-{path.name}")
    begun.write_text(text, "utf-8")
    os.replace(begun, path)


def why(error: Exception) -> str:
    """What went wrong with a file, in few words."""
    return getattr(error, "strerror", "") or type(error).__name__
