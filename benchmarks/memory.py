"""`make bench-memory`: the memory of driver and workers over a run that grows from 1,000 to 100,000 instances.

    python -m benchmarks.memory                   all sizes: 8 minutes
    python -m benchmarks.memory --sizes 1000 4000

Null models (the source's own rectangles as masks, edges only): what grows would be ours, not a model's. The runs are
`make sketches` as a user starts it, with two Ray workers; each process is asked for its memory twice a second.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import matplotlib
import numpy as np
import tyro
from rich.console import Console

from benchmarks.watch import Curve, watched
from pipelines.commit import commit
from sketchgen.shapeworld import WorldConfig, render, scene_file

PAGE = Path(__file__).with_suffix(".md")
PICTURE = Path(__file__).with_suffix(".png")
PHOTOS = 50
"""Different photos; the images of the source repeat them."""
INSTANCES = 10
"""An image."""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    sizes: tuple[int, ...] = (1_000, 10_000, 100_000)
    """Instances of each run."""
    workers: int = 2
    images_per_shard: int = 64
    folder: str = ""
    """Where photos and outputs lie; empty = a temporary folder."""


def write_source(folder: Path, instances: int) -> Path:
    """A COCO file of so many rectangles, over the photos in `folder` (drawn if missing)."""
    world = WorldConfig(num_scenes=PHOTOS)
    for number in range(PHOTOS):
        if not (path := folder / f"{number:02d}.jpg").exists():
            path.write_bytes(render(world, scene_file(world, number)))
    from PIL import Image

    with Image.open(folder / "00.jpg") as first:
        width, height = first.size
    images, annotations = [], []
    for image in range(instances // INSTANCES):
        images.append({"id": image, "file_name": f"{image % PHOTOS:02d}.jpg", "width": width, "height": height})
        random = np.random.default_rng(image)
        for row in range(INSTANCES):
            side = 40 + int(random.integers(60))
            x, y = (int(random.integers(size - side)) for size in (width, height))
            outline = [x, y, x + side, y, x + side, y + side, x, y + side]
            annotations.append(
                {
                    "id": image * INSTANCES + row,
                    "image_id": image,
                    "category_id": row,
                    "bbox": [x, y, side, side],
                    "segmentation": [outline],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": row, "name": f"class {row}"} for row in range(INSTANCES)]
    path = folder / f"{instances}.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def measure(folder: Path, options: Options, instances: int) -> Curve:
    """One run, watched from outside."""
    annotations = write_source(folder, instances)
    out = folder / f"out-{instances}"
    command = [
        *(sys.executable, "-m", "pipelines.sketches", "coco", "--out", str(out)),
        *("--source.annotations", str(annotations), "--source.images", str(folder)),
        *("--source.index", str(folder), "--segmenter.name", "annotation", "--sketcher.name", "none"),
        *("--images-per-shard", str(options.images_per_shard), "--engine.workers", str(options.workers)),
    ]
    return watched(command, out, instances, options.images_per_shard * INSTANCES)


def draw(curves: list[Curve]) -> None:
    """Memory over instances, a line for the driver and one for the largest worker of each run."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for curve, width in zip(curves, np.linspace(4, 1.5, len(curves)), strict=True):
        begun = [number for number, done in enumerate(curve.done) if done]
        for name, memory, colour in (("driver", curve.driver, "tab:blue"), ("worker", curve.workers, "tab:orange")):
            axes.plot(
                [curve.done[number] for number in begun],
                [memory[number] for number in begun],
                color=colour,
                linewidth=width,
                alpha=0.8,
                label=f"{name}, {curve.size:,} instances",
            )
    axes.set(xscale="log", xlabel="instances done", ylabel="resident memory, MiB", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2, loc="lower left")
    figure.savefig(PICTURE, dpi=110)


def table(curves: list[Curve], options: Options) -> str:
    """The page as Markdown."""
    rows = "".join(
        f"| {c.size:,} | {c.seconds:.0f} | {max(c.driver):.0f} | {c.growth(c.driver):+.0f} | "
        f"{np.nanmax(c.workers):.0f} | {c.growth(c.workers):+.0f} |\n"
        for c in curves
    )
    return f"""# Memory of a run

`make bench-memory` · {date.today()} · commit {commit()} · {platform.machine()}, {os.cpu_count()} cores, Python \
{platform.python_version()} · `make sketches` with null models, {options.workers} Ray workers, \
{options.images_per_shard} images of {INSTANCES} instances a shard.

Resident memory in MiB, shared libraries included; `growth` is from the first tenth of a run (its first shard done) to
its last tenth. Limit: flat from 1,000 to 100,000 instances.

| instances | seconds | driver, peak | growth | largest worker, peak | growth |
|---|---|---|---|---|---|
{rows}
![memory over instances]({PICTURE.name})
"""


def main() -> None:
    """Measure, print, and rewrite the page."""
    options = tyro.cli(Options, description=__doc__)
    console = Console()
    curves = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for instances in options.sizes:
            with console.status(f"{instances:,} instances"):
                curves.append(measure(folder, options, instances))
    draw(curves)
    text = table(curves, options)
    PAGE.write_text(text)
    console.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
