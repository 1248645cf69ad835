"""`python -m benchmarks.loader`: what the streaming loader costs, as a dated table in benchmarks/loader.md.

Everything is measured in one run on the same shards, so that ratios hold on a noisy machine.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import platform
import re
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
import webdataset as wds
from rich.console import Console

from data_manifests.schema import STRIP_SIDE, Completion, validate
from pipelines.commit import commit
from sketchlm.loader import Loader, LoaderConfig, RawSample

TABLE = Path(__file__).parent / "loader.md"
BATCH = 16
BARE = "bare `tarfile` loop"
KINDS = {"336 px, 2 sketches": (336, 336, 2), "1024 x 768 px, 8 sketches": (1024, 768, 8)}
"""Width and height of the photo and rows of the strip, by name; the last are what the pipeline writes at most."""
RESUMED = 1_000_123
"""Samples that were consumed before the resumed loader starts."""
PHOTOS = 32
"""Different photos; the samples take turns with them."""


@dataclass
class Options:
    """What to measure on."""

    samples: int = 512
    """Samples of each folder of shards."""
    per_shard: int = 256
    """Samples of a shard; 256 is what the pipeline writes."""
    rounds: int = 2
    """Repetitions; the table gives the best, which is the least disturbed."""
    stream: int = 50_000
    """Samples over which memory is watched; they are small, so that it takes seconds."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the benchmark makes of a sample: the pictures are dropped."""

    pixels: int
    length: int = 1


def decode(jpg: bytes, strip: bytes) -> int:
    """The decoding that both sides share; returns the number of pixels."""
    photo = cv2.imdecode(np.frombuffer(jpg, np.uint8), cv2.IMREAD_COLOR_RGB)
    sketches = cv2.imdecode(np.frombuffer(strip, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert photo is not None and sketches is not None
    return int(photo.shape[0] * photo.shape[1] + sketches.size)


def decode_sample(sample: RawSample, draw: int) -> list[Decoded]:
    """One item a sample."""
    return [Decoded(decode(sample.jpg, sample.strip))]


def count_items(items: list[Decoded]) -> int:
    """The batch is the number of its items."""
    return len(items)


def write_shards(folder: Path, options: Options, width: int, height: int, rows: int) -> None:
    """Shards of photos and strips of the given size, each row an object with a sketch and a query."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    photos = []
    for _ in range(PHOTOS):
        noise = cv2.resize(rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8), (width, height))
        grain = rng.integers(0, 12, noise.shape, dtype=np.uint8)
        photos.append(cv2.imencode(".jpg", cv2.add(noise, grain), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    strip = np.full((STRIP_SIDE * rows, STRIP_SIDE), 255, np.uint8)
    for row in range(rows):
        for start, end in rng.integers(0, STRIP_SIDE, (30, 2, 2)):
            offset = np.array([0, row * STRIP_SIDE])
            cv2.line(strip, (start + offset).tolist(), (end + offset).tolist(), 0, 2, cv2.LINE_AA)
    png = cv2.imencode(".png", strip)[1].tobytes()
    for shard in range(options.samples // options.per_shard):
        path = folder / f"{shard:06d}.tar"
        with closing(wds.TarWriter(str(path), encoder=False, mtime=0)) as tar:
            for index in range(options.per_shard):
                text = json.dumps(record_of(f"{shard}-{index}", width, height, rows)).encode()
                validate(text, strip_height=strip.shape[0])
                key = f"{shard:06d}-{index:05d}"
                tar.write({"__key__": key, "jpg": photos[index % PHOTOS], "sketches.png": png, "json": text})
        completion = Completion(
            schema_=1,
            shard=shard,
            images=options.per_shard,
            samples=options.per_shard,
            written=options.per_shard * rows,
            rejected=0,
            tar_bytes=path.stat().st_size,
            tar_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            ledger_sha256="",
            fingerprint="bench",
        )
        path.with_suffix(".json").write_text(completion.model_dump_json(by_alias=True))


def record_of(name: str, width: int, height: int, rows: int) -> dict[str, Any]:
    """The json of one sample."""
    box = [4.0, 4.0, width - 4.0, height - 4.0]
    mask = {"size": [height, width], "counts": "0" * 200}
    image = {"source": "bench", "id": name, "width": width, "height": height, "license": ""}
    sketch = {"category": "dog", "source": "bench", "style": "ink", "generator": ""}
    query = {"task": "bbox", "category": "dog", "boxes": [box], "count": -1, "question": "", "answers": [""]}
    return {
        "schema": 1,
        "image": image,
        "objects": [
            {"object_id": str(row), "category": "dog", "box": box, "mask": mask, "status": "written"}
            for row in range(rows)
        ],
        "sketches": [sketch | {"row": row, "sketch_id": f"{name}/{row}", "object_id": str(row)} for row in range(rows)],
        "queries": [
            query | {"query_id": str(row), "row": row, "match": -1, "answer_source": "facts"} for row in range(rows)
        ],
    }


@dataclass(frozen=True, slots=True)
class Speed:
    """samples a second by the clock, and CPU of all processes in milliseconds a sample, which a busy machine
    disturbs less.
    """

    samples: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Clock:
    """A moment: seconds by the clock, and of CPU, of this process and those of its children that ended."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Clock:
        """This moment."""
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used))


