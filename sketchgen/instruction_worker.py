"""The worker of instruction shards: photo, drawings of a bank, and what is asked about both."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random

import numpy as np

from data_manifests.schema import STRIP_SIDE
from sketchgen.askable import Askable
from sketchgen.bank import Drawing, SketchBank
from sketchgen.banks.pictures import PictureBank
from sketchgen.downloads import UNREACHABLE
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
FEW_PHOTOS = 8
"""So many that are not reached say nothing of the web as a whole."""
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
        self._with_colours = "vqa" in tasks.names and bool({"colour", "coloured"} & set(tasks.questions))
        self._photo = photo
        self._seed = seed
        self._plan = read_plan(storage)
        self._size = size
        self._mark = mark

    def __call__(self, task: ShardTask) -> Iterator[Progress]:
        shard = task.shard
        work = _Work(shard, Clock(), Counter(), set())
        images = [self._askable.named(image) for image in read_shard_plan(self._storage, shard)]
        size = quota(self._size, shard, len(images), self._plan)
        budget = Budget(size, seed_of(self._seed, "budget", shard))
        if size >= 0:  # what comes in an order (by class, say) gives nothing more for coming first
            Random(f"order/{self._seed}/{shard}").shuffle(images)
        with shard_writer(self._storage, shard, self._mark, QueryRow) as writer:
            skipped: list[SourceImage] = []
            for image, read, share in self._shared_out(images, budget):
                writer.images += 1
                if share == 0 and self._askable.is_left(image):
                    skipped.append(image)
                else:
                    writer.rows += self._add(writer, work, image, read, budget, share)
                if writer.images % IMAGES_AN_EVENT == 0:
                    yield _progress(writer, work, done=False)
            # those that were passed over make up for those that had nothing to ask
            for number, (image, read, share) in enumerate(self._shared_out(skipped, budget), 1):
                writer.rows += self._add(writer, work, image, read, budget, share)
                if number % IMAGES_AN_EVENT == 0:
                    yield _progress(writer, work, done=False)
            self._check_web(writer.rows)
        yield _progress(writer, work, done=True)

    def _shared_out(
        self, images: Sequence[SourceImage], budget: Budget
    ) -> Iterator[tuple[SourceImage, Callable[[], bytes], int]]:
        """The images with the way to get their bytes, and how many queries they may give; those that come from the web
        are on their way already."""
        budget.begin(len(images))
        if self._files.downloads is None:
            yield from ((image, partial(self._files.read, image.file), budget.share()) for image in images)
            return
        pool = ThreadPoolExecutor(FETCHED_AT_ONCE)
        under_way: deque[tuple[SourceImage, Callable[[], bytes], int]] = deque()
        try:
            for image in images:
                share = budget.share()
                wanted = share and not budget.spent and self._askable.is_left(image)
                found = pool.submit(self._files.read, image.file) if wanted else _unread()
                under_way.append((image, found.result, share))
                if len(under_way) > FETCHED_AT_ONCE:
                    yield under_way.popleft()
            yield from under_way
        finally:  # on any way out: what has not begun never will
            pool.shutdown(wait=False, cancel_futures=True)

    def _add(
        self,
        writer: ShardWriter,
        work: _Work,
        image: SourceImage,
        read: Callable[[], bytes],
        budget: Budget,
        share: int,
    ) -> list[QueryRow]:
        """Write the sample of one image, and return its rows of the ledger."""
        blank, clock = QueryRow(work.shard, image.image_id), work.clock
        image, rows = self._askable.sift(image, blank)
        if not self._askable.is_left(image):
            return rows or [refused_row(blank, "no-object", "no object of the image is planned")]
        if share == 0 or budget.spent:
            return [*rows, refused_row(blank, "not-needed", "the shard holds as many queries as it was to hold")]
        try:
            with clock("read"):
                declared, reduce = (image.width, image.height), COLOURS_AT if self._with_colours else 8
                photo = decode(read(), declared, self._photo, image.relative, reduce)
        except PhotoError as error:
            return [*rows, refused_row(blank, error.reason, str(error))]
        with clock("facts"):
            facts = facts_of_image(image, photo, self._label, self._bank, self._with_colours)
        with clock("ask"):
            seed = seed_of(self._seed, self._label, image.image_id)
            own = partial(self._pair, image, blank, rows)
            asked = ask(image, facts, self._knows, self._bank, seed, self._tasks, work.surplus, own, work.lost)
            asked = compact(asked, budget.pick(asked.queries, share, seed))
        with clock("sketch"):
            drawings, broken = self._draw(asked.choices, seed, blank, work.lost)
        rows += broken
        asked, drawn = _without(asked, drawings, budget)
        if not asked.queries:
            return [*rows, refused_row(blank, "no-query", "no task asks anything of this image")]
        add_to_surplus(work.surplus, asked.choices)
        with clock("write"):
            sketches = [sketch_of(row, choice.object_id, drawing) for row, (choice, drawing) in enumerate(drawn)]
            record = record_of(stored(facts, self._knows), sketches, asked.queries)
            strip = [drawing.image for _, drawing in drawn] or [BLANK]
            key = writer.add(photo.jpeg, strip, record, plain_png)
        return rows + [written_row(blank, query, key, sketches) for query in asked.queries]

    def _pair(
        self, image: SourceImage, blank: QueryRow, rows: list[QueryRow], seed: int
    ) -> tuple[Drawing, Drawing] | None:
        """A drawing made of this photo and one of another, where there are such; a row where one cannot be read."""
        try:
            return self._pairs.pair(image.image_id, seed) if self._pairs else None
        except ValueError as error:
            rows.append(refused_row(blank, "drawing-broken", str(error)))
            return None

    def _draw(
        self, choices: Sequence[Choice], seed: int, blank: QueryRow, lost: set[str]
    ) -> tuple[list[Drawing | None], list[QueryRow]]:
        """A drawing for each choice, another one where one cannot be read; None where TRIES of them cannot be, and its
        class is then among the lost."""
        drawings: list[Drawing | None] = []
        broken = []
        for choice in choices:
            drawing = choice.drawing
            for attempt in range(TRIES):
                if drawing is not None:
                    break
                parts = tuple(number for number in (choice.number, attempt) if number or attempt)
                try:
                    drawing = self._bank.draw(choice.category, seed_of(seed, choice.category, *parts))
                except ValueError as error:
                    broken.append(refused_row(blank, "drawing-broken", str(error), choice.category))
            if drawing is None:
                lost.add(choice.category)
            drawings.append(drawing)
        return drawings, broken

    def _check_web(self, rows: Sequence[QueryRow]) -> None:
        """Raises OSError where the web itself seems to be away: the shard is to be made again, then."""
        asked = {row.image_id: row.reason for row in rows if row.reason != "not-needed"}
        lost = sum(reason == UNREACHABLE for reason in asked.values())
        if lost >= FEW_PHOTOS and lost > len(asked) / 2:
            raise OSError(f"{lost} of {len(asked)} photos could not be reached: is the web there? Try again later")


@dataclass
class _Work:
    """What a worker knows of the shard that it is at."""

    shard: int
    clock: Clock
    surplus: Counter[str]
    """Of this shard alone: shards do not know each other."""
    lost: set[str]
    """Classes whose drawings could not be read."""


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


def _without(
    asked: Asked, drawings: Sequence[Drawing | None], budget: Budget
) -> tuple[Asked, list[tuple[Choice, Drawing]]]:
    """What can be asked with the drawings that there are, and each choice with its drawing."""
    budget.give_back([query for query in asked.queries if query.row >= 0 and drawings[query.row] is None])
    queries = [query for query in asked.queries if query.row < 0 or drawings[query.row] is not None]
    rows = sorted({query.row for query in queries if query.row >= 0})
    drawn = [(asked.choices[row], drawing) for row in rows if (drawing := drawings[row]) is not None]
    return compact(asked, queries), drawn


def _progress(writer: ShardWriter, work: _Work, done: bool) -> Progress:
    return Progress(
        shard=work.shard,
        images=writer.images,
        written=sum(row.status == "written" for row in writer.rows),
        rejected=dict(Counter(row.reason for row in writer.rows if row.reason)),
        seconds=dict(work.clock.seconds),
        done=done,
        elapsed=work.clock.elapsed,
    )
