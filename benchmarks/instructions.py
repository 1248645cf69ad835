"""`make bench-instructions`: how fast photos are paired with drawings and asked about, and the memory that it takes.

    python -m benchmarks.instructions --annotations instances.json --images photos/ --drawings QUICKDRAW

Photos are those of a COCO folder, repeated; without one the sample's, and drawings are made up. The runs are
`make instructions` as a user starts it. Limit: 300 samples a second on two cores, memory flat.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from benchmarks.watch import Curve, watched
from data_manifests.vocabulary import vocabulary
from pipelines.commit import commit
from sketchgen.output import completions, fingerprint, read_log
from sketchgen.photo import Photo, PhotoConfig, decode
from sketchgen.source import ImageFiles, SourceConfig, SourceImage
from sketchgen.sources import read_source
from sketchgen.storage import Storage

PAGE = Path(__file__).with_suffix(".md")
LIMIT = 300.0
"""Samples a second on two cores."""
WHOLE = 215_000
"""Samples of the paper's stage II, one query each."""
DRAWINGS = 300
"""Made up for each class."""
SIDE = 640
"""Of the sample's photos, pixels."""


@dataclass(frozen=True)
class Options:
    """What to measure, on what."""

    annotations: str = ""
    """COCO file; empty = the sample's photos."""
    images: str = ""
    drawings: str = ""
    """Folder of Quick, Draw! files; empty = made up."""
    samples: int = 20_000
    """Images of the long run; the others have a tenth."""
    images_per_shard: int = 250
    folder: str = ""
    """Where photos and outputs lie; empty = a temporary folder."""


@dataclass(frozen=True)
class Case:
    """One run."""

    name: str
    tasks: tuple[str, ...]
    workers: int
    images: int
    one_each: bool


@dataclass(frozen=True)
class Result:
    """What a run gave. rate, queries: a second, from the first finished shard on; shares: of the workers' time."""

    case: Case
    samples: int
    rate: float
    queries: float
    shares: dict[str, float]
    curve: Curve


def source_of(options: Options) -> SourceConfig:
    """Where the photos come from."""
    if options.annotations:
        return SourceConfig("coco", annotations=options.annotations, images=options.images)
    return SourceConfig("sample")


