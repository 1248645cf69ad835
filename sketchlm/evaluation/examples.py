"""Examples of an entry: the best, the worst, and some drawn at random, with their pictures small."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from data_manifests.schema import STRIP_SIDE, Measured
from sketchlm.evaluation.questions import WHITE, Asked, Samples, Shown
from sketchlm.evaluation.record import EXAMPLES, AnswerRecord, Example
from sketchlm.processor import decode_rgb
from sketchlm.prompt import PromptConfig, question_of
from sketchlm.shards import broken

PICKS = 4
"""Of each kind."""
SIDE, SMALL = 256, 128
"""Longest side of a picture, and of one in a gallery, pixels."""
QUALITY = 80
Kind = Literal["best", "worst", "random"]


def write_examples(
    folder: Path,
    name: str,
    task: Measured,
    asked: Sequence[Asked],
    records: Sequence[AnswerRecord],
    samples: Samples,
    prompt: PromptConfig,
    seed: int = 0,
) -> list[Example]:
    """Pick examples of an entry and write their pictures to `examples/NAME/`, in place of what lies there."""
    place = folder / EXAMPLES / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    scores = [worth(task, record) for record in records]
    by_image = {asked[n].image.id: asked[n].sample for n in range(len(asked))}
    if task == "retrieval":
        by_image |= {record.image.id: n for n, record in enumerate(samples.records)}
    return [
        _example(_Pictures(folder, place, samples), kind, task, asked[n], records[n], scores[n], by_image, prompt)
        for kind, n in picks(scores, [one.query.category for one in asked], seed)
    ]


def worth(task: Measured, record: AnswerRecord) -> float:
    """How good an answer is, from 0 to 1."""
    row = record.row
    if task == "bbox":
        return row["iou"]
    if task == "boxes":
        return row["hits"] / row["half_all"] if row["half_all"] else 1.0
    if task == "count":
        return row["exact"] if row["exact"] else max(0.0, 0.5 - row["off"] / 10) * row["read"]
    if task == "vqa":
        return row["accuracy"] if row["annotated"] else row["exact"]
    if task == "sbir":
        return record.found if record.truth else 1 - record.found
    if task == "describe":
        return (row["named"] + row["iou"]) / 2
    return row["average_precision"]


def picks(scores: Sequence[float], categories: Sequence[str], seed: int = 0) -> list[tuple[Kind, int]]:
    """Places of some of the best and worst quarter and of others, PICKS of each where there are so many, none twice:
    of different classes as far as that goes, ties by a draw."""
    draw = random.Random(seed)
    left = draw.sample(range(len(scores)), len(scores))
    found: list[tuple[Kind, int]] = []
    for kind, sign in (("best", -1), ("worst", 1), ("random", 0)):
        order = sorted(left, key=lambda n: sign * scores[n])
        order = order[: max(PICKS, len(scores) // 4)]
        first = list({categories[n]: n for n in reversed(order)}.values())
        first.sort(key=order.index)
        taken = (first + [n for n in order if n not in first])[:PICKS]
        left = [n for n in left if n not in taken]
        found += [(kind, n) for n in taken]  # type: ignore[misc]  # a literal each
    return found


def _example(
    pictures: _Pictures,
    kind: Kind,
    task: Measured,
    asked: Asked,
    record: AnswerRecord,
    score: float,
    by_image: dict[str, int],
    prompt: PromptConfig,
) -> Example:
    size = np.array([asked.image.width, asked.image.height] * 2, np.float64)
    boxed = task in ("bbox", "boxes", "describe")
    found = record.found if boxed and record.found else []
    return Example(
        kind=kind,
        key=record.key,
        question=question_of(asked.query, 0 if task == "retrieval" else asked.sample, prompt),
        said=("yes" if record.found >= 0.5 else "no") if task == "sbir" else record.said,
        truth=_truth(task, record),
        score=score,
        category=record.category,
        sketch=pictures.sketch(asked.shown) if asked.shown and asked.shown != WHITE else "",
        image="" if task == "retrieval" else pictures.image(asked.sample, SIDE),
        boxes=[[*(np.array(box[:4]) / size).tolist(), box[4]] for box in found],
        true_boxes=[(np.array(box) / size).tolist() for box in asked.query.boxes] if boxed else [],
        gallery=[(pictures.image(by_image[one], SMALL), yes, grade > 0) for one, yes, grade in record.found]
        if task == "retrieval"
        else [],
    )


def _truth(task: Measured, record: AnswerRecord) -> str:
    if task == "vqa":
        return str(record.truth[0])
    if task == "sbir":
        return "yes" if record.truth else "no"
    return str(record.truth) if task == "count" else ""


class _Pictures:
    """Writes pictures of samples, each once, and names them relative to the folder of the evaluation."""

    def __init__(self, folder: Path, place: Path, samples: Samples) -> None:
        self._folder, self._place, self._samples = folder, place, samples

    def image(self, sample: int, side: int) -> str:
        raw = self._samples.read(sample)
        path = self._place / f"{sample:06d}-{side}.jpg"
        if not path.exists():
            rgb = _within(decode_rgb(raw.jpg, f"{raw.url}, sample {raw.key}"), side)
            written = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            path.write_bytes(written[1].tobytes())
        return path.relative_to(self._folder).as_posix()

    def sketch(self, shown: Shown) -> str:
        raw = self._samples.read(shown.sample)
        path = self._place / f"{shown.sample:06d}-sketch{shown.row}.png"
        if not path.exists():
            strip: Any = cv2.imdecode(np.frombuffer(raw.strip, np.uint8), cv2.IMREAD_GRAYSCALE)
            if strip is None:
                raise broken(f"{raw.url}, sample {raw.key}", "its strip is unreadable")
            grey = strip[STRIP_SIDE * shown.row : STRIP_SIDE * (shown.row + 1)]
            path.write_bytes(cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())
        return path.relative_to(self._folder).as_posix()


def _within(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The picture with a longest side of at most `side`."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
