"""The worker: makes one shard. A plain callable that knows nothing of the engine which schedules it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import cv2

from data_manifests.schema import STRIP_SIDE
from sketchgen.checks import (
    ChecksConfig,
    Reject,
    box_area,
    box_iou,
    check_ink,
    check_mask,
    clip_box,
    find_duplicate,
    ink_of,
    mask_box,
)
from sketchgen.crop import cut
from sketchgen.edges import EdgesConfig, compose, edges
from sketchgen.instance import Box
from sketchgen.photo import PhotoConfig, PhotoError, decode
from sketchgen.picture import Item, Picture
from sketchgen.plan import read_shard_plan
from sketchgen.preview import draw_preview
from sketchgen.sample import add_picture
from sketchgen.segmentation import rescale
from sketchgen.segmenter import Segmenter
from sketchgen.shard import shard_writer
from sketchgen.sketcher import Sketcher
from sketchgen.source import ImageFiles, SourceConfig
from sketchgen.stages import in_turn, overlapped
from sketchgen.storage import Storage

READERS = 8
"""Photos that are fetched at once, where stages overlap."""


@dataclass(frozen=True)
class DrawConfig:
    """What decides how an instance is drawn and kept, beside the models."""

    photo: PhotoConfig = field(default_factory=PhotoConfig)
    edges: EdgesConfig = field(default_factory=EdgesConfig)
    checks: ChecksConfig = field(default_factory=ChecksConfig)
    margin: int = 10
    """White frame of a sketch, pixels."""
    images_per_batch: int = 8
    """Images that go through the models together; the plan fixes them, so that reruns are identical."""


@dataclass(frozen=True)
class ShardTask:
    """A shard to make."""

    shard: int
    one_by_one: bool = False
    """An event after every image, so that one on which the worker gets stuck can be told."""
    refused: tuple[int, ...] = ()
    """Numbers in the shard of images that no worker got past: their instances are rejected unseen (`deadline`)."""

    def __str__(self) -> str:
        return f"shard {self.shard:06d}"


def past_stuck(task: ShardTask, last: Progress | None) -> ShardTask | None:
    """What to try where every worker got stuck with this task: first image by image, then without the image that comes
    after the last event. None where it is no image that is in the way."""
    if not task.one_by_one:
        return replace(task, one_by_one=True)
    stuck = last.images if last else 0
    return None if stuck in task.refused else replace(task, refused=(*task.refused, stuck))


@dataclass(frozen=True)
class Progress:
    """How far a shard is; totals since its start, so that a retried shard counts once."""

    shard: int
    images: int
    written: int
    rejected: dict[str, int]
    """By reason."""
    seconds: dict[str, float]
    """By stage: read, segment, draw, sketch, write, preview. Stages overlap: together they may exceed `elapsed`."""
    done: bool
    elapsed: float = 0.0
    """Seconds since the worker began with the shard."""


class ShardWorker:
    """Calling it with a task makes that shard and yields `Progress` as it goes."""

    def __init__(
        self,
        storage: Storage,
        segmenter: Segmenter,
        sketcher: Sketcher,
        config: DrawConfig,
        source: SourceConfig,
        mark: str,
        previews: int,
        overlap: bool = True,
    ) -> None:
        """mark: the settings' fingerprint; previews: how many a shard; overlap: see `RunConfig`."""
        self._storage = storage
        self._segmenter = segmenter
        self._sketcher = sketcher
        self._config = config
        self._files = ImageFiles(source)
        self._label = source.called
        self._mark = mark
        self._previews = previews
        self._staged = overlapped if overlap else in_turn
        # photos of a group come together: from a remote store each costs a round trip
        self._map: Callable[..., Iterable[None]] = ThreadPoolExecutor(READERS).map if overlap else map

    def __call__(self, task: ShardTask) -> Iterator[Progress]:
        shard = task.shard
        pictures = [Picture.of(shard, image) for image in read_shard_plan(self._storage, shard)]
        clock = Clock()
        for number in set(task.refused) & set(range(len(pictures))):
            for item in pictures[number].items:
                item.refuse(Reject("deadline", "no worker got past this image in time"))
        # where an event must tell on which image it got stuck, nothing may be ahead of it
        size, staged = (1, in_turn) if task.one_by_one else (self._config.images_per_batch, self._staged)
        groups = [pictures[start : start + size] for start in range(0, len(pictures), size)]
        stages = [partial(stage, clock) for stage in (self._read, self._segment, self._sketch)]
        style = "+".join(filter(None, (self._sketcher.style, "edges")))
        generator = self._sketcher.generator
        with shard_writer(self._storage, shard, self._mark) as writer:
            images = 0
            for group in staged(groups, stages):
                images += len(group)
                with clock("write"):
                    for picture in group:
                        add_picture(writer, picture, self._label, style, generator)
                with clock("preview"):
                    # spread over the shard, not all from its first images
                    room = self._previews * images // len(pictures) - len(writer.previews)
                    shown = [(picture, item) for picture in group for item in picture.items]
                    writer.previews += [draw_preview(*pair) for pair in shown[: max(0, room)]]
                for picture in group:
                    picture.forget_pixels()
                yield _progress(shard, pictures[:images], clock, done=False)
        yield _progress(shard, pictures, clock, done=True)

    def _read(self, clock: Clock, group: Sequence[Picture]) -> None:
        with clock("read"):
            list(self._map(partial(_read, files=self._files, config=self._config), group))

    def _segment(self, clock: Clock, group: Sequence[Picture]) -> None:
        with clock("segment"):
            _segment([picture for picture in group if picture.photo is not None], self._segmenter, self._config.checks)

    def _sketch(self, clock: Clock, group: Sequence[Picture]) -> None:
        with clock("draw"):
            alive = _cut(group, self._config)
        with clock("sketch"):
            strokes = self._sketcher.sketch([item.crop for item in alive if item.crop is not None])
        with clock("draw"):
            for item, drawn in zip(alive, strokes, strict=True):
                item.strokes = drawn
                _finish(item, self._config)


