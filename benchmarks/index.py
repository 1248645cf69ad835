"""`make bench-index`: annotation files of the true size of Objects365 and Open Images are made up, indexed and planned.

    python -m benchmarks.index                 all of it: 8 GB of disk, a quarter of an hour
    python -m benchmarks.index --share 0.01    one image in a hundred

The files have the columns, order and flaws of the real ones (doubled boxes, boxes outside, crowds, groups); nothing of
them is real. Each step runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from data_manifests.schema import SCHEMA_VERSION, Completion
from pipelines.commit import commit
from pipelines.sketches import RECIPES
from sketchgen.config import RunConfig, checked, settings_of
from sketchgen.output import completions, fingerprint, shard_name
from sketchgen.passes import claimed
from sketchgen.plan import read_plan, read_shard_plan, write_plan
from sketchgen.run import batches_of
from sketchgen.selection import SelectionConfig
from sketchgen.source import SourceConfig
from sketchgen.sources import index_of
from sketchgen.storage import Storage

PAGE = Path(__file__).with_suffix(".md")
IMAGES = {"objects365": 1_742_292, "openimages": 1_743_042}
ROWS = {"objects365": 25_407_598, "openimages": 14_610_229}
DOUBLED, MARKED = 0.05, 0.03
"""Shares of images with a doubled box, and of rows that the source itself marks."""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    share: float = 1.0
    """Share of the true size."""
    folder: str = ""
    """Where the files are made; empty = a temporary folder."""


@dataclass(frozen=True)
class Cost:
    """What a step took: seconds, MiB of memory at the peak, and what it says of itself."""

    seconds: float
    peak_mib: float
    note: str = ""


def make_objects365(root: Path, images: int, rows: int) -> None:
    """`zhiyuan_objv2_train.json`, its annotations in no order of images."""
    rng = np.random.default_rng(365)
    (root / "train").mkdir(parents=True, exist_ok=True)
    with (root / "zhiyuan_objv2_train.json").open("w") as file:
        file.write('{"images": [')
        sizes = rng.integers(300, 1100, (images, 2))
        for number, (width, height) in enumerate(sizes.tolist()):
            name = f"images/v1/patch{number % 51}/objects365_v1_{number:08d}.jpg"
            file.write(
                f'{", " if number else ""}{{"height": {height}, "id": {number}, "license": 5, "width": {width}, '
                f'"file_name": "{name}", "url": ""}}'
            )
        file.write('], "annotations": [')
        owner = rng.integers(0, images, rows)
        for start in range(0, rows, 500_000):
            file.write(", " if start else "")
            file.write(", ".join(_objects365_rows(rng, owner, sizes, start)))
        file.write('], "categories": [')
        file.write(", ".join(f'{{"name": "Class {n}/thing", "id": {n}}}' for n in range(1, 366)))
        file.write('], "licenses": [{"id": 5, "name": "Flickr"}]}')


def _objects365_rows(rng: np.random.Generator, owner: Any, sizes: Any, start: int) -> Iterator[str]:
    mine = owner[start : start + 500_000]
    size = sizes[mine]
    corner = rng.random((len(mine), 2)) * size * 0.9
    extent = rng.random((len(mine), 2)) * size * 0.5 + 1
    box = np.concatenate([corner, extent], axis=1)
    doubled = rng.random(len(mine)) < DOUBLED / 14
    box[1:][doubled[1:]] = box[:-1][doubled[1:]]
    mine = mine.copy()
    mine[1:][doubled[1:]] = mine[:-1][doubled[1:]]
    category = rng.zipf(1.3, len(mine)) % 365 + 1
    category[1:][doubled[1:]] = category[:-1][doubled[1:]]
    crowd, fake = (rng.random((2, len(mine))) < MARKED / 2).astype(int)
    columns = zip(box.tolist(), mine.tolist(), category.tolist(), crowd.tolist(), fake.tolist(), strict=True)
    for number, ((x, y, w, h), image, kind, is_crowd, is_fake) in enumerate(columns, start):
        yield (
            f'{{"iscrowd": {is_crowd}, "isfake": {is_fake}, "area": {w * h:.10f}, "isreflected": 0, '
            f'"bbox": [{x:.10f}, {y:.10f}, {w:.10f}, {h:.10f}], "image_id": {image}, "category_id": {kind}, '
            f'"id": {number}}}'
        )


def make_openimages(root: Path, images: int, rows: int) -> None:
    """`oidv6-train-annotations-bbox.csv` and its class names, rows image by image as the real one has them."""
    rng = np.random.default_rng(600)
    (root / "train").mkdir(parents=True, exist_ok=True)
    mids = [f"/m/{n:06x}" for n in range(601)]
    names = "".join(f"{mid},Class {n}\n" for n, mid in enumerate(mids))
    (root / "oidv7-class-descriptions-boxable.csv").write_text(f"LabelName,DisplayName\n{names}")
    flags = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
    clicks = [f"XClick{n}{axis}" for axis in "XY" for n in range(1, 5)]
    head = ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", *flags, *clicks]
    with (root / "oidv6-train-annotations-bbox.csv").open("w") as file:
        file.write(",".join(head) + "\n")
        owner = np.sort(np.concatenate([np.arange(images), rng.integers(0, images, rows - images)]))
        for start in range(0, rows, 500_000):
            mine = owner[start : start + 500_000]
            low = rng.random((len(mine), 2)) * 0.9
            high = np.minimum(low + rng.random((len(mine), 2)) * 0.5 + 0.001, 1)
            kinds, marks = rng.zipf(1.3, len(mine)) % 601, (rng.random((len(mine), 3)) < MARKED).astype(int)
            columns = zip(mine.tolist(), kinds.tolist(), low.tolist(), high.tolist(), marks.tolist(), strict=True)
            file.writelines(
                f"{image * 2654435761 % 2**64:016x},xclick,{mids[kind]},1,{x1:.7f},{x2:.7f},{y1:.7f},{y2:.7f},0,0,"
                f"{group},{depiction},{inside},{x1:.7f},{x2:.7f},{x1:.7f},{x2:.7f},{y1:.7f},{y2:.7f},{y1:.7f},{y2:.7f}\n"
                for image, kind, (x1, y1), (x2, y2), (group, depiction, inside) in columns
            )


MAKERS = {"objects365": make_objects365, "openimages": make_openimages}


def config_of(name: str, root: Path) -> RunConfig:
    """The recipe on the files that were made."""
    base = RECIPES[name]()
    source = replace(base.source, root=str(root), index=str(root / "index"))
    return checked(replace(base, source=source, out=str(root / "out")))


def measured(step: Callable[[], str]) -> Cost:
    """A step in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, step).result()


