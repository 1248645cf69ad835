"""The COCO reader: every row gets a status, bad files one clear error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sketchgen.photo import PhotoError
from sketchgen.source import ImageFiles, SourceConfig
from sketchgen.sources import read_source


def config(folder: tuple[Path, Path]) -> SourceConfig:
    return SourceConfig("coco", annotations=str(folder[0]), images=str(folder[1]))


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "iscrowd": 0} | fields


def test_rows_and_their_status(coco_folder) -> None:
    extra = [
        row(1, iscrowd=1, segmentation={"size": [120, 160], "counts": [0, 19200]}),
        row(2, category_id=999),
        row(4, bbox=[1, 2, None, 4]),
        row(5, bbox=[1, 2, 3]),
        row(6, bbox=[10, 10, -5, -5]),
        row(7, bbox=[float("nan"), 2, 3, 4]),
    ]
    first = next(read_source(config(coco_folder(extra=extra))))
    rows = {r.instance.object_id: r for r in first.instances}
    assert (first.image_id, first.width, first.height, first.license) == ("1", 160, 120, "CC0")
    assert rows["101"].instance.box == (30, 20, 110, 100)
    assert rows["101"].status == "planned"
    assert (rows["1"].status, rows["1"].reason) == ("crowd", "crowd")
    assert (rows["2"].status, rows["2"].reason) == ("dropped", "category-unknown")
    assert {n: rows[n].reason for n in "4567"} == dict.fromkeys("457", "box-invalid") | {"6": "box-empty"}
    assert all(math.isnan(rows[n].instance.box[0]) for n in "457")
    assert rows["6"].instance.box == (10, 10, 5, 5)


def test_images_without_rows_are_left_out_and_limit_counts_the_others(coco_folder) -> None:
    folder = coco_folder(3, edit=lambda data: data["annotations"].pop(0))
    assert [image.image_id for image in read_source(config(folder))] == ["2", "3"]
    limited = SourceConfig("coco", annotations=str(folder[0]), images=str(folder[1]), limit=1)
    assert [image.image_id for image in read_source(limited)] == ["2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "not valid JSON.*download complete"),
        ("", "not valid JSON"),
        ("[]", "not in COCO form: no list 'images' .*seen: list"),
        ('{"images": [], "annotations": {}}', "no list 'annotations'"),
        (
            '{"images": [{"file_name": "a"}], "annotations": [], "categories": []}',
            "images must have id and file_name",
        ),
        (
            '{"images": [], "annotations": [{"image_id": 1}], "categories": []}',
            "annotations must have id and image_id",
        ),
        (
            '{"images": [], "annotations": [{"id": 1, "image_id": 5}, {"id": 1, "image_id": 6}], "categories": []}',
            "annotation id 1 appears twice",
        ),
        ('{"images": [], "annotations": [{"id": 1, "image_id": 5}], "categories": []}', "image_id: 5"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "categories must have id and name"),
        ('{"images": [3], "annotations": [], "categories": []}', "images must have id and file_name"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        list(read_source(SourceConfig("coco", annotations=str(path), images=str(tmp_path))))
    assert "broken.json" in str(caught.value)


def test_missing_settings_name_their_flags(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--source\.annotations .* --source\.images"):
        list(read_source(SourceConfig("coco")))
    with pytest.raises(FileNotFoundError, match="none.json does not exist"):
        list(read_source(SourceConfig("coco", annotations=str(tmp_path / "none.json"), images=str(tmp_path))))
    with pytest.raises(ValueError, match=r"source\.images is empty"):
        ImageFiles(SourceConfig("coco", annotations="x.json"))
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        ImageFiles(SourceConfig("coco", annotations="x.json", images=str(tmp_path / "nowhere")))


def test_files_that_are_missing_have_a_reason_and_a_wrong_folder_is_an_error(coco_folder) -> None:
    settings = config(coco_folder(2))
    files = ImageFiles(settings)
    files.check(["none.jpg", "0001.jpg"])
    with pytest.raises(ValueError, match=r"none of the first 2 images .*none\.jpg.*right folder"):
        files.check(["none.jpg", "neither.jpg"])
    with pytest.raises(PhotoError, match=r"^none\.jpg does not exist") as caught:
        files.read("none.jpg")
    assert caught.value.reason == "image-missing"
    assert files.read("0002.jpg")[:2] == b"\xff\xd8"


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.jpg", "a/../../b.jpg", "http://x/y.jpg", "a\0.jpg", ""])
def test_no_annotation_reaches_outside_the_folder(coco_folder, name: str) -> None:
    folder = coco_folder(1, edit=lambda data: data["images"][0].update(file_name=name))
    with pytest.raises(ValueError, match="leads out of"):
        list(read_source(config(folder)))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=4), max_leaves=6)  # fmt: skip


PLACES = [("annotations", name) for name in ("bbox", "category_id", "iscrowd", "segmentation", "image_id", "id")] + [
    ("images", name) for name in ("id", "file_name", "width", "height", "license")
]
PLACES += [("categories", "id"), ("categories", "name"), ("licenses", "id"), ("licenses", "name")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_in_any_field_gives_rows_or_a_value_error(tmp_path: Path, place: tuple[str, str], value: Any) -> None:
    path = tmp_path / "fuzz.json"
    kind, field = place
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 5, "height": 5}],
        "annotations": [row(1), row(2)],
        "categories": [{"id": 7, "name": "ball"}],
        "licenses": [{"id": 1, "name": "CC0"}],
    }
    data[kind][-1][field] = value
    path.write_text(json.dumps(data))
    try:
        images = list(read_source(SourceConfig("coco", annotations=str(path), images=str(tmp_path))))
    except ValueError as error:
        assert "fuzz.json" in str(error)
    else:
        assert sum(len(image.instances) for image in images) == 2
