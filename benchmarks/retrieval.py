"""`make bench-retrieval`: what coarse to fine saves and keeps, on a gallery that training never saw.

    python -m benchmarks.retrieval            a quarter of an hour and more; trains no embedding
    python -m benchmarks.retrieval --train    trains the embedding of the demonstration model first, into its folder

Scenes of shapeworld lie as JPEGs in a folder; sketches are drawn in the styles of training (by other hands) and in the
one that was held out. A photo is relevant where it shows the sketch's category. Everything runs on one thread and in
one process; seconds are those of the clock and those of the processor, which others on the machine disturb less.
"""

from __future__ import annotations

import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console

from data_manifests.schema import Query
from pipelines import instructions
from pipelines.commit import commit
from sketchgen.instructions import run_instructions
from sketchlm.answer import Question, answer
from sketchlm.bundle import load_bundle
from sketchlm.loading import processor_of
from sketchlm.metrics import Figure, differences, figures
from sketchlm.metrics.retrieval import RETRIEVAL, retrieval_row
from sketchlm.photo import as_photo
from sketchlm.processor import Picture
from sketchlm.retrieval.distillation import train_embedding
from sketchlm.retrieval.embedding import FILE, Embedding, PooledEmbedding, load_embedding, save_embedding
from sketchlm.retrieval.gallery import Gallery, build_gallery
from sketchlm.retrieval.ranking import TOP_N, Ranking, best, coarse_scores, rank
from sketchlm.retrieval.scorer import Scorer
from sketchlm.shards import RawSample, read_samples
from sketchlm.threads import pin_threads
from sketchlm.weights import shipped

Found = TypeVar("Found")
PAGE = Path(__file__).with_suffix(".md")
LICENSE = "that of the code; trained on shapeworld alone"
BY_HAND = "<!-- What follows is written by hand; what stands above is made by `make bench-retrieval`. -->"
TOP_NS = (50, 75, 100, 200)
LARGE = 100_000
"""Photos of the large gallery."""
NOISE = 0.1
"""Of its embeddings, in standard deviations of each number: they are those of real scenes, repeated."""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    photos: int = 1_000
    queries: int = 56
    """Sketches, every photo's first in turn; those of the held-out style are of the same objects."""
    naive: int = 100
    """Photos that the naive loop is timed on; it answers for so many sketches only as the parity is checked on."""
    train: bool = False
    """Train the embedding of the demonstration model (minutes; the shards of `learn` are made where missing)."""
    folder: str = ""
    """Where scenes and galleries lie, for another run; empty = a temporary folder."""


class Sketches(NamedTuple):
    """pixels: as the tower sees them, [3, S, S] each; categories: of each; style: of all."""

    pixels: list[NDArray[np.uint8]]
    categories: list[str]
    style: str


class World(NamedTuple):
    """Photos as files; categories of each, by its name; and sketches in two styles."""

    files: list[str]
    shown: dict[str, set[str]]
    sketches: list[Sketches]


class Seconds(NamedTuple):
    """Of the clock, and of the processor (of one thread)."""

    clock: float
    processor: float

    def of(self, number: float) -> Seconds:
        """A share of them."""
        return Seconds(self.clock / number, self.processor / number)


class Result(NamedTuple):
    """Of one way of searching: seconds a query, and rows of metrics [q]."""

    name: str
    seconds: Seconds
    kept: NDArray[np.float64]
    """Share of the exhaustive top 10 that is in its own [q]."""
    rows: list[Any]


def make_world(folder: Path, options: Options, scorer: Scorer) -> World:
    """Scenes that `learn` never sees, in their files, and sketches by hands that it never saw."""
    files: list[str] = []
    shown: dict[str, set[str]] = {}
    found: list[Sketches] = []
    for recipe in (instructions.learn_val(), instructions.learn_brush()):
        scenes = replace(recipe.source.world, num_scenes=options.photos)
        out = folder / Path(recipe.out).name
        config = replace(recipe, source=replace(recipe.source, world=scenes), out=str(out))
        if run_instructions(config, Console(quiet=True)):
            raise SystemExit(f"the scenes in {out} are not complete")
        pixels: list[NDArray[np.uint8]] = []
        categories: list[str] = []
        for raw in read_samples(str(out)):
            path = folder / "photos" / f"{raw.key}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(raw.jpg)
            if str(path) not in shown:
                files.append(str(path))
                shown[str(path)] = {thing.category for thing in raw.record.objects}
            if len(pixels) < options.queries and raw.record.sketches:
                pixels.append(sketch_of(raw, scorer))
                categories.append(raw.record.sketches[0].category)
        style = "held-out style" if found else "styles of training"
        found.append(Sketches(pixels, categories, style))
    return World(files, shown, found)


