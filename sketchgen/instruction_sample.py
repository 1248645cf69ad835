"""Samples of the instruction shards: facts, sketches and queries in the form of the contract, and their ledger rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from data_manifests.schema import SCHEMA_VERSION, Image, Object, Query, Sample, Sketch
from data_manifests.vocabulary import vocabulary
from sketchgen.bank import Drawing, SketchBank
from sketchgen.colour import colour_of, has_colours
from sketchgen.ledger import QueryRow
from sketchgen.photo import Photo
from sketchgen.sample import object_record
from sketchgen.segmentation import read_mask, read_rle, rescale
from sketchgen.source import TWICE, SourceImage
from sketchgen.tasks.facts import Facts, area
from sketchgen.tasks.words import PEOPLE

YES_OR_NO = {"yes": 1, "no": 0}


def facts_of_image(image: SourceImage, photo: Photo, label: str, bank: SketchBank, with_colours: bool) -> Facts:
    """What is annotated, in pixels of the stored photo, with the masks that the source ships.

    with_colours: also what is seen of the only object of a class.
    """
    width, height = photo.size
    counts = Counter(row.instance.category for row in image.instances)
    objects, colours, lost = [], {}, set()
    with_colours = with_colours and has_colours(photo.rgb)
    for row in image.instances:
        if row.reason == TWICE:
            continue
        instance = rescale(row.instance, photo.scale)
        mask = read_rle(instance, height, width)
        status = "written" if row.status == "planned" else row.status
        record = object_record(instance, mask, status, width, height)
        if record is None:
            lost.add(instance.category)
            continue
        objects.append(Object.model_validate(record))
        if with_colours and counts[instance.category] == 1 and instance.category not in PEOPLE:
            colours[instance.object_id] = colour_of(photo.rgb, read_mask(instance, height, width), photo.reduced)
    shown = {o.category for o in objects} - {""}
    return Facts(
        Image(source=label, id=image.image_id, width=width, height=height, license=image.license),
        tuple(objects),
        alike=frozenset(twin for name in shown for twin in bank.lookalikes(name)),
        colours=colours,
        # a row whose box means nothing says that its class is there, and not how often
        unclear=frozenset(vocabulary().unclear(shown) | lost - {""}),
    )


def sketch_of(row: int, object_id: str, drawing: Drawing) -> Sketch:
    """A drawing in a row of the strip; object_id: what it shows of the image, "" for nothing of it."""
    return Sketch(
        row=row,
        sketch_id=drawing.sketch_id,
        category=drawing.category,
        source=drawing.source,
        style=drawing.style,
        object_id=object_id,
        generator=drawing.generator,
    )


def stored(facts: Facts, knows: str) -> Facts:
    """The facts as the sample tells them: nobody is to count, or box, what is only known to be there."""
    if knows != "classes":
        return facts
    return replace(facts, objects=tuple(o.model_copy(update={"status": "crowd"}) for o in facts.objects))


def record_of(facts: Facts, sketches: list[Sketch], queries: list[Query]) -> bytes:
    """The json of a sample. Not validated here: the writer does it, on the text."""
    sample = Sample.model_construct(
        schema_=SCHEMA_VERSION, image=facts.image, objects=list(facts.objects), sketches=sketches, queries=queries
    )
    return sample.model_dump_json(by_alias=True).encode()


def written_row(blank: QueryRow, query: Query, key: str, sketches: Sequence[Sketch]) -> QueryRow:
    """The row of the ledger of a query. blank: with shard and image; key: of its sample."""
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


def refused_row(blank: QueryRow, reason: str, detail: str, category: str = "") -> QueryRow:
    """The row of the ledger of an image, or a class of it, that is not asked about. reason: a slug; detail: the value
    seen."""
    return QueryRow(blank.shard, blank.image_id, category=category, reason=reason, detail=detail)
