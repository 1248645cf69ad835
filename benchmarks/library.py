"""`python -m benchmarks.library`: what the library costs, and what suppression does in crowds (benchmarks/library.md).

Questions are asked one by one and eight at a time, in turn, so that a noisy machine disturbs both alike.
"""

from __future__ import annotations

import io
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import tyro
from PIL import Image
from rich.console import Console

from data_manifests.schema import STRIP_SIDE
from pipelines import instructions
from pipelines.commit import commit
from sketchlm import Detection, SketchLM
from sketchlm.metrics import BOXES, boxes_row, differences, figures
from sketchlm.shards import read_samples
from sketchlm.threads import pin_threads

TABLE = Path(__file__).parent / "library.md"
OVERLAPS = (0.3, 0.4, 0.5, 0.7)
SHOWN = ("precision", "recall", "F1", "duplicates", "hallucinated")
BATCH = 8


@dataclass(frozen=True)
class Options:
    """What to measure."""

    model: str = "learn"
    """Bundle, or a name that comes with the package."""
    images: int = 300
    """Crowded scenes that training never saw, 2 or 3 classes with 1 to 5 instances each."""
    seed: int = 1
    """Of the world: scenes of 0 were used to choose the overlap."""
    timed: int = 64
    """Questions whose time is taken."""
    threads: int = 2
    page: str = str(TABLE)


class Crowd(NamedTuple):
    """One question: sketch [256, 256], the scene, and every instance of the class."""

    sketch: np.ndarray
    image: Image.Image
    truth: list[list[float]]
    name: str


def crowds(options: Options, console: Console) -> list[Crowd]:
    """Questions about crowded scenes, made where they are missing."""
    base = instructions.learn_val()
    world = replace(base.source.world, kinds=(1.0, 0.0, 0.0), seed=options.seed, num_scenes=options.images)
    config = replace(
        base,
        source=replace(base.source, world=world),
        tasks=replace(base.tasks, names=("bbox",), max_boxes=world.max_count, min_singles=2),
        out=f"out/benchmarks/crowds-{options.seed}-{options.images}",
    )
    instructions.ensure_run(config, "crowds", console)
    found = []
    for raw in islice(read_samples(config.out), options.images):
        strip = np.asarray(Image.open(io.BytesIO(raw.strip)))
        image = Image.open(io.BytesIO(raw.jpg)).convert("RGB")
        for query in raw.record.queries:
            sketch = strip[STRIP_SIDE * query.row : STRIP_SIDE * (query.row + 1)]
            found.append(Crowd(sketch, image, query.boxes, raw.record.image.id))
    return found


def import_seconds() -> float:
    """Of `import sketchlm` in a new interpreter, beyond that interpreter itself; median of five."""

    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    return statistics.median(seconds("import sketchlm") - seconds("pass") for _ in range(5))


def throughput(model: SketchLM, asked: Sequence[Crowd], multiple: bool) -> tuple[float, float, float]:
    """Seconds a question one by one and BATCH at a time, and the largest difference of a score; boxes are equal."""
    alone, together, worst = [], [], 0.0
    for start in range(0, len(asked) - BATCH + 1, BATCH):
        group = asked[start : start + BATCH]
        began = time.perf_counter()
        one = [model.detect(each.sketch, each.image, multiple=multiple) for each in group]
        middle = time.perf_counter()
        sketches, images = [each.sketch for each in group], [each.image for each in group]
        many = model.detect(sketches, images, multiple=multiple, batch=BATCH)
        alone.append((middle - began) / BATCH)
        together.append((time.perf_counter() - middle) / BATCH)
        worst = max([worst, *map(difference, one, many)])
    return statistics.median(alone), statistics.median(together), worst