class Clock:
    """Seconds by stage; each stage is one thread's."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._start = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Since it was made."""
        return time.perf_counter() - self._start

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start  # type: ignore[assignment]


def _read(picture: Picture, files: ImageFiles, config: DrawConfig) -> None:
    """Decode the photo, bring boxes into its pixels, and refuse those that hold nothing to draw."""
    if not any(item.alive for item in picture.items):
        return
    source = picture.source
    try:
        picture.photo = decode(files.read(source.file), (source.width, source.height), config.photo, source.relative)
    except PhotoError as error:
        for item in picture.items:
            item.refuse(Reject(error.reason, str(error)))
        return
    height, width = picture.photo.rgb.shape[:2]
    kept: list[tuple[str, Box, str]] = []
    for item in picture.items:
        item.instance = instance = rescale(item.instance, picture.photo.scale)
        box = clip_box(instance.box, width, height, config.checks.min_side)
        if isinstance(box, Reject):
            item.refuse(box)
            continue
        item.instance = replace(instance, box=box)
        if twin := find_duplicate(box, instance.category, kept, config.checks):
            item.refuse(twin)
            continue
        kept.append((instance.category, box, instance.object_id))


def _segment(pictures: Sequence[Picture], segmenter: Segmenter, checks: ChecksConfig) -> None:
    alive = [[item for item in picture.items if item.alive] for picture in pictures]
    photos = [picture.photo.rgb for picture in pictures if picture.photo is not None]
    masks = segmenter.segment(photos, [[item.instance for item in items] for items in alive])
    for items, found in zip(alive, masks, strict=True):
        for item, mask in zip(items, found, strict=True):
            item.mask = mask
            box = item.instance.box
            item.row.mask_score = round(mask.score, 4)
            item.row.mask_area = mask.area
            item.row.mask_fill = round(mask.area / box_area(box), 4)
            if mask.area:
                item.row.mask_agreement = round(box_iou(mask_box(mask), box), 4)
            if reject := check_mask(mask, box, checks):
                item.refuse(reject)


def _cut(pictures: Sequence[Picture], config: DrawConfig) -> list[Item]:
    alive = []
    for picture in pictures:
        for item in picture.items:
            if item.alive and item.mask is not None and picture.photo is not None:
                crop = cut(picture.photo.rgb, item.mask, STRIP_SIDE, config.margin)
                item.crop = replace(crop, category=item.instance.category, key=item.instance.object_id)
                alive.append(item)
    return alive


def _finish(item: Item, config: DrawConfig) -> None:
    """Edges, composition, and the last check."""
    assert item.crop is not None and item.strokes is not None
    item.edges = edges(item.crop, config.edges)
    item.sketch = compose(item.strokes, item.edges, STRIP_SIDE)
    ink = ink_of(item.sketch)
    item.row.ink = round(ink, 5)
    if reject := check_ink(ink, config.checks):
        item.refuse(reject)


def _progress(shard: int, pictures: Sequence[Picture], clock: Clock, done: bool) -> Progress:
    rows = [item.row for picture in pictures for item in picture.items]
    return Progress(
        shard=shard,
        images=len(pictures),
        written=sum(row.status == "written" for row in rows),
        rejected=dict(Counter(row.reason for row in rows if row.reason)),
        seconds=dict(clock.seconds),
        done=done,
        elapsed=clock.elapsed,
    )


def pin_threads(threads: int) -> None:
    """Fix the threads of this process: sums in another order give other bits."""
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
