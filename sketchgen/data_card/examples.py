"""Examples of a data card: queries picked evenly from all over, as pictures and words."""

from __future__ import annotations

import base64
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data_manifests.schema import STRIP_SIDE, Query, Sample, Sketch, validate
from sketchgen.data_card.table import CardPart, QueryTable, task_order
from sketchgen.output import shard_name
from sketchgen.png import opencv_png
from sketchgen.storage import Storage

PHOTO_SIDE = 360
"""Longest side of an example's photo, pixels."""
JPEG_QUALITY = 80

Wording = Callable[[Query, Sample], tuple[str, str]]
"""A query and its sample to the prompt and the answer, in words."""


@dataclass(frozen=True)
class Pick:
    """Which query is shown."""

    part: str
    task: str
    sketch_source: str
    image_id: str
    shard: int
    key: str
    query_id: str


@dataclass(frozen=True)
class Example:
    """A query as it is shown. Pictures are data URLs, boxes xyxy pixels of the stored photo."""

    pick: Pick
    query: Query
    sample: Sample
    sketch: Sketch | None
    """None where it is asked without one."""
    prompt: str
    answer: str
    photo: str
    drawing: str
    """Of the sketch, "" where there is none."""
    others: tuple[tuple[float, ...], ...]
    """Boxes of objects of the class that are not in the answer."""


def pick_examples(table: QueryTable, number: int, seed: int) -> list[Pick]:
    """Up to `number` queries, spread evenly over parts, then tasks, then sketch sources; of other images if possible.

    The same table and seed give the same ones, whatever the order of the rows.
    """
    kinds: dict[tuple[str, str, str], list[tuple[str, Pick]]] = {}
    for dice, *fields in table.ask(
        """SELECT md5(concat_ws('/', ?::VARCHAR, part, key, query_id)) AS dice,
                  part, task, sketch_source, image_id, shard, key, query_id FROM queries
           QUALIFY row_number() OVER (PARTITION BY part, task, sketch_source ORDER BY dice, part, key, query_id) <= ?
           ORDER BY dice, part, key, query_id""",
        [seed, number],
    ):
        pick = Pick(*fields)
        kinds.setdefault((pick.part, pick.task, pick.sketch_source), []).append((dice, pick))
    taken: Counter[tuple[str, ...]] = Counter()
    picks: list[Pick] = []
    while kinds and len(picks) < number:
        kind = min(kinds, key=lambda kind: ([taken[group] for group in _groups(*kind)], kinds[kind][0][0]))
        taken.update(_groups(*kind))
        shown = {pick.image_id for pick in picks}
        place = next((n for n, (_, pick) in enumerate(kinds[kind]) if pick.image_id not in shown), 0)
        picks.append(kinds[kind].pop(place)[1])
        if not kinds[kind]:
            del kinds[kind]
    return sorted(picks, key=lambda pick: (task_order(pick.task), pick.part, pick.key, pick.query_id))


def _groups(part: str, task: str, source: str) -> tuple[tuple[str, ...], ...]:
    """What is to be even, the weightiest first: parts, tasks of a part, sketch sources of a part, and each kind."""
    return ("part", part), ("task", part, task), ("source", part, source), ("kind", part, task, source)


def draw_examples(picks: Sequence[Pick], parts: Sequence[CardPart], wording: Wording) -> list[Example]:
    """The pictures and words of what was picked, in that order.

    Raises ValueError for a shard that does not hold what its ledger says.
    """
    storages = {part.name: part.storage for part in parts}
    wanted: dict[tuple[str, int], set[str]] = {}
    for pick in picks:
        wanted.setdefault((pick.part, pick.shard), set()).add(pick.key)
    found = {}
    for (part, shard), keys in wanted.items():
        for key, members in read_members(storages[part], shard_name(shard, "tar"), keys).items():
            found[part, key] = members
    return [_example(pick, found[pick.part, pick.key], storages[pick.part], wording) for pick in picks]


def read_members(storage: Storage, name: str, keys: set[str]) -> dict[str, dict[str, bytes]]:
    """The files of these samples of a tar, by key and extension; what lies between is skipped, not read.

    Raises ValueError for a tar that cannot be read or lacks one of them.
    """
    found: dict[str, dict[str, bytes]] = {key: {} for key in keys}
    again = f"remove {name.replace('tar', 'json')} and run the same command to make the shard again"
    try:
        with storage.open(name) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for entry in tar:
                key, _, extension = entry.name.partition(".")
                if key in found and (content := tar.extractfile(entry)) is not None:
                    found[key][extension] = content.read()
                if all(len(members) == 3 for members in found.values()):
                    break
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{storage.url}/{name} cannot be read ({error}): {again}") from None
    for key, members in found.items():
        if lacks := sorted({"jpg", "json", "sketches.png"} - members.keys()):
            raise ValueError(f"{storage.url}/{name} lacks {key}.{lacks[0]}, which its ledger names: {again}")
    return found


def _example(pick: Pick, members: dict[str, bytes], storage: Storage, wording: Wording) -> Example:
    place = f"{storage.url}/{shard_name(pick.shard, 'tar')}, sample {pick.key}"
    strip = _decode(members["sketches.png"], cv2.IMREAD_GRAYSCALE, place)
    sample = validate(members["json"], strip_height=strip.shape[0])
    query = next((query for query in sample.queries if query.query_id == pick.query_id), None)
    if query is None:
        raise ValueError(f"{place} has no query {pick.query_id!r}, which its ledger names: make the shard again")
    drawing = strip[query.row * STRIP_SIDE : (query.row + 1) * STRIP_SIDE] if query.row >= 0 else None
    prompt, answer = wording(query, sample)
    return Example(
        pick=pick,
        query=query,
        sample=sample,
        sketch=sample.sketches[query.row] if query.row >= 0 else None,
        prompt=prompt,
        answer=answer,
        photo=_data_url("jpeg", _small(_decode(members["jpg"], cv2.IMREAD_COLOR, place))),
        drawing="" if drawing is None else _data_url("png", opencv_png(np.ascontiguousarray(drawing))),
        others=tuple(tuple(o.box) for o in sample.objects if o.category == query.category and o.box not in query.boxes),
    )


def _decode(data: bytes, flags: int, place: str) -> NDArray[np.uint8]:
    """A picture, BGR or grey."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if picture is None:
        raise ValueError(f"a picture of {place} cannot be decoded: make the shard again")
    return picture.astype(np.uint8, copy=False)


def _small(picture: NDArray[np.uint8]) -> bytes:
    """A BGR picture as a small JPEG."""
    height, width = picture.shape[:2]
    scale = min(1.0, PHOTO_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    ok, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert ok, f"OpenCV could not encode a photo of {size}"
    return jpeg.tobytes()


def _data_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