def difference(one: Detection, other: Detection) -> float:
    """Largest difference of a score. Raises AssertionError where the boxes are not the same."""
    assert one.raw == other.raw, f"one by one: {one.raw}; in a batch: {other.raw}"
    assert [box.xyxy for box in one.boxes] == [box.xyxy for box in other.boxes]
    return max((abs(a.score - b.score) for a, b in zip(one.boxes, other.boxes, strict=True)), default=0.0)


def crowd_table(model: SketchLM, asked: Sequence[Crowd]) -> list[str]:
    """Figures of all boxes that are named, and of those that suppression leaves."""
    sketches, images = [each.sketch for each in asked], [each.image for each in asked]
    rows = {}
    for overlap in (1.0, *OVERLAPS):  # 1: all boxes stay
        found = model.detect(sketches, images, multiple=True, overlap=overlap, batch=32)
        pairs = zip(found, asked, strict=True)
        rows[overlap] = [
            boxes_row([b.xyxy for b in one.boxes], [b.score for b in one.boxes], each.truth) for one, each in pairs
        ]
    names = [each.name for each in asked]
    measures = {name: BOXES[name] for name in SHOWN}
    lines = ["| suppressed above | boxes | duplicates | " + " | ".join(SHOWN) + " | recall lost, points |"]
    lines.append("|" + "---|" * (len(SHOWN) + 4))
    doubles = sum(row.duplicates for row in rows[1.0])
    for overlap, them in rows.items():
        values = figures(them, measures, names)
        lost = differences(rows[1.0], them, {"recall": BOXES["recall"]}, names)["recall"]
        left = sum(row.duplicates for row in them)
        cells = [
            "nothing" if overlap == 1 else f"IoU {overlap}",
            f"{sum(row.found for row in them):,.0f}",
            f"{left:.0f}" + ("" if overlap == 1 or not doubles else f" ({100 * (left / doubles - 1):+.0f} %)"),
            *(str(values[name]) for name in SHOWN),
            "" if overlap == 1 else f"{100 * lost.value:.1f} ({100 * lost.low:.1f} to {100 * lost.high:.1f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure, and write the page."""
    options = tyro.cli(Options, description=__doc__)
    console = Console(highlight=False)
    pin_threads(options.threads)
    asked = crowds(options, console)
    model = SketchLM.from_pretrained(options.model, device="cpu")
    lines = [f"`import sketchlm`: {import_seconds():.2f} s beyond the interpreter's own start (limit 0.5 s).", ""]
    lines += ["| `detect` on the CPU | one by one, ms | 8 at a time, ms | ratio (limit 2) | scores differ by |"]
    lines += ["|---|---|---|---|---|"]
    for multiple in (False, True):
        alone, together, worst = throughput(model, asked[: options.timed], multiple)
        what = "all instances" if multiple else "the first box"
        lines.append(f"| {what} | {1e3 * alone:.1f} | {1e3 * together:.1f} | {alone / together:.1f} | {worst:.0e} |")
    lines += [
        "",
        f"Crowds: {options.images} unseen scenes, {len(asked)} sketches, IoU 0.5, 95 % intervals over images.",
    ]
    lines += ["", *crowd_table(model, asked)]
    write(lines, options)
    console.print("\n".join(lines), soft_wrap=True, markup=False)


def write(lines: Sequence[str], options: Options) -> None:
    """Put the run above those before it."""
    page = Path(options.page)
    head = "# The library\n\nMade by `make bench-library`; `python -m benchmarks.library --help` says what.\n"
    old = page.read_text().partition("\n## ")[2] if page.is_file() else ""
    title = f"## {date.today()}, commit {commit()}, model `{options.model}`, {options.threads} threads"
    where = f"{platform.processor() or platform.machine()}, torch {torch.__version__}"
    text = "\n".join([head, title, "", where, "", *lines, ""])
    with tempfile.NamedTemporaryFile("w", dir=page.parent, delete=False) as file:
        file.write(text + (f"\n## {old}" if old else ""))
    Path(file.name).replace(page)


if __name__ == "__main__":
    main()
