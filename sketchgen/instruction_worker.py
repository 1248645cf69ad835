"""The worker of instruction shards: photo, drawings of a bank, and what is asked about both."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from data_manifests.schema import SCHEMA_VERSION, STRIP_SIDE, Image, Object, Query, Sample, Sketch
from data_manifests.vocabulary import vocabulary
from sketchgen.bank import Drawing, SketchBank
from sketchgen.banks.pictures import PictureBank
from sketchgen.colour import colour_of
from sketchgen.ledger import QueryRow
from sketchgen.photo import Photo, PhotoConfig, PhotoError, decode
from sketchgen.plan import Plan, read_plan, read_shard_plan
from sketchgen.png import plain_png
from sketchgen.sample import object_record
from sketchgen.seed import seed_of
from sketchgen.segmentation import read_mask, read_rle, rescale
from sketchgen.shard import ShardWriter, shard_writer
from sketchgen.source import TWICE, ImageFiles, SourceConfig, SourceImage
from sketchgen.storage import Storage
from sketchgen.tasks.asking import Asked, ask, compact
from sketchgen.tasks.budget import Budget
from sketchgen.tasks.choice import Choice, add_to_surplus
from sketchgen.tasks.config import TasksConfig
from sketchgen.tasks.facts import Facts, area
from sketchgen.tasks.words import PEOPLE
from sketchgen.worker import Clock, Progress, ShardTask

IMAGES_AN_EVENT = 20
"""How often a worker says how far it is."""
FETCHED_AT_ONCE = 16
"""Photos of the web that a worker waits for together."""
TRIES = 5
"""Drawings of a class that are tried where some cannot be read."""
COLOURS_AT = 4
"""How many times smaller a photo may be for its colours to be told."""
YES_OR_NO = {"yes": 1, "no": 0}
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
        self._classes = frozenset(material.bank.categories)
        self._unseen = material.unseen
        self._unseen_words = _words_pattern(material.unseen)
        self._files = ImageFiles(material.source)
        self._label, self._source = material.source.called, material.source.name
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
            for image, read in self._read_ahead(map(self._named, images), budget):
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
        with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
            under_way: deque[tuple[SourceImage, Future[bytes]]] = deque()
            for image in images:
                under_way.append((image, pool.submit(self._files.read, image.file)))
                if len(under_way) > FETCHED_AT_ONCE:
                    first, found = under_way.popleft()
                    yield first, found.result
                if budget.spent:
                    pool.shutdown(wait=False, cancel_futures=True)
            yield from ((image, found.result) for image, found in under_way)

    def _named(self, image: SourceImage) -> SourceImage:
        """The image with our names of its classes."""
        rows = [
            replace(row, instance=replace(row.instance, category=self._name_of(row.instance.category)))
            for row in image.instances
        ]
        asked = [replace(q, category=self._name_of(q.category)) if q.category else q for q in image.asked]
        return replace(image, instances=tuple(rows), asked=tuple(asked))

    def _name_of(self, category: str) -> str:
        return vocabulary().read(category, self._source).name

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
        image, rows = self._usable(image, blank)
        if not self._has_subject(image):
            return rows or [_refused(blank, "no-object", "no object of the image is planned")]
        if budget.spent:
            return [*rows, _refused(blank, "not-needed", "the shard holds as many queries as it was to hold")]
        try:
            with clock("read"):
                declared = (image.width, image.height)
                photo = decode(
                    read(), declared, self._photo, image.relative, reduce=COLOURS_AT if self._with_colours else 8
                )
        except PhotoError as error:
            return [*rows, _refused(blank, error.reason, str(error))]
        with clock("facts"):
            facts = _facts(image, photo, self._label, self._bank, self._with_colours)
        with clock("ask"):
            seed = seed_of(self._seed, self._label, image.image_id)
            pair = self._pairs.pair(image.image_id, seed) if self._pairs else None
            asked = ask(image, facts, self._knows, self._bank, seed, self._tasks, surplus, pair)
            asked = compact(asked, budget.pick(asked.queries, seed))
        with clock("sketch"):
            drawings, broken = self._draw(asked.choices, seed, blank)
        rows += broken
        asked, drawn = _without(asked, drawings)
        if not asked.queries:
            return [*rows, _refused(blank, "no-query", "no task asks anything of this image")]
        add_to_surplus(surplus, asked.choices)
        with clock("write"):
            sketches = [_sketch(row, choice.object_id, drawing) for row, (choice, drawing) in enumerate(drawn)]
            record = _record(_stored(facts, self._knows), sketches, asked.queries)
            strip = [drawing.image for _, drawing in drawn] or [BLANK]
            key = writer.add(photo.jpeg, strip, record, plain_png)
        return rows + [_written(blank, query, key, sketches) for query in asked.queries]

    def _usable(self, image: SourceImage, blank: QueryRow) -> tuple[SourceImage, list[QueryRow]]:
        """The image without what is kept out of training, and a row for each class and question that is not asked."""
        named = {row.instance.category for row in image.instances if row.status == "planned"}
        named |= {query.category for query in image.asked if query.category and not query.reason}
        kept_out = sorted(named & self._unseen)
        undrawn = sorted(named - self._unseen - self._classes)
        rows = [_refused(blank, "class-unseen", f"{name!r} is kept out of training", name) for name in kept_out]
        rows += [_refused(blank, "class-not-drawn", f"the bank has no {name!r}", name) for name in undrawn]
        asked = []
        for query in image.asked:
            if query.reason:
                rows.append(_refused(blank, query.reason, f"question {query.query_id}", query.category))
            elif self._unseen_words and self._unseen_words.search(" ".join((query.question, *query.answers))):
                rows.append(_refused(blank, "class-unseen", f"question {query.query_id}: {query.question}"))
            else:
                asked.append(query)
        instances = tuple(row for row in image.instances if row.instance.category not in self._unseen)
        return replace(image, instances=instances, asked=tuple(asked)), rows

    def _has_subject(self, image: SourceImage) -> bool:
        if image.asked:
            return any(not query.category or query.category in self._classes for query in image.asked)
        return any(row.status == "planned" and row.instance.category in self._classes for row in image.instances)

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
                    broken.append(_refused(blank, "drawing-broken", str(error), choice.category))
            drawings.append(drawing)
        return drawings, broken


def quota(size: int, shard: int, images: int, plan: Plan) -> int:
    """How many of `size` queries a shard gives: in proportion to its images; -1 where size is -1."""
    if size < 0:
        return -1
    start = shard * plan.images_per_shard
    return size * (start + images) // plan.images - size * start // plan.images


def _words_pattern(names: frozenset[str]) -> re.Pattern[str] | None:
    """Finds any of the names as a word, in singular or plural."""
    words = "|".join(sorted(re.escape(name.partition(" (")[0]) for name in names))
    return re.compile(rf"\b(?:{words})(?:e?s)?\b", re.IGNORECASE) if words else None


def _without(asked: Asked, drawings: Sequence[Drawing | None]) -> tuple[Asked, list[tuple[Choice, Drawing]]]:
    """What can be asked with the drawings that there are, and each choice with its drawing."""
    queries = [query for query in asked.queries if query.row < 0 or drawings[query.row] is not None]
    rows = sorted({query.row for query in queries if query.row >= 0})
    drawn = [(asked.choices[row], drawing) for row in rows if (drawing := drawings[row]) is not None]
    return compact(asked, queries), drawn


def _facts(image: SourceImage, photo: Photo, label: str, bank: SketchBank, with_colours: bool) -> Facts:
    """What is annotated, in pixels of the stored photo, with the masks that the source ships.

    with_colours: also what is seen of the only object of a class.
    """
    width, height = photo.size
    counts = Counter(row.instance.category for row in image.instances)
    objects, colours = [], {}
    for row in image.instances:
        if row.reason == TWICE:
            continue
        instance = rescale(row.instance, photo.scale)
        mask = read_rle(instance, height, width)
        status = "written" if row.status == "planned" else row.status
        record = object_record(instance, mask, status, width, height)
        if record is not None:
            objects.append(Object.model_validate(record))
            if with_colours and counts[instance.category] == 1 and instance.category not in PEOPLE:
                colours[instance.object_id] = colour_of(photo.rgb, read_mask(instance, height, width), photo.reduced)
    shown = Image(source=label, id=image.image_id, width=width, height=height, license=image.license)
    alike = frozenset(twin for name in {o.category for o in objects} for twin in bank.lookalikes(name))
    return Facts(shown, tuple(objects), alike, colours)


def _sketch(row: int, object_id: str, drawing: Drawing) -> Sketch:
    return Sketch(
        row=row,
        sketch_id=drawing.sketch_id,
        category=drawing.category,
        source=drawing.source,
        style=drawing.style,
        object_id=object_id,
        generator=drawing.generator,
    )


def _stored(facts: Facts, knows: str) -> Facts:
    """The facts as the sample tells them: nobody is to count, or box, what is only known to be there."""
    if knows != "classes":
        return facts
    return replace(facts, objects=tuple(o.model_copy(update={"status": "crowd"}) for o in facts.objects))


def _record(facts: Facts, sketches: list[Sketch], queries: list[Query]) -> bytes:
    # not validated here: the writer does it, on the text
    sample = Sample.model_construct(
        schema_=SCHEMA_VERSION, image=facts.image, objects=list(facts.objects), sketches=sketches, queries=queries
    )
    return sample.model_dump_json(by_alias=True).encode()


def _written(blank: QueryRow, query: Query, key: str, sketches: Sequence[Sketch]) -> QueryRow:
    shown = sketches[query.row] if query.row >= 0 else None
    return QueryRow(
        shard=blank.shard,
        image_id=blank.image_id,
        query_id=query.query_id,
        task=query.task,
        category=query.category,
        key=key,
        row=query.row,
        sketch_id=shown.sketch_id if shown else "",
        sketch_source=shown.source if shown else "",
        count=query.count,
        match=query.match if query.task == "sbir" else YES_OR_NO.get(query.answers[0].lower(), -1),
        boxes=len(query.boxes),
        box_area=area(query.boxes[0]) if query.boxes else -1.0,
        words=len(query.answers[0].split()),
        answer_source=query.answer_source,
        status="written",
    )


def _refused(blank: QueryRow, reason: str, detail: str, category: str = "") -> QueryRow:
    return QueryRow(blank.shard, blank.image_id, category=category, reason=reason, detail=detail)


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
