"""Questions of a folder of shards: which are asked, what the model is shown, and controls that hide the sketch.

What is asked is chosen first, from the records alone; pictures are decoded a block at a time.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from data_manifests.schema import Condition, Image, Measured, Query, Rle, Sample
from sketchlm.answer import Question
from sketchlm.processor import Picture, Processor, decode_rgb
from sketchlm.shards import Entry, RawSample, Shard, check_bytes, index_tar, read_folder, read_sample

BLOCK: Final = 256
"""Questions whose pictures are in memory together: 170 MB at LLaVA's 336 pixels."""
ASKED_AS: dict[Measured, str] = {"boxes": "bbox", "retrieval": "sbir"}
"""The task of the queries that serve where a measured task is none of a query."""


class Samples:
    """The samples of a local folder of shards: their records in memory, pictures read when they are asked for."""

    def __init__(self, url: str, limit: int = 0) -> None:
        """limit: only the first N samples; 0 = all. Raises ValueError for a folder that holds no finished shard, or
        one that has changed since it was made."""
        self.folder = url
        self._places: list[tuple[Shard, Entry]] = []
        for shard in read_folder(url).shards:
            check_bytes(Path(shard.url), shard)
            self._places += [(shard, entry) for entry in index_tar(Path(shard.url), shard)]
            if 0 < limit <= len(self._places):
                del self._places[limit:]
                break
        self.records = [_without_masks(self.read(place).record) for place in range(len(self._places))]
        """What is known and asked of each, but the masks, which are large."""

    def read(self, place: int) -> RawSample:
        """One sample, from disk. Raises ShardError for one that is damaged."""
        shard, entry = self._places[place]
        return read_sample(Path(shard.url), shard.url, entry)


def _without_masks(record: Sample) -> Sample:
    bare = [thing.model_copy(update={"mask": Rle(size=[0, 0], counts="")}) for thing in record.objects]
    return record.model_copy(update={"objects": bare})


class Shown(NamedTuple):
    """A sketch: a row of the strip of a sample (its place among the samples)."""

    sample: int
    row: int


WHITE: Final = Shown(-1, -1)
"""A white page."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what is needed to show it and to score it."""

    key: str
    """The same wherever this question is asked: image id / query id / sketch id."""
    sample: int
    """Place of its image among the samples; it also picks the wording."""
    query: Query
    image: Image
    shown: Shown | None
    """The sketch that the model sees; None where it is asked in words alone."""
    own: int
    """Which of the query's boxes is that of the object that the sketch was made of; -1 where that is not known."""
    choices: int
    """Classes of the image with exactly one instance."""
    made_of: bool
    """Whether the sketch was made of this very image."""


def collect(records: Sequence[Sample], task: Measured, classes: Collection[str] = ()) -> list[Asked]:
    """Every question that can be asked for a task, in the order of the samples. Of retrieval, where sketches were made
    of the very images, those alone: a ranking then tells whether it finds the class, and the image.

    classes: only about these; empty = about all.
    """
    found = [
        asked
        for number, record in enumerate(records)
        for asked in questions_of(record, number, task)
        if not classes or asked.query.category in classes
    ]
    made = [asked for asked in found if asked.made_of] if task == "retrieval" else []
    return made or found


def questions_of(record: Sample, number: int, task: Measured) -> Iterator[Asked]:
    """Those of one sample; where its shards ask nothing, what its facts answer. Retrieval looks for
    what a sketch shows: only for sketches whose class is there."""
    counts = Counter(thing.category for thing in record.objects)
    choices = sum(count == 1 for count in counts.values())
    boxes = {thing.object_id: thing.box for thing in record.objects}
    seen: set[int] = set()
    for query in record.queries or _queries_of_facts(record):
        if query.task != ASKED_AS.get(task, task):
            continue
        if task == "retrieval" and (query.row in seen or query.category not in counts):
            continue
        seen.add(query.row)
        sketch = record.sketches[query.row] if query.row >= 0 else None
        box = boxes.get(sketch.object_id) if sketch else None
        own = query.boxes.index(box) if box in query.boxes else -1
        key = f"{record.image.id}/{query.query_id}/{sketch.sketch_id if sketch else ''}"
        shown = Shown(number, query.row) if sketch else None
        yield Asked(key, number, query, record.image, shown, own, choices, bool(sketch and sketch.object_id))


