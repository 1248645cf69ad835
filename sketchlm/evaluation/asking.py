"""One entry of an evaluation: its questions asked, its answers written, its figures."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_manifests.schema import Condition, Measured
from sketchlm.answer import Answer, Question, answer, found_boxes
from sketchlm.evaluation.examples import write_examples
from sketchlm.evaluation.measures import FIELDS
from sketchlm.evaluation.questions import (
    BLOCK,
    WHITE,
    Asked,
    Samples,
    collect,
    photo_of,
    shown,
    sketch_of,
    spread,
    under,
    white,
)
from sketchlm.evaluation.record import AnswerRecord, Entry, Style, answers_file, write_text
from sketchlm.evaluation.scoring import Said, by_chance, constants, figures_of, score, score_ranking
from sketchlm.frame import Frame, from_frame
from sketchlm.processor import Processor
from sketchlm.retrieval.scorer import Probe, Scorer, yes_matrix

BOXED: tuple[Measured, ...] = ("bbox", "boxes", "describe")
"""Tasks whose answers hold boxes."""


@dataclass(frozen=True)
class EntryPlan:
    """Which questions an entry asks, and how."""

    protocol: str
    task: Measured
    sketches: str
    """See `Entry`."""
    style: Style
    condition: Condition = "asked"
    number: int = 0
    """Questions; 0 = all that can be asked."""
    classes: frozenset[str] = frozenset()
    """Only about these, and in a gallery only images that show one; empty = all."""
    gallery: int = 0
    """Images of a gallery at most; 0 = all."""
    seed: int = 0
    batch: int = 32
    examples: bool = True

    def empty(self) -> Entry:
        """The entry before anything is asked."""
        return Entry(
            protocol=self.protocol,
            task=self.task,
            sketches=self.sketches,
            style=self.style,
            condition=self.condition,
            questions=0,
            images=0,
            figures={},
        )


def questions_of_plan(plan: EntryPlan, samples: Samples) -> list[Asked]:
    """Those that the entry asks, in their order."""
    asked = collect(samples.records, plan.task, plan.classes)
    if plan.task == "retrieval":
        there = {name for _, name, _ in _gallery(plan, samples)}
        asked = [one for one in asked if one.image.id in there]
    return under(spread(asked, plan.number, plan.seed), plan.condition, plan.seed)


def evaluate_entry(
    folder: Path,
    plan: EntryPlan,
    asked: Sequence[Asked],
    samples: Samples,
    model: Any,
    processor: Processor,
    told: Callable[[int], None] = lambda _: None,
    before: Entry | None = None,
) -> Entry:
    """Ask an entry's questions, unless its answers lie in the folder already, and work out its figures.

    asked: of `questions_of_plan`; told: how many answers came; before: the entry as the record has it, which stands
    where nothing of it was lost. The answers are written when all are there, in one step.
    Raises ShardError for pictures that cannot be read.
    """
    path = answers_file(folder, plan.empty())
    records = read_answers(path, plan.task, [one.key for one in asked])
    if before is not None and records is not None and pictures_are_there(folder, before):
        return before
    seconds = before.seconds if before else 0.0
    if records is None:
        began = time.monotonic()
        records = ask(plan, asked, samples, model, processor, told)
        write_answers(path, records)
        seconds = time.monotonic() - began
    gallery = _gallery(plan, samples) if plan.task == "retrieval" else []
    frame, prompt = processor.config.prompt.frame, processor.config.prompt
    entry = plan.empty()
    examples = (
        write_examples(folder, entry.name, plan.task, asked, records, samples, prompt, plan.seed)
        if plan.examples
        else []
    )
    constant = (
        by_chance([_grades(one, gallery) for one in asked])
        if plan.task == "retrieval"
        else constants(plan.task, asked, frame)
    )
    found = figures_of(plan.task, records)
    return entry.model_copy(
        update={
            "questions": len(asked),
            "images": len(gallery) or len({one.image.id for one in asked}),
            "figures": found,
            "constant": {name: value for name, value in constant.items() if name in found},
            "seconds": round(seconds, 3),
            "examples": examples,
        }
    )


def pictures_are_there(folder: Path, entry: Entry) -> bool:
    """Whether no picture of an entry's examples was removed."""
    places = {
        place for one in entry.examples for place in (one.sketch, one.image, *(found[0] for found in one.gallery))
    }
    return all((folder / place).is_file() for place in places if place)