def _measured(step: Callable[[], str]) -> Cost:
    began = time.perf_counter()
    note = step()
    return Cost(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, note)


def index_step(source: SourceConfig) -> str:
    """Make the index."""
    found = index_of(source)
    left = sum(count for reason, count in found.reasons.items() if reason)
    return f"{found.images:,} images, {sum(found.reasons.values()):,} rows, {left:,} left out"


def plan_step(config: RunConfig, select: SelectionConfig) -> str:
    """Plan from the index."""
    with tempfile.TemporaryDirectory(dir=config.source.index) as folder:
        plan = write_plan(partial(batches_of, config), config.images_per_shard, Storage(folder), select)
    return f"{plan.images:,} images, {plan.instances:,} instances, {plan.shards:,} shards"


def finish_all_but_one_percent(config: RunConfig) -> str:
    """Plan into the output folder, and leave there what a run leaves that is 99 % done (tars of a byte)."""
    storage, settings = Storage(config.out), settings_of(config)
    with claimed(storage, settings, partial(batches_of, config), config.images_per_shard, Console(quiet=True)) as plan:
        folder = Path(config.out)
        for shard in range(plan.shards - max(1, plan.shards // 100)):
            (folder / shard_name(shard, "tar")).write_bytes(b"\0")
            (folder / shard_name(shard, "parquet")).write_bytes(b"")
            record = Completion(
                schema_=SCHEMA_VERSION, shard=shard, images=256, samples=256, written=3000, rejected=500, tar_bytes=1,
                tar_sha256="0" * 64, ledger_sha256="0" * 64, fingerprint=fingerprint(settings),
            )  # fmt: skip
            (folder / shard_name(shard, "json")).write_text(json.dumps(record.model_dump(by_alias=True)))
    return ""


def resume_step(config: RunConfig) -> str:
    """From the start of a run to the first shard that is handed to a worker."""
    storage, settings = Storage(config.out), settings_of(config)
    with claimed(storage, settings, partial(batches_of, config), config.images_per_shard, Console(quiet=True)) as plan:
        done = completions(storage, fingerprint(settings))
        todo = [shard for shard in range(plan.shards) if shard not in done]
        first = list(islice(read_shard_plan(storage, todo[0]), 20))
    assert read_plan(storage) == plan and first
    return f"{len(done):,} of {plan.shards:,} shards done"


def main() -> None:
    """Make, measure, and rewrite the page."""
    options = tyro.cli(Options, description=__doc__)
    console = Console(highlight=False)
    lines = []
    with tempfile.TemporaryDirectory(dir=options.folder or None) as place:
        for name, make in MAKERS.items():
            root = Path(place) / name
            images, rows = (max(1000, int(size[name] * options.share)) for size in (IMAGES, ROWS))
            with console.status(f"making {name}"):
                make(root, images, rows)
            size = sum(path.stat().st_size for path in root.iterdir() if path.is_file())
            config = config_of(name, root)
            subset = SelectionConfig(images=int(300_000 * options.share), instances_per_image=5, balance=0.5)
            steps: dict[str, Callable[[], str]] = {
                f"index ({size / 1e9:.2f} GB)": partial(index_step, config.source),
                "index, already there": partial(index_step, config.source),
                "plan all": partial(plan_step, config, SelectionConfig()),
                "plan a balanced subset": partial(plan_step, config, subset),
            }
            costs = {}
            for step, function in steps.items():
                with console.status(f"{name}: {step}"):
                    costs[step] = measured(function)
            with console.status(f"{name}: resume"):
                finish_all_but_one_percent(config)
                costs["resume with 99 % done"] = measured(partial(resume_step, config))
            for step, cost in costs.items():
                lines.append(f"| {name} | {step} | {cost.seconds:.1f} | {cost.peak_mib:.0f} | {cost.note} |")
                console.print(lines[-1], markup=False, soft_wrap=True)
    head = f"""# Index and plan at true size

`python -m benchmarks.index` · {date.today()} · commit {commit()} · {platform.machine()}, {os.cpu_count()} cores,
Python {platform.python_version()} · share {options.share:g} of the true size. The files are made up; columns, order and
flaws are those of the real ones. Memory is all that the process held at its peak, libraries included. Limits: 2 GB for
the index, seconds for a plan, 30 s to resume.

| source | step | seconds | MiB | |
|---|---|---|---|---|
"""
    PAGE.write_text(head + "\n".join(lines) + "\n")
    console.print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