def _queries_of_facts(record: Sample) -> Iterator[Query]:
    """Boxes and number of the class of each sketch that was made of an object of the image, as the output of
    `make sketches` has them; not where a crowd leaves open how many there are."""
    crowds = {thing.category for thing in record.objects if thing.status == "crowd"}
    for sketch in record.sketches:
        if not sketch.object_id or sketch.category in crowds:
            continue
        boxes = [thing.box for thing in record.objects if thing.category == sketch.category]
        for task in ("bbox", "count"):
            yield Query.model_validate(
                {
                    "query_id": f"{task}-{sketch.row}",
                    "task": task,
                    "row": sketch.row,
                    "category": sketch.category,
                    "boxes": boxes if task == "bbox" else [],
                    "count": len(boxes) if task == "count" else -1,
                    "question": "",
                    "answers": [""],
                    "match": -1,
                    "answer_source": "facts",
                }
            )


def spread(asked: Sequence[Asked], number: int, seed: int = 0) -> list[Asked]:
    """So many of the questions, the same each time, in their order: of each class as many as of the others (of yes or
    no as well), and of an image a second one only where others of its class are used up. 0, or more than there are:
    all."""
    if not 0 < number < len(asked):
        return list(asked)
    draw = random.Random(seed)
    groups: dict[tuple[str, int], list[tuple[int, int, int]]] = defaultdict(list)
    for rank, place in enumerate(draw.sample(range(len(asked)), len(asked))):
        groups[(asked[place].query.category, asked[place].query.match)].append((0, rank, place))
    order = draw.sample(sorted(groups), len(groups))
    used: Counter[int] = Counter()
    taken: list[int] = []
    while len(taken) < number:
        for name in order[: number - len(taken)]:
            taken.append(_least_used(groups[name], asked, used))
        order = [name for name in order if groups[name]]
    return [asked[place] for place in sorted(taken)]


def _least_used(heap: list[tuple[int, int, int]], asked: Sequence[Asked], used: Counter[int]) -> int:
    """Take the place of a question whose image was used least. heap: (how often it was when last looked at, a drawn
    rank, place)."""
    while True:
        seen, rank, place = heapq.heappop(heap)
        now = used[asked[place].sample]
        if now == seen:
            used[asked[place].sample] += 1
            return place
        heapq.heappush(heap, (now, rank, place))


def under(asked: Sequence[Asked], condition: Condition, seed: int = 0) -> list[Asked]:
    """The same questions under a condition: as they are, or as a control (see `data_manifests.schema.Condition`).

    `text` names the class in the words of sketchlm.prompt.TEXT_TEMPLATES; of `vqa`, whose questions have words of their
    own, nothing names it.
    """
    if condition == "blank":
        return [replace(one, shown=one.shown and WHITE) for one in asked]
    if condition == "shuffled":
        return _shuffled(asked, seed)
    if condition == "text":
        return [replace(one, shown=None, query=one.query.model_copy(update={"row": -1})) for one in asked]
    return list(asked)


def _shuffled(asked: Sequence[Asked], seed: int) -> list[Asked]:
    """Each with a sketch of another class, the next in a drawn order; left out where all are of one class."""
    with_sketch = [place for place, one in enumerate(asked) if one.shown]
    order = random.Random(seed).sample(with_sketch, len(with_sketch))
    found: dict[int, Asked] = {place: one for place, one in enumerate(asked) if not one.shown}
    for number, place in enumerate(order):
        category = asked[place].query.category
        behind = (asked[other] for other in (*order[number + 1 :], *order[:number]))
        if swap := next((other for other in behind if other.query.category != category), None):
            found[place] = replace(asked[place], shown=swap.shown)
    return [found[place] for place in sorted(found)]


def shown(asked: Sequence[Asked], samples: Samples, processor: Processor) -> list[Question]:
    """The questions with their pictures, sketch first. All are in memory at once: ask for BLOCK at a time.

    Raises ShardError for pictures that cannot be read.
    """
    photos: dict[int, Picture] = {}
    sketches: dict[Shown, Picture] = {WHITE: white(processor)}
    questions = []
    for one in asked:
        if one.sample not in photos:
            photos[one.sample] = photo_of(samples.read(one.sample), processor)
        if one.shown and one.shown not in sketches:
            sketches[one.shown] = sketch_of(samples.read(one.shown.sample), one.shown.row, processor)
        pictures = (sketches[one.shown], photos[one.sample]) if one.shown else (photos[one.sample],)
        questions.append(Question(pictures, one.query, one.sample))
    return questions


def photo_of(raw: RawSample, processor: Processor) -> Picture:
    """The image of a sample. Raises ShardError for one that cannot be read."""
    return Picture(processor.pixels(decode_rgb(raw.jpg, f"{raw.url}, sample {raw.key}")))


def sketch_of(raw: RawSample, row: int, processor: Processor) -> Picture:
    """A row of its strip. Raises ShardError for one that cannot be read."""
    return processor._sketches(raw, [row])[row]


def white(processor: Processor) -> Picture:
    """A page on which nobody drew."""
    return Picture(np.full((3, processor.side, processor.side), 255, np.uint8))