def ask(
    plan: EntryPlan,
    asked: Sequence[Asked],
    samples: Samples,
    model: Any,
    processor: Processor,
    told: Callable[[int], None] = lambda _: None,
) -> list[AnswerRecord]:
    """The answers to the questions, scored, in their order; pictures are in memory a block at a time, of retrieval all
    of the gallery."""
    if plan.task == "retrieval":
        return _rank(plan, asked, samples, model, processor, told)
    records: list[AnswerRecord] = []
    for start in range(0, len(asked), BLOCK):
        block = asked[start : start + BLOCK]
        said = say(plan.task, model, processor, block, shown(block, samples, processor), plan.batch, told)
        records += [score(plan.task, one, given) for one, given in zip(block, said, strict=True)]
    return records


def say(
    task: Measured,
    model: Any,
    processor: Processor,
    asked: Sequence[Asked],
    questions: Sequence[Question],
    batch: int = 32,
    told: Callable[[int], None] = lambda _: None,
) -> list[Said]:
    """What the model says to questions of one task."""
    found: dict[int, Said] = {}
    for pictures in sorted({len(question.pictures) for question in questions}):
        places = [n for n, question in enumerate(questions) if len(question.pictures) == pictures]
        for start in range(0, len(places), batch):
            group = places[start : start + batch]
            given = answer(model, processor, [questions[n] for n in group], batch)
            for n, one in zip(group, given, strict=True):
                found[n] = Said(one.text, one.yes)
                if task in BOXED:
                    found[n] = placed(one, task, asked[n], processor.config.prompt.frame)
            told(len(group))
    return [found[n] for n in range(len(questions))]


def placed(given: Answer, task: Measured, asked: Asked, frame: Frame) -> Said:
    """An answer as the boxes that it names, of `bbox` the first alone; what lies beside the image is left out."""
    size = (asked.image.width, asked.image.height)
    named = found_boxes(given)
    found = [(from_frame(one.box, size, frame), one.score) for one in (named[:1] if task == "bbox" else named)]
    kept = [(box, score) for box, score in found if box[0] < box[2] and box[1] < box[3]]
    return Said(given.text, boxes=[box for box, _ in kept], scores=[score for _, score in kept])


def _rank(
    plan: EntryPlan,
    asked: Sequence[Asked],
    samples: Samples,
    model: Any,
    processor: Processor,
    told: Callable[[int], None],
) -> list[AnswerRecord]:
    """A gallery of all images ranked for each question; told counts pairs."""
    gallery = _gallery(plan, samples)
    photos = np.stack([photo_of(samples.read(n), processor).pixels for n, _, _ in gallery])
    probes = [_probe(one, samples, processor) for one in asked]
    yes = yes_matrix(Scorer(model, processor), probes, photos, told)
    names = [name for _, name, _ in gallery]
    return [score_ranking(one, row.tolist(), names, _grades(one, gallery)) for one, row in zip(asked, yes, strict=True)]


def _probe(asked: Asked, samples: Samples, processor: Processor) -> Probe:
    if asked.shown is None:
        return asked.query.category
    if asked.shown == WHITE:
        return white(processor).pixels
    return sketch_of(samples.read(asked.shown.sample), asked.shown.row, processor).pixels


Gallery = list[tuple[int, str, frozenset[str]]]
"""Place among the samples, id and classes of each image."""


def _gallery(plan: EntryPlan, samples: Samples) -> Gallery:
    """The distinct images, in their order; of more than `plan.gallery` as many, drawn."""
    found: dict[str, tuple[int, str, frozenset[str]]] = {}
    for place, record in enumerate(samples.records):
        there = frozenset(thing.category for thing in record.objects)
        if not plan.classes or there & plan.classes:
            found.setdefault(record.image.id, (place, record.image.id, there))
    gallery = list(found.values())
    if not 0 < plan.gallery < len(gallery):
        return gallery
    return sorted(random.Random(plan.seed).sample(gallery, plan.gallery), key=lambda one: one[0])


def _grades(asked: Asked, gallery: Gallery) -> list[int]:
    own = asked.image.id if asked.made_of else ""
    return [2 if name == own else int(asked.query.category in there) for _, name, there in gallery]


def gallery_size(plan: EntryPlan, samples: Samples) -> int:
    """Images that each sketch is compared with; 1 where nothing is ranked: answers of an entry = questions x this."""
    return len(_gallery(plan, samples)) if plan.task == "retrieval" else 1


def read_answers(path: Path, task: Measured, keys: Sequence[str]) -> list[AnswerRecord] | None:
    """The answers to these questions, in their order; None where the file is not there, or is not whole."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # answers may hold other ends of lines
        records = [AnswerRecord.model_validate_json(line) for line in lines if line]
    except (OSError, ValueError):  # pydantic's own are ValueErrors
        return None
    whole = all(tuple(record.row) == FIELDS[task] for record in records)
    return records if whole and [record.key for record in records] == list(keys) else None


def write_answers(path: Path, records: Sequence[AnswerRecord]) -> None:
    """Write the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(f"{record.model_dump_json()}\n" for record in records))
