"""Draws docs/answers.png, what the demonstration model says of unseen scenes: `python docs/answers.py [BUNDLE]`.

Takes the scenes as they come, and one sketch of each. Yellow: the box that was found; dotted: the true one.
"""

from __future__ import annotations

import sys
import textwrap
from itertools import islice
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console

from pipelines import instructions
from pipelines.judging import processor_of
from sketchlm.answer import answer, read_boxes
from sketchlm.bundle import load_bundle
from sketchlm.evaluation.questions import Asked, collect, score
from sketchlm.frame import to_frame
from sketchlm.processor import Processor
from sketchlm.shards import read_samples
from sketchlm.weights import shipped

TASKS = ("bbox", "count", "vqa", "sbir")
COLUMNS, ROWS = 4, 2
WIDTH, HEIGHT, TOP = 3.2, 2.75, 0.1
"""Of a scene with its sketch and words, inches."""
SKETCH, PHOTO = 1.05, 1.85
RIGHT, WRONG = "#1a7f37", "#cf222e"
FOUND, TRUE = "#ffd33d", "#ffffff"
ASKED = {"count": "How many?", "sbir": "Is it there?"}


def main() -> None:
    """Ask, and draw."""
    rcParams["font.size"] = 8
    loaded = load_bundle(sys.argv[1] if len(sys.argv) > 1 else shipped("learn"))
    processor = processor_of(loaded, TASKS)
    shards = instructions.ensure("learn_val", Console())
    samples = enumerate(islice(read_samples(shards), COLUMNS * ROWS))
    scenes = [most_asked(collect([raw], processor), number) for number, raw in samples]
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
        draw(scene, loaded.model, processor, *cells)
    picture.savefig(Path(__file__).with_suffix(".png"), dpi=100)


def most_asked(asked: dict[str, list[Asked]], number: int) -> dict[str, Asked]:
    """Questions about one sketch of a sample, by task: of those that are asked most, another for another number."""
    rows: dict[int, dict[str, Asked]] = {}
    for task, them in asked.items():
        for one in them:
            if one.question.query.row >= 0:
                rows.setdefault(one.question.query.row, {}).setdefault(task, one)
    most = max(map(len, rows.values()))
    best = [found for _, found in sorted(rows.items()) if len(found) == most]
    return best[number % len(best)]


def draw(scene: dict[str, Asked], model: Any, processor: Processor, left: Any, right: Any) -> None:
    """The sketch, with what was asked and said below; the scene with the box found and, in white, the true one."""
    first = next(iter(scene.values()))
    for cell, picture in zip((left, right), first.question.pictures, strict=True):
        cell.imshow(picture.pixels.transpose(1, 2, 0))
    size, side = (first.sample.image.width, first.sample.image.height), processor.side
    below = PHOTO / SKETCH - 1 + 0.06  # below the larger of the two, in sides of the sketch
    for task, one in sorted(scene.items(), key=lambda pair: TASKS.index(pair[0])):
        query, said = one.question.query, answer(model, processor, [one.question])[0]
        if task == "bbox":
            outline(right, to_frame(query.boxes[0], size, processor.config.prompt.frame), side, TRUE, ":")
            for found in read_boxes(said.text)[:1]:
                outline(right, found, side, FOUND, "-")
            continue
        right_answer = score(one, said, processor)["right"] > 0
        said_text = ("yes" if said.yes >= 0.5 else "no") if task == "sbir" else said.text
        wrapped = textwrap.fill(f"{query.question or ASKED[task]} {said_text}", 46)
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
