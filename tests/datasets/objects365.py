"""Objects365 v2: one large json, photos in patches, boxes only, some of them doubled or outside."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.conftest import draw_scene
from tests.datasets.photos import box_xywh, make_photo

CATEGORIES = {1: "Person", 22: "Cabinet/shelf"}
SCENE_CATEGORIES = {
    1: "Person", 6: "Car", 9: "Bottle", 11: "Cup", 22: "Cabinet/shelf", 31: "Vase", 40: "Umbrella",
    49: "Barrel/bucket", 56: "Bus", 57: "Wild Bird", 60: "Guitar", 65: "Truck", 81: "Horse", 84: "Apple", 93: "Dog",
    95: "Clock", 100: "Sheep", 105: "Orange/Tangerine", 117: "Train", 139: "Cat", 152: "Pear",
}  # fmt: skip
"""Some of the 365; which class of shapeworld is which is said by `_NAMES`."""
_NAMES = {name.lower(): number for number, name in SCENE_CATEGORIES.items()} | {"bucket": 49, "bird": 57}


def objects365_row(number: int, image: int, box: Sequence[float], **fields: Any) -> dict[str, Any]:
    """An annotation of Objects365; box: xywh."""
    row = {
        "iscrowd": 0, "isfake": 0, "area": 1.0, "isreflected": 0, "bbox": list(box), "image_id": image,
        "category_id": 1, "id": number,
    }  # fmt: skip
    return row | fields


def write_objects365(
    root: Path,
    rows: Sequence[dict[str, Any]],
    images: int = 3,
    split: str = "train",
    photo: Callable[[int], Image.Image] = draw_scene,
    categories: Mapping[int, str] = CATEGORIES,
) -> None:
    """`zhiyuan_objv2_SPLIT.json` and the photos 1 to `images`, in patches of v2, each fourth of v1.

    photo: draws the photo of a number; by default with the ellipse of `draw_scene`.
    """
    entries = []
    for number in range(1, images + 1):
        version, patch = ("v1", f"patch{number % 16}") if number % 4 == 0 else ("v2", f"patch{number % 2 + 16}")
        name = f"objects365_{version}_{number:08d}.jpg"
        (root / split / patch).mkdir(parents=True, exist_ok=True)
        image = photo(number)
        image.save(root / split / patch / name, quality=95)
        entry = {"height": image.height, "id": number, "license": 5, "width": image.width}
        entries.append(entry | {"file_name": f"images/{version}/{patch}/{name}", "url": ""})
    named = [{"name": name, "id": number} for number, name in categories.items()]
    data = {"images": entries, "annotations": list(rows), "categories": named, "licenses": []}
    (root / f"zhiyuan_objv2_{split}.json").write_text(json.dumps(data))


def fill_objects365(root: Path, split: str = "train", num_images: int = 8, seed: int = 0) -> None:
    """The same of scenes, their rows in no order of images, with all that the index must clean.

    Raises ValueError for fewer images than there are flaws.
    """
    if num_images < 4:
        raise ValueError(f"num_images is {num_images}, must be 4 or more: each of the first four has a flaw of its own")
    first = 1_000_000 if split == "val" else 0  # photos of one split never occur in the other
    photos = {number: make_photo(first + number, seed) for number in range(1, num_images + 1)}
    rows = [
        objects365_row(0, number, box_xywh(thing), category_id=_NAMES[thing.category])
        for number, photo in photos.items()
        for thing in photo.things
        if thing.category in _NAMES
    ]
    rows = [row | {"id": 10 * n, "area": row["bbox"][2] * row["bbox"][3]} for n, row in enumerate(rows, 1)]
    rows += _flaws(rows, photos[3].size)
    rows.sort(key=lambda row: (row["id"] * 7919) % 1009)
    write_objects365(
        root, rows, num_images, split, lambda number: Image.fromarray(photos[number].rgb), SCENE_CATEGORIES
    )


def _flaws(rows: Sequence[dict[str, Any]], size: tuple[int, int]) -> list[dict[str, Any]]:
    """Rows to clip, to drop and to skip; size: of the third photo, pixels."""
    width, height = size
    return [
        rows[0] | {"id": 1},  # doubled
        objects365_row(2, 2, (20, 30, 60, 50), category_id=22, iscrowd=1),
        objects365_row(3, 2, (40, 30, 50, 70), isfake=1),
        objects365_row(4, 3, (width - 50, height - 60, 90, 80), category_id=22),  # partly outside
        objects365_row(5, 3, (width + 10, 5, 30, 30)),  # wholly outside
        objects365_row(6, 4, (10, 10, 1.5, 0.5)),  # tiny
        objects365_row(7, 4, (10, 10, 0, 40)),  # empty
        objects365_row(8, 4, (60, 60, 50, 45), category_id=22, isreflected=1),
    ]