def measure_bare(folder: Path) -> Speed:
    """A loop over `tarfile` that decodes and does nothing else."""
    start, seen = Clock.now(), 0
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            files: dict[str, bytes] = {}
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                files[member.name.partition(".")[2]] = file.read()
                if len(files) == 3:
                    decode(files["jpg"], files["sketches.png"])
                    files = {}
                    seen += 1
    end = Clock.now()
    return Speed(seen / (end.wall - start.wall), 1000 * (end.cpu - start.cpu) / seen)


def measure_loader(folder: Path, samples: int, workers: int, skip: int = 0) -> Speed:
    """The loader over one epoch, from its construction (with checksums) or after `skip` epochs."""
    start = Clock.now()
    config = LoaderConfig(str(folder), batch_size=BATCH, workers=workers)
    with closing(iter(Loader(config, decode_sample, count_items))) as batches:
        if skip:
            sum(islice(batches, skip * samples // BATCH))
            start = Clock.now()
        seen = sum(islice(batches, samples // BATCH))
        wall = time.perf_counter()
    return Speed(seen / (wall - start.wall), 1000 * (Clock.now().cpu - start.cpu) / seen)


def resume_seconds(folder: Path, workers: int) -> float:
    """Seconds from the construction of a loader to its first batch, in mid-epoch (call it in a fresh process)."""
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    config = LoaderConfig(str(folder), workers=workers, batch_size=BATCH)
    state = Loader(config, decode_sample, count_items).state_dict() | {"sample": RESUMED}
    start = time.perf_counter()
    loader = Loader(config, decode_sample, count_items)
    loader.load_state_dict(state)
    batches = iter(loader)
    next(batches)
    seconds = time.perf_counter() - start
    batches.close()
    return seconds


def memory_mib() -> float:
    """Memory of this process and of its workers, MiB; a page that they share is split among them."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    sizes = [re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M) for pid in pids]
    return sum(int(size[1]) for size in sizes if size) / 1024


def memory_curve(folder: Path, stream: int, workers: int) -> list[tuple[int, float]]:
    """(samples, MiB) at ten points of a long stream (call it in a fresh process)."""
    cv2.setNumThreads(1)
    loader = Loader(LoaderConfig(str(folder), workers=workers, batch_size=BATCH), decode_sample, count_items)
    batches, points = iter(loader), []
    for part in range(1, 11):
        for _ in islice(batches, stream // 10 // BATCH):
            pass
        points.append((part * stream // 10, memory_mib()))
    batches.close()
    return points


def fresh(function: Callable[..., Any], *args: Any) -> Any:
    """Call it in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def measure_speeds(folder: Path, options: Options) -> dict[str, Speed]:
    """By way of reading, the best of all rounds."""
    cv2.setNumThreads(1)
    ways: dict[str, Callable[[], Speed]] = {
        BARE: lambda: measure_bare(folder),
        "loader, first epoch": lambda: measure_loader(folder, options.samples, 0),
        "loader, second epoch": lambda: measure_loader(folder, options.samples, 0, skip=1),
        "1 worker, first epoch": lambda: measure_loader(folder, options.samples, 1),
        "2 workers, first epoch": lambda: measure_loader(folder, options.samples, 2),
    }
    found: dict[str, list[Speed]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, measure in ways.items():
            found[name].append(measure())
    return {name: Speed(max(s.samples for s in some), min(s.cpu for s in some)) for name, some in found.items()}


def table(
    options: Options, speeds: dict[str, dict[str, Speed]], resume: dict[int, float], memory: list[tuple[int, float]]
) -> str:
    """The page as Markdown. speeds: samples/s by kind of sample and way of reading."""
    kinds = list(speeds)
    rows = "".join(
        f"| {way} |"
        + "".join(
            f" {speeds[kind][way].samples:.0f} | {speeds[kind][way].samples / speeds[kind][BARE].samples:.2f} |"
            f" {speeds[kind][way].cpu:.2f} | {speeds[kind][BARE].cpu / speeds[kind][way].cpu:.2f} |"
            for kind in kinds
        )
        + "\n"
        for way in speeds[kinds[0]]
    )
    points = memory[len(memory) // 5 :]  # the first points lie before all shards, and all caches, were met
    growth = max(mib for _, mib in points) - min(mib for _, mib in points)
    return f"""# The streaming loader

`python -m benchmarks.loader` · {date.today()} · commit {commit()} ·
{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()} · one thread a process,
{options.samples} samples in shards of {options.per_shard}, best of {options.rounds} rounds.

Samples/s over one epoch of shuffled samples. The first counts from the construction of the loader and
takes the checksum of each shard, later ones need not; records are validated in each. The bare loop reads
and decodes (JPEG and PNG, OpenCV) and checks nothing. The first ratio is that to the bare loop (limit for
the loader without workers: 0.90). CPU counts all processes and threads, the start of workers included;
its ratio is bare to loader.

| |{"".join(f" {kind} | ratio | CPU ms | ratio |" for kind in kinds)}
|---|{"---|" * 4 * len(kinds)}
{rows}
From the construction of a loader to its first batch in the middle of epoch {RESUMED // options.samples},
in a fresh process, {kinds[-1]} (limit: 2 s):

| workers | seconds |
|---|---|
{"".join(f"| {workers} | {seconds:.2f} |" + chr(10) for workers, seconds in resume.items())}
Memory (proportional set size) of the process and its 2 workers over {options.stream} small samples,
MiB (largest less smallest after the first fifth: {growth:.0f}):

|{"".join(f" {seen // 1000}k |" for seen, _ in memory)}
|{"---|" * len(memory)}
|{"".join(f" {mib:.0f} |" for _, mib in memory)}
"""


def main() -> None:
    """Measure, print, and rewrite the page."""
    options = tyro.cli(Options, description=__doc__)
    console = Console()
    speeds = {}
    with tempfile.TemporaryDirectory() as parent:
        for kind, sizes in KINDS.items():
            folder = Path(parent) / kind
            write_shards(folder, options, *sizes)
            with console.status(f"samples/s, {kind}"):
                speeds[kind] = measure_speeds(folder, options)
        with console.status("resuming"):
            resume = {workers: fresh(resume_seconds, folder, workers) for workers in (0, 2)}
        small = Path(parent) / "small"
        write_shards(small, options, 96, 96, 1)
        with console.status("memory"):
            memory = fresh(memory_curve, small, options.stream, 2)
    text = table(options, speeds, resume, memory)
    TABLE.write_text(text)
    console.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
