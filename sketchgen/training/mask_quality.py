"""How good masks are: IoU against the truth on photos that no training saw, beside simple baselines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from sketchgen.instance import Instance, Mask
from sketchgen.segmenter import Segmenter
from sketchgen.training.cutouts import Scene


@dataclass(frozen=True, slots=True)
class Verdict:
    """One instance: how its mask compares with the truth."""

    cluster: int
    """The photo; instances of one photo are not independent."""
    object_id: str
    category: str
    iou: float
    score: float
    box_area: float
    mask_area: int


@dataclass(frozen=True)
class Quality:
    """Summary over many instances."""

    num_instances: int
    num_photos: int
    mean_iou: float
    low: float
    """Lower end of the 95 % interval of the mean, photos resampled."""
    high: float
    below_half: float
    """Share of the instances with IoU under 0.5."""
    auroc: float
    """How well the score tells IoU under 0.5 from the others; nan when there are none of one kind."""


class FilledBox:
    """Baseline: the whole box is the mask."""

    def segment(self, images: Sequence[NDArray[np.uint8]], instances: Sequence[Sequence[Instance]]) -> list[list[Mask]]:
        """See `sketchgen.segmenter.Segmenter`."""
        return [
            [_filled(instance, image.shape[:2]) for instance in row]
            for image, row in zip(images, instances, strict=True)
        ]


def _filled(instance: Instance, shape: tuple[int, int]) -> Mask:
    low = np.maximum(np.round(instance.box[:2]).astype(int), 0)
    high = np.minimum(np.round(instance.box[2:]).astype(int), shape[::-1])
    width, height = np.maximum(high - low, 1)
    return Mask(int(low[0]), int(low[1]), np.ones((height, width), np.bool_))


def iou(found: Mask, truth: Mask) -> float:
    """Intersection over union of two cropped masks of one photo; 0 when both are empty."""
    x0, y0 = max(found.x, truth.x), max(found.y, truth.y)
    x1 = min(found.x + found.bits.shape[1], truth.x + truth.bits.shape[1])
    y1 = min(found.y + found.bits.shape[0], truth.y + truth.bits.shape[0])
    common = 0
    if x1 > x0 and y1 > y0:
        mine = found.bits[y0 - found.y : y1 - found.y, x0 - found.x : x1 - found.x]
        theirs = truth.bits[y0 - truth.y : y1 - truth.y, x0 - truth.x : x1 - truth.x]
        common = int(np.count_nonzero(mine & theirs))
    return common / max(found.area + truth.area - common, 1)


def coco_scenes(annotations: Path, images: Path, modulus: int) -> Iterator[Scene]:
    """Held-out photos (`image_id % modulus == 0`) with their non-crowd objects.

    Masks are those of pycocotools. Boxes are the annotators', clipped to the photo; those under a pixel
    wide or high are left out.
    """
    document = json.loads(annotations.read_text())
    names = {row["id"]: row["name"] for row in document["categories"]}
    for entry in document["images"]:
        if entry["id"] % modulus != 0:
            continue
        bgr = cv2.imread(str(images / entry["file_name"]), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"cannot read the photo {images / entry['file_name']}, which {annotations} names")
        height, width = bgr.shape[:2]
        instances, masks = [], []
        for row in document["annotations"]:
            if row["image_id"] != entry["id"] or row.get("iscrowd") or not row.get("segmentation"):
                continue
            x, y, w, h = row["bbox"]
            box = (max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height)))
            if box[2] - box[0] < 1 or box[3] - box[1] < 1:
                continue
            instances.append(Instance(str(row["id"]), names[row["category_id"]], box))
            masks.append(Mask(0, 0, _decoded(row["segmentation"], height, width)))
        yield Scene(np.ascontiguousarray(bgr[..., ::-1]), instances, masks)


def _decoded(segmentation: object, height: int, width: int) -> NDArray[np.bool_]:
    encoded = segmentation
    if isinstance(segmentation, list):
        encoded = rle.merge(rle.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation, dict) and isinstance(segmentation["counts"], list):
        encoded = rle.frPyObjects(segmentation, height, width)
    bits: NDArray[np.bool_] = rle.decode(encoded).astype(np.bool_)
    return bits


def judge(segmenter: Segmenter, scenes: Iterable[Scene]) -> list[Verdict]:
    """Segment every scene through the protocol, one photo a call, and compare."""
    verdicts = []
    for cluster, scene in enumerate(scenes):
        [masks] = segmenter.segment([scene.image], [scene.instances])
        for instance, found, truth in zip(scene.instances, masks, scene.masks, strict=True):
            x0, y0, x1, y1 = instance.box
            verdicts.append(
                Verdict(
                    cluster,
                    instance.object_id,
                    instance.category,
                    iou(found, truth),
                    found.score,
                    (x1 - x0) * (y1 - y0),
                    truth.area,
                )
            )
    return verdicts


def summarize(verdicts: Sequence[Verdict], num_draws: int = 2000, seed: int = 0) -> Quality:
    """Mean IoU with its 95 % interval from a bootstrap over photos. Raises ValueError without instances."""
    if not verdicts:
        raise ValueError("no instance to judge: is any photo held out, and does it have objects over the minimum?")
    values = np.array([verdict.iou for verdict in verdicts])
    clusters, index = np.unique([verdict.cluster for verdict in verdicts], return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index)
    picks = np.random.default_rng(seed).integers(len(clusters), size=(num_draws, len(clusters)))
    low, high = np.percentile(sums[picks].sum(axis=1) / counts[picks].sum(axis=1), (2.5, 97.5))
    return Quality(
        num_instances=len(values),
        num_photos=len(clusters),
        mean_iou=float(values.mean()),
        low=float(low),
        high=float(high),
        below_half=float((values < 0.5).mean()),
        auroc=auroc([verdict.score for verdict in verdicts], list(values >= 0.5)),
    )


def auroc(scores: Sequence[float], good: Sequence[bool]) -> float:
    """Chance that a good one scores above a bad one, ties half; nan when one kind is missing."""
    score, kind = np.asarray(scores, np.float64), np.asarray(good, np.bool_)
    wins = score[kind][:, None] - score[~kind][None]
    return float(np.mean((wins > 0) + 0.5 * (wins == 0))) if wins.size else float("nan")


def over(verdicts: Sequence[Verdict], box_area: float = 0.0, mask_area: float = 0.0) -> list[Verdict]:
    """Those whose box, or true mask, has more pixels."""
    return [v for v in verdicts if v.box_area > box_area and v.mask_area > mask_area]
