"""The worker of instruction shards: photo, drawings of a bank, and what is asked about both."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from data_manifests.schema import STRIP_SIDE
from sketchgen.askable import Askable
from sketchgen.bank import Drawing, SketchBank
from sketchgen.banks.pictures import PictureBank
from sketchgen.instruction_sample import facts_of_image, record_of, refused_row, sketch_of, stored, written_row
from sketchgen.ledger import QueryRow
from sketchgen.photo import PhotoConfig, PhotoError, decode
from sketchgen.plan import Plan, read_plan, read_shard_plan
from sketchgen.png import plain_png
from sketchgen.seed import seed_of
from sketchgen.shard import ShardWriter, shard_writer
from sketchgen.source import ImageFiles, SourceConfig, SourceImage
from sketchgen.storage import Storage
from sketchgen.tasks.asking import Asked, ask, compact
from sketchgen.tasks.budget import Budget
from sketchgen.tasks.choice import Choice, add_to_surplus
from sketchgen.tasks.config import TasksConfig
from sketchgen.worker import Clock, Progress, ShardTask

IMAGES_AN_EVENT = 20
"""How often a worker says how far it is."""
FETCHED_AT_ONCE = 16
"""Photos of the web that a worker waits for together."""
TRIES = 5
"""Drawings of a class that are tried where some cannot be read."""
COLOURS_AT = 4
"""How many times smaller a photo may be for its colours to be told."""
BLANK = np.full((STRIP_SIDE, STRIP_SIDE), 255, np.uint8)
"""The strip of a sample without a sketch."""


@dataclass(frozen=True)
class Material:
    """What questions are made of."""

    source: SourceConfig
    bank: SketchBank
    pairs: PictureBank | None = None
    """Drawings made of the photos themselves, for `tasks.own`."""
    unseen: frozenset[str] = frozenset()
    """Our names of classes that are kept out of training: nothing of them is drawn, asked or named."""


class InstructionWorker:
    """Calling it with a shard number makes that shard and yields `Progress` as it goes."""

    def __init__(
        self,
        storage: Storage,
        material: Material,
        tasks: TasksConfig,
        photo: PhotoConfig,
        seed: int,
        size: int,
        mark: str,
    ) -> None:
        """size: queries of the whole run, -1 = all that there are; mark: the settings' fingerprint."""
        self._storage = storage
        self._bank, self._pairs = material.bank, material.pairs
        self._askable = Askable(material.source.name, material.bank.categories, material.unseen)
        self._files = ImageFiles(material.source)
        self._label = material.source.called
        self._knows = material.source.knows
        self._tasks = tasks
        self._with_colours = "vqa" in tasks.names and "colour" in tasks.questions
        self._photo = photo
        self._seed = seed
        self._plan = read_plan(storage)
        self._size = size
        self._mark = mark

    def __call__(self, task: ShardTask) -> Iterator[Progress]:
        shard = task.shard
        clock = Clock()
        images = list(read_shard_plan(self._storage, shard))
        budget = Budget(quota(self._size, shard, len(images), self._plan), len(images))
        surplus: Counter[str] = Counter()  # of this shard alone: shards do not know each other
        with shard_writer(self._storage, shard, self._mark, QueryRow) as writer:
            for image, read in self._read_ahead(map(self._askable.named, images), budget):
                writer.images += 1
                writer.rows += self._add(writer, shard, image, read, budget, surplus, clock)
                budget.pass_on()
                if writer.images % IMAGES_AN_EVENT == 0:
                    yield _progress(shard, writer, clock, done=False)
        yield _progress(shard, writer, clock, done=True)

    def _read_ahead(
        self, images: Iterable[SourceImage], budget: Budget
    ) -> Iterator[tuple[SourceImage, Callable[[], bytes]]]:
        """The images with the way to get their bytes; those that come from the web are on their way already."""
        if self._files.downloads is None:
            yield from ((image, partial(self._files.read, image.file)) for image in images)
            return
        pool = ThreadPoolExecutor(FETCHED_AT_ONCE)
        under_way: deque[tuple[SourceImage, Future[bytes]]] = deque()
        try:
            for image in images:
                wanted = not budget.spent and self._askable.is_left(image)
                under_way.append((image, pool.submit(self._files.read, image.file) if wanted else _unread()))
                if len(under_way) > FETCHED_AT_ONCE:
                    first, found = under_way.popleft()
                    yield first, found.result
            yield from ((image, found.result) for image, found in under_way)
        finally:  # on any way out: what has not begun never will
            pool.shutdown(wait=False, cancel_futures=True)

    def _add(
        self,
        writer: ShardWriter,
        shard: int,
        image: SourceImage,
        read: Callable[[], bytes],
        budget: Budget,
        surplus: Counter[str],
        clock: Clock,
    ) -> list[QueryRow]:
        """Write the sample of one image, and return its rows of the ledger."""
        blank = QueryRow(shard, image.image_id)
        image, rows = self._askable.sift(image, blank)
        if not self._askable.is_left(image):
            return rows or [refused_row(blank, "no-object", "no object of the image is planned")]
        if budget.spent:
            return [*rows, refused_row(blank, "not-needed", "the shard holds as many queries as it was to hold")]
        try:
            with clock("read"):
                declared = (image.width, image.height)
                photo = decode(
                    read(), declared, self._photo, image.relative, reduce=COLOURS_AT if self._with_colours else 8
                )
        except PhotoError as error:
            return [*rows, refused_row(blank, error.reason, str(error))]
        with clock("facts"):
            facts = facts_of_image(image, photo, self._label, self._bank, self._with_colours)
        with clock("ask"):
            seed = seed_of(self._seed, self._label, image.image_id)
            pair, lost = self._pair(image, seed, blank)
            rows += lost
            asked = ask(image, facts, self._knows, self._bank, seed, self._tasks, surplus, pair)
            asked = compact(asked, budget.pick(asked.queries, seed))
        with clock("sketch"):
            drawings, broken = self._draw(asked.choices, seed, blank)
        rows += broken
        asked, drawn = _without(asked, drawings)
        if not asked.queries:
            return [*rows, refused_row(blank, "no-query", "no task asks anything of this image")]
        add_to_surplus(surplus, asked.choices)
        with clock("write"):
            sketches = [sketch_of(row, choice.object_id, drawing) for row, (choice, drawing) in enumerate(drawn)]
            record = record_of(stored(facts, self._knows), sketches, asked.queries)
            strip = [drawing.image for _, drawing in drawn] or [BLANK]
            key = writer.add(photo.jpeg, strip, record, plain_png)
        return rows + [written_row(blank, query, key, sketches) for query in asked.queries]

    def _pair(
        self, image: SourceImage, seed: int, blank: QueryRow
    ) -> tuple[tuple[Drawing, Drawing] | None, list[QueryRow]]:
        """A drawing made of this photo and one of another, where there are such; a row where one cannot be read."""
        try:
            return (self._pairs.pair(image.image_id, seed) if self._pairs else None), []
        except ValueError as error:
            return None, [refused_row(blank, "drawing-broken", str(error))]

    def _draw(
        self, choices: Sequence[Choice], seed: int, blank: QueryRow
    ) -> tuple[list[Drawing | None], list[QueryRow]]:
        """A drawing for each choice, another one where one cannot be read; None where TRIES of them cannot be."""
        drawings: list[Drawing | None] = []
        broken = []
        for choice in choices:
            drawing = choice.drawing
            for number in range(TRIES):
                if drawing is not None:
                    break
                parts = (seed, choice.category, number) if number else (seed, choice.category)
                try:
                    drawing = self._bank.draw(choice.category, seed_of(*parts))
                except ValueError as error:
                    broken.append(refused_row(blank, "drawing-broken", str(error), choice.category))
            drawings.append(drawing)
        return drawings, broken


