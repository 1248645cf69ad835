"""Exams: questions that every arm answers, and what becomes of the answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from data_manifests.schema import Condition, Measured
from pipelines.gaps import Sketch
from sketchlm.answer import Question
from sketchlm.bundle import Bundle
from sketchlm.evaluation.asking import EntryPlan, ask, questions_of_plan, say
from sketchlm.evaluation.measures import FIELDS, MEASURES
from sketchlm.evaluation.questions import BLOCK, Asked, Samples, shown, spread, under
from sketchlm.evaluation.record import AnswerRecord
from sketchlm.evaluation.scoring import constants, score
from sketchlm.metrics import Measure, mean
from sketchlm.processor import Picture, Processor

COARSE = "coarse"
"""Beside the tasks: how much of what the model ranks first a coarse search keeps."""
FIGURES: dict[str, str] = {
    "sbir": "balanced accuracy",
    "count": "exact, present",
    "bbox": "Acc@0.5",
    "vqa": "exact",
    "boxes": "F1, suppressed",
    "retrieval": "mAP",
    COARSE: "first 10 kept",
}
"""The figure of each task that experiments look at, unless they say otherwise."""
CONTROLS: tuple[Condition, ...] = ("asked", "shuffled", "blank")
Keep = partial[bool] | None
"""Whether an Asked is kept; None = all are."""
Place = tuple[str, str]
"""Task and condition of answers."""
COARSE_MEASURES = {"first 10 kept": mean}


class Drawings(NamedTuple):
    """Sketches, none twice, those of a class together, and what each shows."""

    images: list[Sketch]
    categories: list[str]


class Answers(NamedTuple):
    """Scores of the answers to one task under one condition: rows [n, k] as `measures.FIELDS` has them, and the image
    of each, or what else is drawn anew by the bootstrap."""

    task: str
    rows: list[list[float]]
    images: list[str]


def measure_of(task: str, figure: str) -> Measure:
    """The measure of a figure of a task."""
    return COARSE_MEASURES[figure] if task == COARSE else MEASURES[task][figure]  # type: ignore[index]


VERSION = 1
"""To be raised when the code asks something else of the same facts: older answers are not used then."""


@dataclass(frozen=True)
class Exam:
    """answers: of a bundle and its processor, by task and condition; facts: all that decides what is asked, so that
    answers to something else are not taken for these; constant: what the best answer that is always the same would
    reach, by task."""

    name: str
    answers: Callable[[Bundle, Processor], dict[Place, Answers]]
    facts: Mapping[str, Any]
    constant: Callable[[], dict[str, float]] = field(default=dict)
    drawings: Callable[[], Drawings] | None = None
    """Those that it shows of itself, where they are not those of its shards."""

    def shown(self) -> Drawings:
        """Its own drawings. Raises TypeError where it has none."""
        if self.drawings is None:
            raise TypeError(f"{self.name} shows the drawings of its shards")
        return self.drawings()

    @property
    def fingerprint(self) -> str:
        """Of the facts."""
        told = json.dumps([VERSION, self.name, self.facts], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:12]


def facts_of(shards: str, **asked: Any) -> dict[str, Any]:
    """The facts of an exam on a folder of shards."""
    settings = (Path(shards) / "settings.json").read_bytes()
    return {"shards": hashlib.sha256(settings).hexdigest()[:12], **asked}


def exam_of(
    name: str,
    shards: str,
    tasks: Sequence[Measured] = ("sbir", "count", "bbox", "vqa"),
    number: int = 500,
    conditions: Sequence[Condition] = CONTROLS,
    keep: Keep = None,
) -> Exam:
    """The questions that lie in a folder of shards, as they are asked there, and its controls. keep: which of them, a
    function of an Asked; its other arguments identify it."""
    plans = {
        (task, how): EntryPlan(name, task, "", "seen", how, number, examples=False)
        for task in tasks
        for how in conditions
    }

    def answers(bundle: Bundle, processor: Processor) -> dict[Place, Answers]:
        samples = Samples(shards)
        return {
            place: answers_of(plan.task, ask(plan, _kept(plan, samples, keep), samples, bundle.model, processor))
            for place, plan in plans.items()
        }

    facts = facts_of(shards, tasks=list(tasks), number=number, conditions=list(conditions))
    facts |= {"kept": dict(keep.keywords)} if keep else {}
    return Exam(name, answers, facts, partial(_constants, shards, tasks, number, keep))


def drawn_exam(
    name: str,
    shards: str,
    sketch_of: Callable[[Asked], Sketch],
    tasks: Sequence[Measured] = ("sbir", "bbox"),
    number: int = 500,
    classes: frozenset[str] = frozenset(),
    drawings: Any = "",
    by_class: bool = False,
) -> Exam:
    """The questions of a folder of shards with other sketches.

    sketch_of: the sketch for a question; classes: only questions about these, empty = all; drawings: what
    identifies the sketches, where the exam's name does not; by_class: so few drawings a class that intervals are of
    classes drawn anew, and not of images.
    """

    def chosen(task: Measured, samples: Samples) -> list[Asked]:
        return questions_of_plan(EntryPlan(name, task, "", "", "asked", number, classes), samples)

    def shown_drawings() -> Drawings:
        found: dict[bytes, tuple[str, Sketch]] = {}
        for one in chosen(tasks[0], Samples(shards)):
            sketch = sketch_of(one)
            found.setdefault(sketch.tobytes(), (one.query.category, sketch))
        there = sorted(found.values(), key=lambda drawn: drawn[0])
        return Drawings([sketch for _, sketch in there], [category for category, _ in there])

    def answers(bundle: Bundle, processor: Processor) -> dict[Place, Answers]:
        samples = Samples(shards)
        found: dict[Place, Answers] = {}
        for task in tasks:
            asked = chosen(task, samples)

            def drawn(one: Asked, question: Question) -> Question:
                sketch = Picture(processor.sketch_pixels(sketch_of(one)))
                return replace(question, pictures=(sketch, question.pictures[-1]))

            given = answers_of(task, records_of(task, asked, drawn, samples, bundle.model, processor))
            classed = [one.query.category for one in asked]
            found[task, "asked"] = given._replace(images=classed) if by_class else given
        return found

    facts = facts_of(shards, tasks=list(tasks), number=number, classes=sorted(classes), drawings=drawings)
    facts |= {"by_class": True} if by_class else {}
    return Exam(name, answers, facts, drawings=shown_drawings)


def _kept(plan: EntryPlan, samples: Samples, keep: Keep) -> list[Asked]:
    everything = questions_of_plan(replace(plan, number=0, condition="asked"), samples)
    chosen = spread([one for one in everything if keep is None or keep(one)], plan.number, plan.seed)
    return under(chosen, plan.condition, plan.seed)


def records_of(
    task: Measured,
    asked: Sequence[Asked],
    change: Callable[[Asked, Question], Question],
    samples: Samples,
    model: Any,
    processor: Processor,
) -> list[AnswerRecord]:
    """The answers to questions that are changed before they are asked, scored."""
    records: list[AnswerRecord] = []
    for start in range(0, len(asked), BLOCK):
        block = asked[start : start + BLOCK]
        pairs = zip(block, shown(block, samples, processor), strict=True)
        said = say(task, model, processor, block, [change(one, question) for one, question in pairs])
        records += [score(task, one, given) for one, given in zip(block, said, strict=True)]
    return records


def answers_of(task: Measured, records: Sequence[AnswerRecord]) -> Answers:
    """Their scores."""
    rows = [[record.row[name] for name in FIELDS[task]] for record in records]
    return Answers(task, rows, [record.image for record in records])


def _constants(shards: str, tasks: Sequence[Measured], number: int, keep: Keep) -> dict[str, float]:
    told = [task for task in tasks if task != "boxes"]  # nobody always says the same boxes
    samples = Samples(shards) if told else None
    found: dict[str, float] = {}
    for task in told:
        assert samples is not None
        reached = constants(task, _kept(EntryPlan("", task, "", "", "asked", number), samples, keep), "padded")
        found |= {task: reached[FIGURES[task]]} if FIGURES.get(task, "") in reached else {}
    return found