def sketch_of(raw: RawSample, scorer: Scorer) -> NDArray[np.uint8]:
    """The first sketch of a sample, as the tower sees it."""
    return scorer.processor._sketches(raw, [0])[0].pixels


def query() -> Query:
    """Whether the object of the sketch is in the photo."""
    return Query(
        query_id="", task="sbir", row=0, category="", boxes=[], count=-1, question="", answers=[""], match=-1,
        answer_source="",
    )  # fmt: skip


class Naive(NamedTuple):
    """The naive loop. look, read: a photo's, to ask the model and to read the file before; said: p(yes) of the first
    sketch for the first photos."""

    look: Seconds
    read: Seconds
    said: list[float]


def measure_naive(scorer: Scorer, world: World, number: int) -> Naive:
    """One photo after the other, the first of them twice: the first call of all is slow."""
    sketch = Picture(world.sketches[0].pixels[0])
    looks, reads, said = [], [], []
    for name in [world.files[0], *world.files[:number]]:
        read, photo = timed(lambda n=name: Picture(scorer.processor.pixels(as_photo(Path(n).read_bytes()))))
        asked = [Question((sketch, photo), query())]
        look, answers = timed(lambda a=asked: answer(scorer.llava, scorer.processor, a))
        looks.append(look)
        reads.append(read)
        said.append(answers[0].yes)
    look, read = (Seconds(*np.median(times[1:], axis=0).tolist()) for times in (looks, reads))
    return Naive(look, read, said[1:])


def timed(work: Callable[..., Found]) -> tuple[Seconds, Found]:
    """Do it, and how long it took."""
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    return Seconds(time.perf_counter() - clock, time.process_time() - processor), found


def scored(
    name: str, seconds: Seconds, found: Sequence[Ranking], truth: Sequence[Ranking], sketches: Sketches, world: World
) -> Result:
    """Rankings of the whole gallery against the exhaustive ones, and against what the photos show."""
    kept, rows = [], []
    for ranking, best_of_all, category in zip(found, truth, sketches.categories, strict=True):
        kept.append(len({*ranking.names[:10]} & {*best_of_all.names[:10]}) / 10)
        grades = [int(category in world.shown[name]) for name in ranking.names]
        rows.append(retrieval_row(-np.arange(len(grades), dtype=np.float64), grades))
    return Result(name, seconds, np.array(kept), rows)


def measure(
    scorer: Scorer, embeddings: dict[str, Embedding], galleries: dict[str, Gallery], sketches: Sketches, world: World
) -> list[Result]:
    """The exhaustive ranking, then each embedding alone and at each top_n."""
    probes, number = sketches.pixels, len(sketches.pixels)
    first = next(iter(embeddings))
    seconds, truth = timed(partial(rank, scorer, embeddings[first], probes, galleries[first], 0, exhaustive=True))
    results = [scored("exhaustive, cached", seconds.of(number), truth, truth, sketches, world)]
    for name, embedding in embeddings.items():
        results.append(coarse_alone(name, scorer, embedding, galleries[name], truth, sketches, world))
        for top_n in TOP_NS:
            seconds, found = timed(partial(rank, scorer, embedding, probes, galleries[name], 0, top_n))
            results.append(scored(f"{name}, top_n {top_n}", seconds.of(number), found, truth, sketches, world))
    return results


def coarse_alone(
    name: str,
    scorer: Scorer,
    embedding: Embedding,
    gallery: Gallery,
    truth: Sequence[Ranking],
    sketches: Sketches,
    world: World,
) -> Result:
    """The order of the embeddings, without the model."""

    def search() -> list[NDArray[np.int64]]:
        scores = coarse_scores(gallery.embeddings, vectors_of(scorer, embedding, sketches.pixels))[:, gallery.rows]
        return [best(row, len(row)) for row in scores]

    seconds, orders = timed(search)
    nothing = np.full(len(gallery), np.nan, np.float32)
    found = [Ranking(tuple(gallery.names[p] for p in order), order, nothing, nothing) for order in orders]
    return scored(f"{name}, coarse alone", seconds.of(len(orders)), found, truth, sketches, world)


