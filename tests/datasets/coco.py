"""COCO 2017: categories with gaps, polygons, crowds as run lengths, images without an annotation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.instance import Mask
from tests.datasets.photos import Photo, Thing, box_xywh, make_photo, save_photo

GROUPS = {
    "person": {1: "person"},
    "vehicle": {2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat"},
    "outdoor": {10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench"},
    "animal": {16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear",
               24: "zebra", 25: "giraffe"},
    "accessory": {27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase"},
    "sports": {34: "frisbee", 35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat",
               40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket"},
    "kitchen": {44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl"},
    "food": {52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog",
             59: "pizza", 60: "donut", 61: "cake"},
    "furniture": {62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet"},
    "electronic": {72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone"},
    "appliance": {78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator"},
    "indoor": {84: "book", 85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier",
               90: "toothbrush"},
}  # fmt: skip
"""All 80 categories: their ids run from 1 to 90."""
CATEGORY_IDS = {name: number for group in GROUPS.values() for number, name in group.items()}
_NAMES = {"ball": "sports ball"}
"""Classes of shapeworld that COCO calls something else."""
_SPLITS = {"train": 9, "val": 42}
"""The first id of each; odd ones are of train, even ones of val."""


def coco_name(thing: Thing) -> str:
    """What COCO calls it, "" where it does not annotate such things."""
    name = _NAMES.get(thing.category, thing.category)
    return name if name in CATEGORY_IDS else ""


def coco_ids(split: str, count: int, seed: int = 0) -> list[int]:
    """Ids of images as COCO has them: far apart, of up to six digits, those of one split never in the other."""
    return sorted(Random(f"coco/{split}/{seed}").sample(range(_SPLITS[split], 581_930, 2), count))


def write_coco(root: Path, split: str = "train", num_images: int = 12, seed: int = 0) -> list[int]:
    """`annotations/instances_SPLIT2017.json` and `SPLIT2017/` with photos by id; returns the ids, which mean the same
    photo in `write_vqav2`.

    One class of one photo is a crowd, the second photo is grey, the last has no annotation. Raises ValueError for
    fewer photos than that takes.
    """
    if num_images < 4:
        raise ValueError(f"num_images is {num_images}, must be 4 or more: a crowd, a grey and an empty one among them")
    ids = coco_ids(split, num_images, seed)
    photos = {number: make_photo(number, seed) for number in ids}
    for number, photo in photos.items():
        save_photo(photo, root / f"{split}2017" / f"{number:012d}.jpg", grey=number == ids[1])
    shown = {number: photos[number] for number in ids[:-1]}
    crowded = max(shown, key=lambda number: _largest_class(shown[number])[1])
    rows = [row for number, photo in shown.items() for row in _rows(number, photo, number == crowded)]
    for place, row in enumerate(rows):
        row.setdefault("id", 1774 + 31 * place)
    Random(seed).shuffle(rows)  # the real ones are in no order of images
    data = {
        "info": {"description": "COCO 2017 Dataset", "version": "1.0", "year": 2017},
        "licenses": _licenses(),
        "images": [_image(number, photo, split) for number, photo in photos.items()],
        "annotations": rows,
        "categories": _categories(),
    }  # fmt: skip
    path = root / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return ids


def _categories() -> list[dict[str, Any]]:
    return [
        {"supercategory": group, "id": number, "name": name}
        for group, names in GROUPS.items()
        for number, name in names.items()
    ]


def _licenses() -> list[dict[str, Any]]:
    names = {1: "Attribution-NonCommercial-ShareAlike License", 4: "Attribution License", 7: "No known copyright"}
    return [{"url": f"http://license.invalid/{number}", "id": number, "name": name} for number, name in names.items()]


def _image(number: int, photo: Photo, split: str) -> dict[str, Any]:
    width, height = photo.size
    name = f"{number:012d}.jpg"
    return {
        "license": (1, 4, 7)[number % 3], "file_name": name, "coco_url": f"http://images.invalid/{split}2017/{name}",
        "height": height, "width": width, "date_captured": "2013-11-14 17:02:52", "flickr_url": "", "id": number,
    }  # fmt: skip


def _rows(number: int, photo: Photo, crowded: bool) -> list[dict[str, Any]]:
    """Annotations of one photo; crowded: all of its largest class are one crowd."""
    crowd = _largest_class(photo)[0] if crowded else ""
    rows = [
        {
            "segmentation": polygons(thing.mask), "area": float(thing.mask.area), "iscrowd": 0, "image_id": number,
            "bbox": list(box_xywh(thing)), "category_id": CATEGORY_IDS[name],
        }
        for thing in photo.things
        if (name := coco_name(thing)) and name != crowd
    ]  # fmt: skip
    if crowd:
        rows.append(_crowd(number, photo, [thing for thing in photo.things if coco_name(thing) == crowd]))
    return rows


def _largest_class(photo: Photo) -> tuple[str, int]:
    """The class with most objects and their number; ("", 0) for a photo without one."""
    counts = Counter(name for thing in photo.things if (name := coco_name(thing)))
    return counts.most_common(1)[0] if counts else ("", 0)


def _crowd(number: int, photo: Photo, things: Sequence[Thing]) -> dict[str, Any]:
    """Many objects as one row with uncompressed run lengths; its id has twelve digits, as those of COCO have."""
    width, height = photo.size
    bits = np.zeros((height, width), np.bool_)
    for thing in things:
        rows, cols = thing.mask.bits.shape
        bits[thing.mask.y : thing.mask.y + rows, thing.mask.x : thing.mask.x + cols] |= thing.mask.bits
    left, top, right, bottom = (pick(values) for pick, values in zip(
        (min, min, max, max), zip(*(thing.box for thing in things), strict=True), strict=True))  # fmt: skip
    return {
        "segmentation": {"counts": run_lengths(bits), "size": [height, width]}, "area": float(bits.sum()), "iscrowd": 1,
        "image_id": number, "bbox": [left, top, right - left, bottom - top],
        "category_id": CATEGORY_IDS[coco_name(things[0])], "id": 900_100_000_000 + number,
    }  # fmt: skip


def polygons(mask: Mask) -> list[list[float]]:
    """The outlines of a mask as [x, y, x, y, ...] pixels, one of each piece; holes are filled, as COCO's are."""
    # four times as large, so that the outline is that of the pixels and not of their centres
    large = cv2.resize(mask.bits.astype(np.uint8), None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    found, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = [cv2.approxPolyDP(outline, 2.0, True)[:, 0] for outline in found]
    corner = np.array([mask.x, mask.y])
    return [
        [round(float(value), 2) for value in ((outline + 0.5) / 4 + corner).ravel()]
        for outline in outlines
        if len(outline) >= 3
    ]


def run_lengths(bits: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of [H, W] in column-major order, the first of background."""
    flat = np.concatenate([[False], bits.ravel(order="F"), [False]])
    bounds = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], bounds, [bits.size]])).tolist()
    return counts if counts[-1] else counts[:-1]
