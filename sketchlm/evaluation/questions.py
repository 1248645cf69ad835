"""Evaluation: every question of a folder of shards answered and scored, beside controls."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from data_manifests.schema import Query, Sample
from sketchlm.answer import Answer, Question, answer, read_boxes, read_count
from sketchlm.frame import to_frame
from sketchlm.metrics import Figure, Values, balanced_accuracy, bootstrap, iou, mean
from sketchlm.processor import Processor
from sketchlm.shards import RawSample

MIN_CHOICES = 4
"""Single-instance classes of an image from which boxes are counted: with fewer, guessing pays."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what is needed to score it."""

    question: Question
    sample: Sample
    choices: int
    """Classes of the image with exactly one instance."""

    @property
    def image(self) -> str:
        """Id of its image: questions on one image are drawn together in intervals."""
        return self.sample.image.id


def collect(samples: Iterable[RawSample], processor: Processor) -> dict[str, list[Asked]]:
    """Questions by task, in the order of the samples; pictures are decoded once a sample."""
    asked: dict[str, list[Asked]] = defaultdict(list)
    for number, raw in enumerate(samples):
        counts = Counter(thing.category for thing in raw.record.objects)
        choices = sum(count == 1 for count in counts.values())
        for item in processor.items(raw, number):
            for branch in item.branches:
                question = Question(item.pictures, branch.query, number)
                asked[branch.task].append(Asked(question, raw.record, choices))
    return dict(asked)


def shuffled(asked: Sequence[Asked], seed: int = 0) -> list[Asked]:
    """The same questions with each other's sketches: what a model reaches that does not look at them."""
    order = list(range(len(asked)))
    random.Random(seed).shuffle(order)
    return [
        replace(one, question=_with_sketch_of(one.question, asked[other].question))
        for one, other in zip(asked, order, strict=True)
    ]


def _with_sketch_of(question: Question, other: Question) -> Question:
    if len(question.pictures) == 1:  # text alone
        return question
    return replace(question, pictures=(other.pictures[0], *question.pictures[1:]))


def score(asked: Asked, given: Answer, processor: Processor) -> dict[str, float]:
    """Figures of one answer, by name; what does not apply is left out."""
    query, size = asked.question.query, (asked.sample.image.width, asked.sample.image.height)
    if query.task == "sbir":
        return {"right": float((given.yes >= 0.5) == (query.match == 1)), "truth": float(query.match), "yes": given.yes}
    if query.task == "count":
        seen = read_count(given.text)
        return {"right": float(seen == query.count), "truth": float(query.count), "off": float(abs(seen - query.count))}
    if query.task == "bbox":
        return _score_box(query, given, size, processor) | {"choices": float(asked.choices)}
    if query.task == "describe":
        named = f" {query.category}" in given.text
        return _score_box(query, given, size, processor) | {"right": float(named)}
    wanted = {text.strip().lower().rstrip(".") for text in query.answers}
    return {"right": float(given.text.strip().lower().rstrip(".") in wanted)}


def _score_box(query: Query, given: Answer, size: tuple[int, int], processor: Processor) -> dict[str, float]:
    frame = processor.config.prompt.frame
    truth = [to_frame(box, size, frame) for box in query.boxes]
    found = read_boxes(given.text)
    best = max((iou(found[0], box) for box in truth), default=0.0) if found else 0.0
    return {"iou": best, "half": float(best >= 0.5)}


def evaluate(
    model: Any, processor: Processor, asked: dict[str, list[Asked]], seen: Callable[[int], None] = lambda _: None
) -> dict[str, list[dict[str, float]]]:
    """Scores of every question by task, in their order; seen: told how many answers came."""
    scores: dict[str, list[dict[str, float]]] = {}
    for task, questions in asked.items():
        rows: list[dict[str, float]] = [{}] * len(questions)
        by_pictures: dict[int, list[int]] = defaultdict(list)
        for place, one in enumerate(questions):
            by_pictures[len(one.question.pictures)].append(place)
        for places in by_pictures.values():
            for start in range(0, len(places), 64):
                group = places[start : start + 64]
                answers = answer(model, processor, [questions[p].question for p in group])
                for place, given in zip(group, answers, strict=True):
                    rows[place] = score(questions[place], given, processor)
                seen(len(group))
        scores[task] = rows
    return scores


