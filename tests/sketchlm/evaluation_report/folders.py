"""Evaluations as they lie on disk, of models that are as good as a test wants them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from data_manifests.schema import Condition, Measured, Protocol, Published, SketchesAsked
from sketchlm.evaluation.measures import RANKED
from sketchlm.evaluation.record import RECORD, AnswerRecord, Entry, Evaluation, Example, ModelFacts, answers_file
from sketchlm.evaluation.report.answers import answers_of
from sketchlm.metrics import box_row, boxes_row, count_row, figures, retrieval_row, vqa_row

ALL: tuple[Measured, ...] = ("sbir", "count", "bbox", "vqa", "boxes", "retrieval", "describe")
CONDITIONS: tuple[Condition, ...] = ("asked", "shuffled", "blank", "text")
CLASSES = ("dog", "cat", "a<b & c|d", "traffic light")
SIDE = 200
"""Of an image, pixels."""
CHANCE = 0.15
"""Skill of a control."""


@dataclass(frozen=True)
class Model:
    """Share of right answers: a model that is as good as that."""

    name: str = "model-a"
    seen: float = 0.9
    unseen: float = 0.85
    control: float = CHANCE
    weak: tuple[Measured, ...] = ()
    """Tasks in which it is hardly ever right."""
    unreadable: float = 0.0
    spurious: float = 0.0
    """Boxes that show nothing true, for each true one."""
    twice: float = 0.0
    """Share of boxes that are said twice."""
    facts: tuple[tuple[str, str | int], ...] = (("connector", "full"), ("stage", "finetune"), ("steps", 1200))
    says: str = "well, <b>who</b> | knows https://example.org/x"
    """What is unreadable."""


def write_evaluation(
    folder: Path,
    model: Model | None = None,
    tasks: Sequence[Measured] = ALL,
    styles: Mapping[str, str] | None = None,
    conditions: Sequence[Condition] = CONDITIONS,
    questions: int = 40,
    protocol: str = "world",
    pictures: int = 1,
    shift: int = 0,
    **fields: Any,
) -> Evaluation:
    """Write a folder and return its record. pictures: examples of each kind; shift: of the first question's number."""
    model = model or Model()
    entries = []
    for task in tasks:
        for sketches, style in (styles or {"hand": "seen", "brush": "unseen"}).items():
            for condition in conditions:
                records = [_answer(model, task, style, condition, n + shift) for n in range(questions)]
                entries.append(_entry(folder, protocol, task, sketches, style, condition, records, pictures))
    evaluation = Evaluation(
        model=ModelFacts(
            name=model.name, path=f"/models/{model.name}", fingerprint="0123456789abcdef", facts=dict(model.facts)
        ),
        recipe="learn",
        created="2026-11-26T10:00:00",
        device="cpu",
        **{"settings": {"seed": 0, "limit": questions, "commit": "abc1234"}, "entries": entries, **fields},
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(evaluation.model_dump_json(indent=1))
    return evaluation


def world_protocol(tasks: Sequence[Measured] = ("bbox",), measures: Sequence[str] = ("Acc", "Acc@0.5")) -> Protocol:
    """A manifest with published rows, for the protocol `world`."""
    values = {name: [0.1 + 0.05 * place for place in range(len(measures))] for name in ("hand", "brush", "quickdraw")}
    better = {name: [0.99 for _ in them] for name, them in values.items()}
    return Protocol(
        name="world",
        title="Detection in a world",
        description="What is measured, & how.",
        tasks=list(tasks),
        source="shapeworld",
        sketches={
            "hand": SketchesAsked(queries=40),
            "brush": SketchesAsked(queries=40, unseen=True),
            "quickdraw": SketchesAsked(queries=299),
        },
        measures=list(measures),
        published=[
            Published(model="Other-7B", origin="A paper, 2025", values=values),
            Published(model="Better <13B>", origin="A paper, 2025", values=better),
        ],
    )


def _entry(
    folder: Path,
    protocol: str,
    task: Measured,
    sketches: str,
    style: str,
    condition: Condition,
    records: list[AnswerRecord],
    pictures: int,
) -> Entry:
    answers = answers_of(task, records)
    found = figures(answers.rows, answers.measures, answers.images, rounds=40)
    plain = Entry(
        protocol=protocol,
        task=task,
        sketches=sketches,
        style=style,  # type: ignore[arg-type]
        condition=condition,
        questions=len(records),
        images=len(set(answers.images)),
        figures={name: figure for name, figure in found.items() if figure.n},
        constant={answers.head: CHANCE} if condition == "asked" and answers.head else {},
        seconds=1.5,
    )
    path = answers_file(folder, plain)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{record.model_dump_json()}\n" for record in records))
    examples = _examples(folder, plain, records, pictures) if condition == "asked" else []
    return plain.model_copy(update={"examples": examples})


def _answer(model: Model, task: Measured, style: str, condition: Condition, number: int) -> AnswerRecord:
    """The same question, whoever answers, and the same dice: a better model has right what a worse one has."""
    dice = random.Random(f"{task} {number} {condition} {style}")
    skill = model.control if condition != "asked" else model.seen if style == "seen" else model.unseen
    is_right = dice.random() < (0.02 if task in model.weak else skill)
    record = MAKERS[task](model, number, is_right, dice)
    image = f"image-{number // 2}"
    key = f"{image}/{task}-{number}/sketch-{number}"
    return record.model_copy(
        update={"key": key, "image": key if task == "retrieval" else image, "category": CLASSES[number % len(CLASSES)]}
    )


def _record(row: Any, **fields: Any) -> AnswerRecord:
    return AnswerRecord(**{"key": "", "image": "", "category": "", "said": "", "row": row._asdict(), **fields})


def _sbir(model: Model, number: int, is_right: bool, dice: random.Random) -> AnswerRecord:
    truth = number % 2
    p_yes = dice.uniform(0.5, 1) if is_right == bool(truth) else dice.uniform(0, 0.499)
    row = {"right": float(is_right), "truth": float(truth), "yes": float(p_yes >= 0.5)}
    return AnswerRecord(key="", image="", category="", said="", truth=truth, found=round(p_yes, 4), row=row)


def _count(model: Model, number: int, is_right: bool, dice: random.Random) -> AnswerRecord:
    truth = number % 8
    if dice.random() < model.unreadable:
        return _record(count_row(-1, truth), said=model.says, truth=truth, reason="no number")
    said = truth if is_right else max(0, truth + dice.choice([-1, 1, 2])) if truth else 1
    return _record(count_row(said, truth), said=str(said), truth=truth, found=said)


def true_boxes(number: int, most: int = 3) -> list[list[float]]:
    """Of image `number`, apart from each other."""
    dice, boxes = random.Random(number), []
    for place in range(1 + number % most):
        x, y, side = 8 + 62 * (place % 3), 8 + 62 * (place // 3), dice.choice([20, 40, 55])
        boxes.append([float(x), float(y), float(x + side), float(y + side)])
    return boxes


def _bbox(model: Model, number: int, is_right: bool, dice: random.Random) -> AnswerRecord:
    truth = true_boxes(number)
    if dice.random() < model.unreadable:
        row = box_row(None, truth, 0)
        return _record(row, said=model.says, truth=truth, reason="no box", size=_size(row))
    found = [v + dice.uniform(-2, 2) for v in truth[0]] if is_right else [150.0, 140.0, 195.0, 190.0]
    row = box_row(found, truth, 0)
    return _record(
        row, said=str([round(v / SIDE, 2) for v in found]), truth=truth, found=[[*found, 0.9]], size=_size(row)
    )


def _size(row: Any) -> str:
    return "S" if row.small else "M" if row.medium else "L"


def _boxes(model: Model, number: int, is_right: bool, dice: random.Random) -> AnswerRecord:
    truth = true_boxes(number, 7)
    found = list(truth) if is_right else truth[:1]
    found += [box for box in truth if dice.random() < model.twice]
    found += [[196.0, 196.0, 199.0, 199.0] for _ in truth if dice.random() < model.spurious]
    scores = [round(0.95 - 0.02 * place, 2) for place in range(len(found))]
    kept = [[*box, score] for box, score in zip(found, scores, strict=True)]
    return _record(boxes_row(found, scores, truth), said=f"{len(found)} boxes", truth=truth, found=kept)


def _vqa(model: Model, number: int, is_right: bool, dice: random.Random) -> AnswerRecord:
    answers = [["red", "blue", "two", "left"][number % 4]]
    said = answers[0] if is_right else "green"
    return _record(vqa_row(said, answers), said=said, truth=answers, found=said)


def _retrieval(model: Model, number: int, is_right: bool, dice: random.Random) -> AnswerRecord:
    grades = [1, 1, 1] + [0] * 17
    scores = [dice.uniform(0.6, 1) if is_right == bool(grade) else dice.uniform(0, 0.59) for grade in grades]
    order = sorted(range(20), key=lambda place: -scores[place])[:10]
    found = [[f"image-{place}", scores[place], grades[place]] for place in order]
    row = dict(zip(RANKED, (*retrieval_row(scores, grades), *retrieval_row(scores, grades, 2)), strict=True))
    return AnswerRecord(key="", image="", category="", said="", truth=3, found=found, row=row)


def _describe(model: Model, number: int, is_right: bool, dice: random.Random) -> AnswerRecord:
    row = {"named": float(is_right), "iou": 0.7 * is_right, "half": float(is_right), "unread": 0.0}
    return AnswerRecord(key="", image="", category="", said="a dog", truth=true_boxes(number), found=None, row=row)


MAKERS: dict[Measured, Callable[[Model, int, bool, random.Random], AnswerRecord]] = {
    "sbir": _sbir,
    "count": _count,
    "bbox": _bbox,
    "boxes": _boxes,
    "vqa": _vqa,
    "retrieval": _retrieval,
    "describe": _describe,
}


def _examples(folder: Path, entry: Entry, records: Sequence[AnswerRecord], number: int) -> list[Example]:
    place = f"examples/{entry.name}"
    (folder / place).mkdir(parents=True, exist_ok=True)
    order = sorted(range(len(records)), key=lambda n: -_score(entry.task, records[n]))
    kinds = {"best": order[:number], "worst": order[::-1][:number], "random": order[number : 2 * number]}
    return [_example(folder, place, entry.task, kind, n, records[n]) for kind, places in kinds.items() for n in places]


def _score(task: Measured, record: AnswerRecord) -> float:
    if task == "sbir":
        return record.found if record.truth else 1 - record.found
    names: dict[str, str] = {"bbox": "iou", "count": "exact", "vqa": "exact", "retrieval": "average_precision"}
    if task == "boxes":
        return record.row["hits"] / record.row["half_all"]
    return record.row[names.get(task, "named")]


def _example(folder: Path, place: str, task: Measured, kind: Any, number: int, record: AnswerRecord) -> Example:
    sketch, image = f"{place}/{number}-sketch.png", f"{place}/{number}.jpg"
    draw_sketch(number).save(folder / sketch)
    draw_image(number).save(folder / image, quality=80)
    boxed = task in ("bbox", "boxes")
    gallery = []
    for rank, (_, yes, grade) in enumerate(record.found if task == "retrieval" else []):
        draw_image(number + rank).resize((64, 64)).save(folder / f"{place}/{number}-{rank}.jpg")
        gallery.append((f"{place}/{number}-{rank}.jpg", yes, grade > 0))
    return Example(
        kind=kind,
        key=record.key,
        question=f"{task.upper()}: Is what the sketch shows in the image?",
        said=record.said or ("yes" if task == "sbir" and record.found >= 0.5 else "no"),
        truth="" if boxed or gallery else str(record.truth),
        score=_score(task, record),
        category=record.category,
        sketch=sketch,
        image="" if gallery else image,
        boxes=[[v / SIDE for v in box[:4]] + box[4:] for box in record.found or []] if boxed else [],
        true_boxes=[[v / SIDE for v in box] for box in record.truth] if boxed else [],
        gallery=gallery,
    )


def draw_sketch(number: int) -> Image.Image:
    """A few strokes."""
    picture = Image.new("L", (128, 128), 255)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((20, 30, 108, 100), outline=0, width=3)
    draw.line((20 + number % 40, 30, 60, 10), fill=0, width=3)
    return picture


def draw_image(number: int) -> Image.Image:
    """The true boxes as shapes on a coloured ground."""
    picture = Image.new("RGB", (SIDE, SIDE), (90 + number * 7 % 100, 120, 150 - number * 5 % 90))
    draw = ImageDraw.Draw(picture)
    for place, box in enumerate(true_boxes(number, 7)):
        draw.ellipse(box, fill=(220, 60 * place % 255, 90))
    return picture
