"""The `sample` source: real photos inside installed packages, and the boxes that we drew on them."""

import json
from collections import Counter
from typing import Any

import pytest
from PIL import Image

from data_manifests.packaged import packaged_file
from data_manifests.schema import source_manifest

MANIFEST, PATH = source_manifest("sample")
SPLIT = MANIFEST.splits["train"]
COCO: dict[str, Any] = json.loads((PATH.parent / SPLIT.annotations[0]).read_text())
IMAGES = {image["id"]: image for image in COCO["images"]}
CATEGORIES = {category["id"]: category["name"] for category in COCO["categories"]}


def test_size_and_spread() -> None:
    per_class = Counter(annotation["category_id"] for annotation in COCO["annotations"])
    assert len(IMAGES) >= 12
    assert per_class.total() >= 40
    assert len(per_class) >= 15
    assert max(per_class.values()) <= 5


def test_manifest_states_the_counts() -> None:
    counts = {"images": "images", "instances": "annotations", "categories": "categories"}
    assert {name: len(COCO[key]) for name, key in counts.items()} == SPLIT.expected


@pytest.mark.parametrize("key", ["images", "annotations", "categories", "licenses"])
def test_ids_are_unique(key: str) -> None:
    ids = [record["id"] for record in COCO[key]]
    assert len(ids) == len(set(ids))


def test_references_and_nothing_unused() -> None:
    assert {a["image_id"] for a in COCO["annotations"]} == set(IMAGES)
    assert {a["category_id"] for a in COCO["annotations"]} == set(CATEGORIES)
    assert {image["license"] for image in IMAGES.values()} == {entry["id"] for entry in COCO["licenses"]}
    assert all(set(image["not_exhaustive_category_ids"]) <= set(CATEGORIES) for image in IMAGES.values())
    assert len(set(CATEGORIES.values())) == len(CATEGORIES)


def test_every_photo_has_a_name_an_author_and_a_licence() -> None:
    names = {entry["id"]: entry["name"] for entry in COCO["licenses"]}
    for image in IMAGES.values():
        assert image["title"], image
        assert image["author"], image
        assert names[image["license"]], image


def test_every_package_is_named_with_its_licence_in_the_manifest() -> None:
    for package in {image["package"] for image in IMAGES.values()}:
        assert package in MANIFEST.license
        assert package in MANIFEST.obtain


@pytest.mark.parametrize("annotation", COCO["annotations"], ids=lambda a: f"{a['id']}")
def test_box(annotation: dict[str, Any]) -> None:
    image = IMAGES[annotation["image_id"]]
    x, y, width, height = annotation["bbox"]
    assert x >= 0
    assert y >= 0
    assert x + width <= image["width"]
    assert y + height <= image["height"]
    assert min(width, height) >= 24, "too small to make a sketch of"
    assert annotation["area"] == width * height
    assert annotation["iscrowd"] == 0


@pytest.mark.parametrize("image", IMAGES.values(), ids=lambda image: str(image["file_name"]))
def test_photo(image: dict[str, Any]) -> None:
    with Image.open(packaged_file(image["package"], image["path"], image["sha256"])) as photo:
        assert photo.size == (image["width"], image["height"])
        assert photo.mode in ("RGB", "L")
        assert photo.getexif().get(0x0112, 1) == 1, "rotated by EXIF: boxes and pixels would not agree"


def test_photos_differ() -> None:
    assert len({image["sha256"] for image in IMAGES.values()}) == len(IMAGES)
    assert len({image["file_name"] for image in IMAGES.values()}) == len(IMAGES)
