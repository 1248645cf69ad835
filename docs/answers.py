"""Draws docs/answers.png, what the demonstration model says of unseen scenes: `python docs/answers.py [BUNDLE]`.

Takes the scenes as they come, and one sketch of each. Yellow: the box that was found; dotted: the true one.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console

from data_manifests.schema import Measured, Sample
from pipelines import instructions
from sketchlm.answer import Question, read_boxes
from sketchlm.bundle import load_bundle
from sketchlm.evaluation.asking import say
from sketchlm.evaluation.questions import Asked, Samples, questions_of, shown
from sketchlm.evaluation.scoring import score
from sketchlm.frame import to_frame
from sketchlm.loading import processor_of
from sketchlm.processor import Processor
from sketchlm.weights import shipped

TASKS: tuple[Measured, ...] = ("bbox", "count", "vqa", "sbir")
COLUMNS, ROWS = 4, 2
WIDTH, HEIGHT, TOP = 3.2, 2.75, 0.1
"""Of a scene with its sketch and words, inches."""
SKETCH, PHOTO = 1.05, 1.85
RIGHT, WRONG = "#1a7f37", "#cf222e"
FOUND, TRUE = "#ffd33d", "#ffffff"
ASKED: dict[Measured, str] = {"count": "How many?", "sbir": "Is it there?"}


def main() -> None:
    """Ask, and draw."""
    rcParams["font.size"] = 8
    loaded = load_bundle(sys.argv[1] if len(sys.argv) > 1 else shipped("learn"))
    processor = processor_of(loaded, TASKS)
    shards = instructions.ensure("learn_val", Console())
    samples = Samples(shards, COLUMNS * ROWS)
    scenes = [most_asked(record, number) for number, record in enumerate(samples.records)]
    picture = Figure(figsize=(WIDTH * COLUMNS, HEIGHT * ROWS))
    for number, scene in enumerate(scenes):
        row, column = divmod(number, COLUMNS)
        cells = [
            picture.add_axes(
                (
                    (column + left / WIDTH) / COLUMNS,
                    (ROWS - row - (TOP + side) / HEIGHT) / ROWS,
                    side / WIDTH / COLUMNS,
                    side / HEIGHT / ROWS,
                )
            )
            for left, side in ((0.1, SKETCH), (0.2 + SKETCH, PHOTO))
        ]
        draw(scene, samples, loaded.model, processor, *cells)
    picture.savefig(Path(__file__).with_suffix(".png"), dpi=100)


def most_asked(record: Sample, number: int) -> dict[Measured, Asked]:
    """Questions about one sketch of a sample, by task: of those that are asked most, another for another number."""
    rows: dict[int, dict[Measured, Asked]] = {}
    for task in TASKS:
        for one in questions_of(record, number, task):
            rows.setdefault(one.query.row, {}).setdefault(task, one)
    most = max(map(len, rows.values()))
    best = [found for _, found in sorted(rows.items()) if len(found) == most]
    return best[number % len(best)]


def draw(
    scene: dict[Measured, Asked], samples: Samples, model: Any, processor: Processor, left: Any, right: Any
) -> None:
    """The sketch, with what was asked and said below; the scene with the box found and, in white, the true one."""
    questions = dict(zip(scene, shown(list(scene.values()), samples, processor), strict=True))
    first: Question = next(iter(questions.values()))
    for cell, picture in zip((left, right), first.pictures, strict=True):
        cell.imshow(picture.pixels.transpose(1, 2, 0))
    frame, side = processor.config.prompt.frame, processor.side
    below = PHOTO / SKETCH - 1 + 0.06  # below the larger of the two, in sides of the sketch
    for task, one in sorted(scene.items(), key=lambda pair: TASKS.index(pair[0])):
        said = say(task, model, processor, [one], [questions[task]])[0]
        if task == "bbox":
            outline(right, to_frame(one.query.boxes[0], (one.image.width, one.image.height), frame), side, TRUE, ":")
            for found in read_boxes(said.text)[:1]:
                outline(right, found, side, FOUND, "-")
            continue
        row = score(task, one, said).row
        right_answer = row["right" if task == "sbir" else "exact"] > 0
        said_text = ("yes" if said.yes >= 0.5 else "no") if task == "sbir" else said.text
        wrapped = textwrap.fill(f"{one.query.question or ASKED[task]} {said_text}", 46)
        left.text(0, -below, wrapped, transform=left.transAxes, va="top", color=RIGHT if right_answer else WRONG)
        below += 0.15 * (1 + wrapped.count("\n"))
    for cell in (left, right):
        cell.set_xticks([])
        cell.set_yticks([])


def outline(cell: Any, box: tuple[float, ...], side: int, color: str, style: str) -> None:
    """A box of shares of the frame on a picture of `side` pixels."""
    x1, y1, x2, y2 = (value * side - 0.5 for value in box)
    cell.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linestyle=style, linewidth=1.8))


if __name__ == "__main__":
    main()
