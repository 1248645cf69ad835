"""Open Images V7: a table of boxes as shares of the image, names of classes in another, photos by id."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.conftest import draw_scene
from tests.datasets.photos import make_photo

OPENIMAGES_FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
CLICKS = tuple(f"XClick{n}{axis}" for axis in "XY" for n in range(1, 5))
CLASSES = {"/m/01g317": "Person", "/m/0k4j": "Car", "/m/02p5f1q": "Coffee cup"}
SCENE_CLASSES = CLASSES | {
    "/m/0bt9lr": "Dog", "/m/01yrx": "Cat", "/m/03k3r": "Horse", "/m/015p6": "Bird", "/m/07bgp": "Sheep",
    "/m/014j1m": "Apple", "/m/061_f": "Pear", "/m/01bjv": "Bus", "/m/07r04": "Truck", "/m/07jdr": "Train",
    "/m/07j7r": "Tree", "/m/03jm5": "House", "/m/01h44": "Bat (Animal)", "/m/0h8n5zk": "Kitchen & dining room table",
    "/m/018xm": "Ball", "/m/01x3z": "Clock", "/m/0hnnb": "Umbrella", "/m/0342h": "Guitar", "/m/02s195": "Vase",
}  # fmt: skip
"""Some of the 600."""
_MIDS = {name.lower(): mid for mid, name in SCENE_CLASSES.items()} | {"cup": "/m/02p5f1q"}


def openimages_row(image: str, box: Sequence[float], label: str = "/m/01g317", **flags: int) -> dict[str, Any]:
    """A row of the boxes; box: x1, y1, x2, y2 as shares."""
    x1, y1, x2, y2 = box
    row = {"ImageID": image, "Source": "xclick", "LabelName": label, "Confidence": 1}
    row |= {"XMin": x1, "XMax": x2, "YMin": y1, "YMax": y2} | dict.fromkeys(OPENIMAGES_FLAGS, 0)
    return row | dict.fromkeys(CLICKS, 0.5) | flags


def write_openimages(
    root: Path,
    rows: Sequence[dict[str, Any]],
    split: str = "train",
    header: bool = True,
    clicks: bool = True,
    photo: Callable[[int], Image.Image] = draw_scene,
    classes: Mapping[str, str] = CLASSES,
) -> None:
    """The boxes, the class names (with the header of V7 or without one) and a photo of each image.

    photo: draws the photo of the image that is the n-th by id.
    """
    (root / split).mkdir(parents=True, exist_ok=True)
    name = f"oidv6-{split}-annotations-bbox.csv" if split == "train" else f"{split}-annotations-bbox.csv"
    fields = [field for field in openimages_row("", (0, 0, 1, 1)) if clicks or not field.startswith("XClick")]
    with (root / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, fields, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = "".join(f"{mid},{called}\n" for mid, called in classes.items())
    if header:
        (root / "oidv7-class-descriptions-boxable.csv").write_text(f"LabelName,DisplayName\n{text}")
    else:
        (root / "class-descriptions-boxable.csv").write_text(text)
    for number, image in enumerate(sorted({str(row["ImageID"]) for row in rows})):
        photo(number).save(root / split / f"{image}.jpg", quality=95)


def fill_openimages(root: Path, split: str = "train", num_images: int = 8, seed: int = 0) -> None:
    """The same of scenes, image by image, with groups, depictions and views from inside.

    Validation and test have no clicks, and the older names of classes. Raises ValueError for fewer images than there
    are flaws.
    """
    if num_images < 3:
        raise ValueError(f"num_images is {num_images}, must be 3 or more: each of the first three has its flags")
    first = {"train": 2_000_000, "validation": 2_100_000, "test": 2_200_000}[split]
    photos = [make_photo(first + number, seed) for number in range(num_images)]
    names = [f"{(first + number) * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(1, num_images + 1)]
    order = sorted(range(num_images), key=lambda n: names[n])
    rows = []
    for place, number in enumerate(order):
        width, height = photos[number].size
        for thing in photos[number].things:
            box = [round(v / side, 6) for v, side in zip(thing.box, (width, height) * 2, strict=True)]
            if thing.category in _MIDS:
                rows.append(openimages_row(names[number], box, _MIDS[thing.category], IsOccluded=-1))
        rows += _flagged(names[number], place)
    write_openimages(
        root, rows, split, split == "train", split == "train", lambda n: Image.fromarray(photos[order[n]].rgb),
        SCENE_CLASSES,
    )  # fmt: skip


def _flagged(image: str, place: int) -> list[dict[str, Any]]:
    """Rows that no plain object has; place: of the image in the file."""
    flags = ({"IsGroupOf": 1}, {"IsDepiction": 1}, {"IsInside": 1})
    return [openimages_row(image, (0.05, 0.1, 0.6, 0.8)) | flags[place]] if place < len(flags) else []