def vectors_of(scorer: Scorer, embedding: Embedding, sketches: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Of sketches as the tower sees them, [q, d]."""
    features = torch.cat([scorer.features(sketch[None]) for sketch in sketches])
    with torch.inference_mode():
        return np.asarray(embedding.sketches(features).numpy(), np.float32)


class Large(NamedTuple):
    """The coarse stage of a large gallery: seconds a query for one sketch and for 32 at once; MiB of its embeddings,
    and what the process grew by."""

    alone: float
    together: float
    stored: float
    grown: float


def measure_large(gallery: Gallery, embedding: Embedding, scorer: Scorer, sketches: Sketches, folder: Path) -> Large:
    """Embeddings of real scenes, repeated with noise, in a file."""
    rng = np.random.default_rng(0)
    real = np.asarray(gallery.embeddings)[gallery.rows]
    path = folder / "large.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (LARGE, real.shape[1]))
    for start in range(0, LARGE, len(real)):
        block = real[: LARGE - start]
        rows[start : start + len(block)] = block + NOISE * real.std(0) * rng.standard_normal(block.shape)
    rows.flush()
    del rows
    vectors = vectors_of(scorer, embedding, sketches.pixels[:32])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        alone, together, grown = pool.submit(search_large, path, vectors).result()
    return Large(alone, together, path.stat().st_size / 2**20, grown)


def search_large(path: Path, vectors: NDArray[np.float32]) -> tuple[float, float, float]:
    """In a process of its own: seconds a query for one sketch and for all at once, and MiB that it grew by."""
    pin_threads(1)
    before = peak_mib()
    embeddings = np.load(path, mmap_mode="r")

    def search(wanted: NDArray[np.float32]) -> float:
        began = time.perf_counter()
        for row in coarse_scores(embeddings, wanted):
            best(row, TOP_N)
        return (time.perf_counter() - began) / len(wanted)

    search(vectors[:1])  # from the disk into the cache
    alone = float(np.median([search(vector[None]) for vector in vectors]))
    together = search(vectors)
    return alone, together, peak_mib() - before


def peak_mib() -> float:
    """Memory of this process at its peak. (getrusage counts that of the process which started it, too.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def table(results: Sequence[Result], naive: Seconds, queries: int) -> str:
    """One line a way of searching. naive: seconds a query."""
    groups = list(map(str, range(queries)))
    truth, measures = results[0].rows, {"mAP": RETRIEVAL["mAP"]}
    lines = [
        "| | s / query | × naive | × naive, processor | kept of the top 10 | mAP | mAP above exhaustive (95 %) |",
        "|---|---|---|---|---|---|---|",
        f"| naive loop of full forwards | {naive.clock:.2f} | 1 | 1 | | | |",
    ]
    for result in results:
        whole = figures(result.rows, measures, groups)["mAP"]
        off = differences(result.rows, truth, measures, groups)["mAP"]
        against = "" if result is results[0] else f"{off.value:+.3f} ({off.low:+.3f} to {off.high:+.3f})"
        lines.append(
            f"| {result.name} | {result.seconds.clock:.3f} | {naive.clock / result.seconds.clock:.0f} | "
            f"{naive.processor / result.seconds.processor:.0f} | {result.kept.mean():.3f} | {interval(whole)} | "
            f"{against} |"
        )
    return "\n".join(lines)


def interval(figure: Figure) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f}-{figure.high:.3f})"


def train(scorer: Scorer, console: Console) -> None:
    """The embedding of the demonstration model, into its folder."""
    shards = instructions.ensure("learn", console)
    began = time.perf_counter()
    with console.status("training the embedding") as status:
        embedding = train_embedding(
            scorer, read_samples(shards), seen=lambda what, done, of: status.update(f"{what}: {done} of {of}")
        )
    seconds = round(time.perf_counter() - began)
    save_embedding(
        embedding, shipped("learn") / FILE, recipe="learn", scenes="shapeworld", commit=commit(), license=LICENSE
    )
    console.print(f"trained in {seconds} s: {shipped('learn') / FILE}")


class Page(NamedTuple):
    """What the page tells."""

    world: World
    naive: Naive
    parts: list[str]
    """A table for each style of sketches."""
    off: float
    """Of p(yes): the naive loop against the exhaustive cached ranking, at most."""
    rate: float
    """Photos a second of building a gallery."""
    large: Large
    fine: float
    """Seconds of a search with TOP_N."""


def main() -> None:
    """Measure, print, and rewrite the page above what was written by hand."""
    options = tyro.cli(Options, description=__doc__)
    pin_threads(1)
    console = Console(highlight=False)
    bundle = load_bundle(shipped("learn"))
    scorer = Scorer(bundle.model, processor_of(bundle, ("sbir",)))
    if options.train:
        train(scorer, console)
    with tempfile.TemporaryDirectory() as temporary:
        page = measure_all(scorer, options, Path(temporary), console)
    write(page)
    console.print(f"written: {PAGE}")


