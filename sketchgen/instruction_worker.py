"""The worker of instruction shards: photo, drawings of a bank, and what is asked about both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from data_manifests.schema import SCHEMA_VERSION, Image, Object, Query, Sample, Sketch
from data_manifests.vocabulary import vocabulary
from sketchgen.bank import Drawing, SketchBank
from sketchgen.ledger import QueryRow
from sketchgen.photo import Photo, PhotoConfig, PhotoError, decode
from sketchgen.plan import read_shard_plan
from sketchgen.png import plain_png
from sketchgen.sample import object_record
from sketchgen.seed import seed_of
from sketchgen.segmentation import read_mask, rescale
from sketchgen.shard import ShardWriter, shard_writer
from sketchgen.source import TWICE, ImageFiles, SourceConfig, SourceImage
from sketchgen.storage import Storage
from sketchgen.tasks import build_queries
from sketchgen.tasks.choice import add_to_surplus, choose_categories
from sketchgen.tasks.config import TasksConfig
from sketchgen.tasks.facts import Facts, area
from sketchgen.worker import Clock, Progress, ShardTask

IMAGES_AN_EVENT = 20
"""How often a worker says how far it is."""


class InstructionWorker:
    """Calling it with a shard number makes that shard and yields `Progress` as it goes."""

    def __init__(
        self,
        storage: Storage,
        bank: SketchBank,
        source: SourceConfig,
        tasks: TasksConfig,
        photo: PhotoConfig,
        seed: int,
        mark: str,
    ) -> None:
        """mark: the settings' fingerprint."""
        self._storage = storage
        self._bank = bank
        self._classes = frozenset(bank.categories)
        self._files = ImageFiles(source)
        self._label = source.called
        self._source = source.name
        self._tasks = tasks
        self._photo = photo
        self._seed = seed
        self._mark = mark

    def __call__(self, task: ShardTask) -> Iterator[Progress]:
        shard = task.shard
        clock = Clock()
        surplus: Counter[str] = Counter()  # of this shard alone: shards do not know each other
        with shard_writer(self._storage, shard, self._mark, QueryRow) as writer:
            for image in map(self._named, read_shard_plan(self._storage, shard)):
                writer.images += 1
                writer.rows += self._add(writer, shard, image, surplus, clock)
                if writer.images % IMAGES_AN_EVENT == 0:
                    yield _progress(shard, writer, clock, done=False)
        yield _progress(shard, writer, clock, done=True)

    def _named(self, image: SourceImage) -> SourceImage:
        """The image with our names of its classes."""
        rows = [
            replace(row, instance=replace(row.instance, category=self._name_of(row.instance.category)))
            for row in image.instances
        ]
        return replace(image, instances=tuple(rows))

    def _name_of(self, category: str) -> str:
        return vocabulary().read(category, self._source).name

    def _add(
        self, writer: ShardWriter, shard: int, image: SourceImage, surplus: Counter[str], clock: Clock
    ) -> list[QueryRow]:
        """Write the sample of one image, and return its rows of the ledger."""
        named = {row.instance.category for row in image.instances if row.status == "planned"}
        blank = QueryRow(shard, image.image_id)
        rows = [_refused(blank, "class-not-drawn", f"the bank has no {name!r}", name) for name in named - self._classes]
        rows.sort(key=lambda row: row.category)
        if not named & self._classes:
            return rows or [_refused(blank, "no-object", "no object of the image is planned")]
        try:
            with clock("read"):
                photo = decode(self._files.read(image.file), (image.width, image.height), self._photo, image.relative)
        except PhotoError as error:
            return [*rows, _refused(blank, error.reason, str(error))]
        with clock("facts"):
            facts = _facts(image, photo, self._label)
        seed = seed_of(self._seed, self._label, image.image_id)
        chosen = choose_categories(facts.objects, self._bank, seed, self._tasks, surplus)
        with clock("sketch"):
            drawings = [self._bank.draw(choice.category, seed_of(seed, choice.category)) for choice in chosen]
        with clock("ask"):
            sketches = [
                _sketch(row, choice.object_id, drawing)
                for row, (choice, drawing) in enumerate(zip(chosen, drawings, strict=True))
            ]
            queries = build_queries(facts, sketches, seed, self._tasks)
        if not queries:
            return [*rows, _refused(blank, "no-query", f"{len(sketches)} sketches, no task asks about them")]
        add_to_surplus(surplus, chosen)
        with clock("write"):
            record = _record(facts, sketches, queries)
            key = writer.add(photo.jpeg, [drawing.image for drawing in drawings], record, plain_png)
        return rows + [_written(blank, query, key, sketches) for query in queries]


def _facts(image: SourceImage, photo: Photo, label: str) -> Facts:
    """What is annotated, in pixels of the stored photo, with the masks that the source ships."""
    height, width = photo.rgb.shape[:2]
    objects = []
    for row in image.instances:
        if row.reason == TWICE:
            continue
        instance = rescale(row.instance, photo.scale)
        mask = read_mask(instance, height, width)
        status = "written" if row.status == "planned" else row.status
        record = object_record(instance, mask if mask.area else None, status, width, height)
        if record is not None:
            objects.append(Object.model_validate(record))
    shown = Image(source=label, id=image.image_id, width=width, height=height, license=image.license)
    return Facts(shown, tuple(objects))


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
        match=query.match,
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