def write_source(folder: Path, options: Options, count: int) -> Path:
    """A COCO file of so many images, which repeat those of the options."""
    source = source_of(options)
    files = ImageFiles(source)
    photos: list[tuple[str, SourceImage, Photo]] = []
    for image in read_source(source):
        data = files.read(image.file)
        photo = decode(data, (image.width, image.height), PhotoConfig(max_side=10_000 if options.annotations else SIDE))
        name = f"{len(photos):05d}.jpg"
        (folder / name).write_bytes(photo.jpeg)
        photos.append((name, image, photo))
    names = sorted({row.instance.category for _, image, _ in photos for row in image.instances})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        name, image, photo = photos[number % len(photos)]
        images.append({"id": number, "file_name": name, "width": photo.size[0], "height": photo.size[1]})
        for row in image.instances:
            annotations.append(_annotation(len(annotations), number, names, row.instance, photo.scale))
    path = folder / f"{count}.json"
    categories = [{"id": n, "name": name} for n, name in enumerate(names)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def _annotation(
    number: int, image: int, names: Sequence[str], instance: Any, scale: tuple[float, float]
) -> dict[str, Any]:
    x1, y1, x2, y2 = (value * scale[n % 2] for n, value in enumerate(instance.box))
    outlines = instance.segmentation if isinstance(instance.segmentation, list) else []
    return {
        "id": number,
        "image_id": image,
        "category_id": names.index(instance.category),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": [[value * scale[n % 2] for n, value in enumerate(outline)] for outline in outlines],
        "iscrowd": 0,
    }


def write_drawings(folder: Path, names: Sequence[str]) -> Path:
    """Files of made up drawings in the form of Quick, Draw!."""
    folder.mkdir()
    for number, name in enumerate(names):
        random = np.random.default_rng(number)
        lines = []
        for key in range(DRAWINGS):
            strokes = [
                np.clip(random.integers(255) + random.integers(-25, 26, (2, 12)).cumsum(axis=1), 0, 255).tolist()
                for _ in range(int(random.integers(2, 7)))
            ]
            row = {"word": name, "recognized": True, "key_id": str(number * DRAWINGS + key), "drawing": strokes}
            lines.append(json.dumps(row))
        (folder / f"{name.replace('/', ' ')}.ndjson").write_text("\n".join(lines) + "\n")
    return folder


def measure(folder: Path, drawings: Path, options: Options, case: Case) -> Result:
    """One run, watched from outside."""
    annotations = write_source(folder, options, case.images)
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [
        *(sys.executable, "-m", "pipelines.instructions", "coco", "--out", str(out)),
        *("--source.annotations", str(annotations), "--source.images", str(folder), "--source.index", str(folder)),
        *("--bank.root", str(drawings), "--tasks.names", *case.tasks, "--tasks.min-singles", "1"),
        *("--images-per-shard", str(options.images_per_shard), "--engine.workers", str(case.workers)),
        *(("--size", str(case.images)) if case.one_each else ()),
    ]
    curve = watched(command, out, case.images, options.images_per_shard)
    storage = Storage(str(out))
    records = completions(storage, fingerprint(json.loads(storage.read("settings.json"))))
    log = read_log(storage)
    seconds: Counter[str] = Counter()
    for entry in log:
        seconds.update(entry["seconds"])
    # start-up left out: from the end of each worker's first shard on
    begun, rest = log[case.workers - 1], [records[entry["shard"]] for entry in log[case.workers :]]
    wall = log[-1]["elapsed"] - begun["elapsed"]
    return Result(
        case,
        sum(record.samples for record in records.values()),
        sum(record.samples for record in rest) / wall,
        sum(record.written for record in rest) / wall,
        {stage: value / sum(seconds.values()) for stage, value in seconds.items()},
        curve,
    )


def table(results: Sequence[Result], options: Options) -> str:
    """The page as Markdown."""
    stages = list(results[0].shares)
    rows = "".join(
        f"| {r.case.name} | {r.case.workers} | {r.samples:,} | {r.rate:.0f} | {r.queries:.0f} | "
        + " | ".join(f"{r.shares.get(stage, 0):.0%}" for stage in stages)
        + f" | {max(r.curve.driver):.0f} / {np.nanmax(r.curve.workers):.0f} | "
        f"{r.curve.growth(r.curve.driver):+.0f} / {r.curve.growth(r.curve.workers):+.0f} |\n"
        for r in results
    )
    whole = WHOLE / results[0].rate / 60
    what = "photos and drawings as named on the command line" if options.annotations else "the sample's photos"
    return f"""# Making instruction shards

`python -m benchmarks.instructions {" ".join(sys.argv[1:])}` · {date.today()} · commit {commit()} · \
{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()} · `make instructions RECIPE=coco`, \
{what}, repeated; {options.images_per_shard} images a shard.

Rates are from the end of each worker's first shard on. JPEGs are passed through: they are read to their end, so that
none is cut off, and stored byte by byte. Memory is resident MiB of the driver / the largest worker, shared libraries
included, and what it grew by from the first tenth of the run to the last. Limits: {LIMIT:.0f} samples a second on two
cores, memory flat.

| asked | workers | samples | samples/s | queries/s | {" | ".join(stages)} | memory, peak | growth |
|---|---|---|---|---|{"---|" * len(stages)}---|---|
{rows}
{WHOLE:,} samples of one query each, at the first line's rate: **{whole:.0f} minutes** on this machine.
"""


def main() -> None:
    """Measure, print, and rewrite the page."""
    options = tyro.cli(Options, description=__doc__)
    console = Console()
    tenth = max(options.samples // 10, 8 * options.images_per_shard)
    every = ("describe", "bbox", "count", "vqa", "sbir")
    cases = [
        Case("a box of each image", ("bbox",), 2, options.samples, True),
        Case("a box of each image", ("bbox",), 1, tenth, True),
        Case("a question of each image", ("vqa",), 2, tenth, True),
        Case("all that there is", every, 2, tenth, False),
    ]
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        drawings = Path(options.drawings)
        if not options.drawings:
            named = {row.instance.category for image in read_source(source_of(options)) for row in image.instances}
            drawings = write_drawings(folder / "drawings", sorted({vocabulary().read(name).name for name in named}))
        for case in cases:
            with console.status(f"{case.name}, {case.images:,} images, {case.workers} workers"):
                results.append(measure(folder, drawings, options, case))
    text = table(results, options)
    PAGE.write_text(text)
    console.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