def _unread() -> Future[bytes]:
    """In place of a photo that nobody will look at."""
    unread: Future[bytes] = Future()
    unread.set_exception(AssertionError("this photo was not asked for"))
    return unread


def quota(size: int, shard: int, images: int, plan: Plan) -> int:
    """How many of `size` queries a shard gives: in proportion to its images; -1 where size is -1."""
    if size < 0:
        return -1
    start = shard * plan.images_per_shard
    return size * (start + images) // plan.images - size * start // plan.images


def _without(asked: Asked, drawings: Sequence[Drawing | None]) -> tuple[Asked, list[tuple[Choice, Drawing]]]:
    """What can be asked with the drawings that there are, and each choice with its drawing."""
    queries = [query for query in asked.queries if query.row < 0 or drawings[query.row] is not None]
    rows = sorted({query.row for query in queries if query.row >= 0})
    drawn = [(asked.choices[row], drawing) for row in rows if (drawing := drawings[row]) is not None]
    return compact(asked, queries), drawn


def _progress(shard: int, writer: ShardWriter, clock: Clock, done: bool) -> Progress:
    return Progress(
        shard=shard,
        images=writer.images,
        written=sum(row.status == "written" for row in writer.rows),
        rejected=dict(Counter(row.reason for row in writer.rows if row.reason)),
        seconds=dict(clock.seconds),
        done=done,
        elapsed=clock.elapsed,
    )