def measure_all(scorer: Scorer, options: Options, temporary: Path, console: Console) -> Page:
    """In the order of the page."""
    embeddings: dict[str, Embedding] = {
        "trained": load_embedding(shipped("learn") / FILE, scorer),
        "untrained": PooledEmbedding(scorer),
    }
    with console.status("making scenes"):
        world = make_world(Path(options.folder).absolute() if options.folder else temporary, options, scorer)
    galleries, rate = {}, 0.0
    for name, embedding in embeddings.items():
        build = partial(build_gallery, temporary / f"gallery-{name}", world.files, scorer, embedding)
        seconds, galleries[name] = timed(build)
        rate = len(world.files) / seconds.clock
    with console.status("the naive loop"):
        naive = measure_naive(scorer, world, options.naive)
    parts, fine = [], []
    for sketches in world.sketches:
        with console.status(f"searching, {sketches.style}"):
            results = measure(scorer, embeddings, galleries, sketches, world)
        text = table(results, naive.look.of(1 / len(world.files)), len(sketches.pixels))
        parts.append(f"## Sketches in the {sketches.style}\n\n{text}\n")
        console.print(parts[-1], markup=False, soft_wrap=True)
        fine.append(next(r.seconds.clock for r in results if r.name == f"trained, top_n {TOP_N}"))
    first = world.sketches[0].pixels[:1]
    truth = rank(scorer, embeddings["trained"], first, galleries["trained"], 0, exhaustive=True)[0]
    by_name = dict(zip(truth.names, truth.yes, strict=True))
    off = max(abs(by_name[name] - yes) for name, yes in zip(world.files, naive.said, strict=False))
    large = measure_large(galleries["trained"], embeddings["trained"], scorer, world.sketches[0], temporary)
    return Page(world, naive, parts, float(off), rate, large, fine[0])


def write(page: Page) -> None:
    """The page; what was written by hand stays."""
    world, naive, large = page.world, page.naive, page.large
    photos, sketches = len(world.files), len(world.sketches[0].pixels)
    size = (shipped("learn") / FILE).stat().st_size / 1000
    minutes = naive.look.clock * LARGE / 60
    tables = "".join(f"{part}\n" for part in page.parts)
    head = f"""# Retrieval

`python -m benchmarks.retrieval` · {date.today()} · commit {commit()} · {platform.machine()}, torch \
{torch.__version__.split("+")[0]}, one thread · the demonstration model, a gallery of {photos:,} scenes that it never \
saw, {sketches} sketches by unseen hands.

The naive loop is `answer` for one photo after the other, pixels ready in memory: {1000 * naive.look.clock:.1f} ms \
a photo, the median of {len(naive.said)} of the {photos:,} ({1000 * naive.read.clock:.1f} ms more where its file is \
read). Its p(yes) and that of the exhaustive cached ranking, whose features are in half precision, differ by \
{page.off:.1e} at most. Seconds of a search hold all of it: the tower on the sketch, the coarse order of the whole \
gallery, the model on `top_n` photos ({TOP_N} by default). mAP: a photo is relevant where it shows the sketch's \
category; photos that the model did not look at stand behind the others, by their coarse score. Intervals are over \
sketches.

{tables}## Larger galleries

Building a gallery: {page.rate:.0f} photos a second (read, decoded, hashed, seen by the tower, written). The trained \
embedding is a file of {size:.0f} kB.

{LARGE:,} photos (embeddings of the {photos:,} scenes, repeated with noise of {NOISE:g} standard deviations; they \
serve for the time alone): the file of embeddings has {large.stored:.1f} MiB, and a process that searches it for 32 \
sketches grows by {large.grown:.0f} MiB, mapped pages among them. The coarse stage takes {1000 * large.alone:.1f} ms \
for one sketch, {1000 * large.together:.1f} ms each for 32 at once. The fine stage looks at `top_n` photos whatever \
the size of the gallery: {1000 * page.fine:.0f} ms at {TOP_N}, measured above. **Projected: \
{1000 * (page.fine + large.alone):.0f} ms a query**; the naive loop would take {minutes:.0f} minutes.
"""
    by_hand = PAGE.read_text().partition(BY_HAND)[2] if PAGE.is_file() else "\n"
    PAGE.write_text(f"{head}\n{BY_HAND}{by_hand}")


if __name__ == "__main__":
    main()
