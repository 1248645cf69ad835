"""Small folders in the exact shape of public datasets, for tests: nothing in them is real."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import draw_scene

OPENIMAGES_FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
CLICKS = tuple(f"XClick{n}{axis}" for axis in "XY" for n in range(1, 5))


def objects365_row(number: int, image: int, box: Sequence[float], **fields: Any) -> dict[str, Any]:
    """An annotation of Objects365; box: xywh."""
    row = {
        "iscrowd": 0, "isfake": 0, "area": 1.0, "isreflected": 0, "bbox": list(box), "image_id": image,
        "category_id": 1, "id": number,
    }  # fmt: skip
    return row | fields


def write_objects365(root: Path, rows: Sequence[dict[str, Any]], images: int = 3, split: str = "train") -> None:
    """`zhiyuan_objv2_SPLIT.json` and the photos 1 to `images`, in patches, each with the ellipse of `draw_scene`."""
    entries = []
    for number in range(1, images + 1):
        patch, name = f"patch{number % 2 + 16}", f"objects365_v2_{number:08d}.jpg"
        (root / split / patch).mkdir(parents=True, exist_ok=True)
        draw_scene(number).save(root / split / patch / name, quality=95)
        entry = {"height": 120, "id": number, "license": 5, "width": 160}
        entries.append(entry | {"file_name": f"images/v2/{patch}/{name}", "url": ""})
    categories = [{"name": "Person", "id": 1}, {"name": "Cabinet/shelf", "id": 22}]
    data = {"images": entries, "annotations": list(rows), "categories": categories, "licenses": []}
    (root / f"zhiyuan_objv2_{split}.json").write_text(json.dumps(data))


def openimages_row(image: str, box: Sequence[float], label: str = "/m/01g317", **flags: int) -> dict[str, Any]:
    """A row of the boxes; box: x1, y1, x2, y2 as shares."""
    x1, y1, x2, y2 = box
    row = {"ImageID": image, "Source": "xclick", "LabelName": label, "Confidence": 1}
    row |= {"XMin": x1, "XMax": x2, "YMin": y1, "YMax": y2} | dict.fromkeys(OPENIMAGES_FLAGS, 0)
    return row | dict.fromkeys(CLICKS, 0.5) | flags


def write_openimages(
    root: Path, rows: Sequence[dict[str, Any]], split: str = "train", header: bool = True, clicks: bool = True
) -> None:
    """The boxes, the class names (with the header of V7 or without one) and a photo of each image."""
    (root / split).mkdir(parents=True, exist_ok=True)
    name = f"oidv6-{split}-annotations-bbox.csv" if split == "train" else f"{split}-annotations-bbox.csv"
    fields = [field for field in openimages_row("", (0, 0, 1, 1)) if clicks or not field.startswith("XClick")]
    with (root / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, fields, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = "/m/01g317,Person\n/m/0k4j,Car\n/m/02p5f1q,Coffee cup\n"
    if header:
        (root / "oidv7-class-descriptions-boxable.csv").write_text(f"LabelName,DisplayName\n{text}")
    else:
        (root / "class-descriptions-boxable.csv").write_text(text)
    for number, image in enumerate(sorted({str(row["ImageID"]) for row in rows})):
        draw_scene(number).save(root / split / f"{image}.jpg", quality=95)