@dataclass(frozen=True, slots=True)
class Column:
    """What one figure is computed from."""

    rows: list[list[float]]
    """[n, 1] or, for the balanced accuracy, [n, 2]: right, and the true class."""
    images: list[str]
    """Image of each row: intervals draw images anew."""
    measure: Literal["mean", "balanced accuracy"] = "mean"

    def figure(self) -> Figure:
        """The value with its interval."""
        return bootstrap(self.rows, MEASURES[self.measure], self.images)

    def above(self, other: Column) -> Figure:
        """How much higher it is than another's on the same questions, with the interval of the difference."""
        if self.images != other.images:
            raise ValueError(f"{len(self.images)} and {len(other.images)} answers to different questions")
        measure, width = MEASURES[self.measure], len(self.rows[0]) if self.rows else 0
        both = [mine + theirs for mine, theirs in zip(self.rows, other.rows, strict=True)]
        return bootstrap(both, lambda rows: measure(rows[:, :width]) - measure(rows[:, width:]), self.images)


MEASURES: dict[str, Callable[[Values], float]] = {"mean": mean, "balanced accuracy": balanced_accuracy}


def columns(asked: dict[str, list[Asked]], scores: dict[str, list[dict[str, float]]]) -> dict[str, Column]:
    """The columns of a table: SBIR balanced accuracy, COUNT exact on present classes, BBOX Acc@0.5 where at
    least MIN_CHOICES single-instance classes are there, VQA and describe by exact match and class named."""

    def column(task: str, name: str, keep: Callable[[dict[str, float]], bool] = lambda _: True) -> Column:
        pairs = [([row[name]], one.image) for row, one in zip(scores[task], asked[task], strict=True) if keep(row)]
        return Column([row for row, _ in pairs], [image for _, image in pairs])

    found: dict[str, Column] = {}
    if "sbir" in scores:
        rows = [[row["right"], row["truth"]] for row in scores["sbir"]]
        found["SBIR balanced accuracy"] = Column(rows, [one.image for one in asked["sbir"]], "balanced accuracy")
    if "count" in scores:
        found["COUNT exact, class present"] = column("count", "right", lambda row: row["truth"] > 0)
    if "bbox" in scores:
        found["BBOX Acc@0.5"] = column("bbox", "half", lambda row: row["choices"] >= MIN_CHOICES)
        found["BBOX mean IoU"] = column("bbox", "iou", lambda row: row["choices"] >= MIN_CHOICES)
    if "vqa" in scores:
        found["VQA exact"] = column("vqa", "right")
    if "describe" in scores:
        found["DESCRIBE class named"] = column("describe", "right")
        found["DESCRIBE box Acc@0.5"] = column("describe", "half")
    return found


def constants(asked: dict[str, list[Asked]], processor: Processor) -> dict[str, float]:
    """What the best constant answer reaches on the same questions (for boxes: the mean box)."""
    found: dict[str, float] = {}
    if "sbir" in asked:
        found["SBIR balanced accuracy"] = 0.5
    if counts := [one.question.query.count for one in asked.get("count", []) if one.question.query.count > 0]:
        found["COUNT exact, class present"] = Counter(counts).most_common(1)[0][1] / len(counts)
    frame = processor.config.prompt.frame
    boxes = [
        to_frame(one.question.query.boxes[0], (one.sample.image.width, one.sample.image.height), frame)
        for one in asked.get("bbox", [])
        if one.choices >= MIN_CHOICES
    ]
    if boxes:
        centre = [sum(box[i] for box in boxes) / len(boxes) for i in range(4)]
        overlaps = [iou(centre, box) for box in boxes]
        found["BBOX Acc@0.5"] = sum(value >= 0.5 for value in overlaps) / len(boxes)
        found["BBOX mean IoU"] = sum(overlaps) / len(boxes)
    if texts := [one.question.query.answers[0] for one in asked.get("vqa", [])]:
        found["VQA exact"] = Counter(texts).most_common(1)[0][1] / len(texts)
    return found
