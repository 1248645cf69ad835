"""Objects365 and Open Images: read from folders of their exact shape, cleaned, and drawn."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from data_manifests.schema import source_manifest, validate
from sketchgen.config import RunConfig
from sketchgen.engine import EngineConfig
from sketchgen.plan import read_plan
from sketchgen.run import run
from sketchgen.segmenter import SegmenterConfig
from sketchgen.sketcher import SketcherConfig
from sketchgen.source import ImageFiles, SourceConfig, annotation_files, image_folder
from sketchgen.sources import index_of, read_source
from sketchgen.storage import Storage
from tests.datasets import objects365_row, openimages_row, write_coco, write_objects365, write_openimages
from tests.sketchgen.test_run import ledger, quiet, samples

ELLIPSE = (30, 20, 80, 80)
SHARES = (30 / 160, 20 / 120, 110 / 160, 100 / 120)


def reasons(config: SourceConfig) -> dict[str, str]:
    return {r.instance.object_id: r.reason for image in read_source(config) for r in image.instances}


def drawn(config: SourceConfig, out: Path) -> list[Any]:
    """The contract's samples of a run with GrabCut and edges only."""
    base = RunConfig(config, segmenter=SegmenterConfig("grabcut"), sketcher=SketcherConfig("none"))
    assert run(replace(base, engine=EngineConfig("local"), out=str(out)), quiet()) == 0
    return [validate(sample["json"]) for sample in samples(out)]


def test_objects365_is_cleaned_and_its_photos_are_found_in_their_patches(tmp_path: Path) -> None:
    rows = [
        objects365_row(1, 1, ELLIPSE, category_id=22),
        objects365_row(2, 1, ELLIPSE, category_id=22),
        objects365_row(3, 1, (150.5, 100.25, 40, 40)),
        objects365_row(4, 1, (300, 10, 40, 40)),
        objects365_row(5, 2, ELLIPSE, iscrowd=1),
        objects365_row(6, 2, ELLIPSE, isfake=1),
        objects365_row(7, 2, ELLIPSE, category_id=999),
        objects365_row(8, 2, (30, 20, 0, 80)),
        objects365_row(9, 3, ELLIPSE, isreflected=1),
    ]
    write_objects365(tmp_path, rows)
    config = SourceConfig("objects365", root=str(tmp_path))
    assert reasons(config) == {
        "1": "", "2": "duplicate", "3": "", "4": "box-outside", "5": "crowd", "6": "fake", "7": "category-unknown",
        "8": "box-empty", "9": "",
    }  # fmt: skip
    found = drawn(config, tmp_path / "out")
    written = [o.category for sample in found for o in sample.objects if o.status == "written"]
    assert written == ["Cabinet/shelf", "Person"]
    assert found[0].image.source == "objects365"
    assert [o.object_id for o in found[0].objects] == ["1", "3"]  # a box that says twice the same is one object
    assert {row.object_id: row.reason for row in ledger(tmp_path / "out")} == {"1": "", "9": ""}
    assert read_plan(Storage(str(tmp_path / "out"))).left_out["box-small"] == 1  # 9.5 pixels of row 3 are inside


@pytest.mark.parametrize("lies", ["{patch}/{name}", "{name}", "images/v2/{patch}/{name}"])
def test_photos_of_objects365_are_found_however_they_were_unpacked(tmp_path: Path, lies: str) -> None:
    write_objects365(tmp_path, [objects365_row(1, 1, ELLIPSE), objects365_row(2, 2, ELLIPSE)])
    for path in sorted((tmp_path / "train").rglob("*.jpg")):
        target = tmp_path / "train" / lies.format(patch=path.parent.name, name=path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    config = SourceConfig("objects365", root=str(tmp_path))
    files = ImageFiles(config)
    names = [image.file for image in read_source(config)]
    files.check(names)
    assert all(files.read(name)[:2] == b"\xff\xd8" for name in names)


def test_val_has_a_label_of_its_own(tmp_path: Path) -> None:
    write_objects365(tmp_path, [objects365_row(1, 1, ELLIPSE)], split="val")
    config = SourceConfig("objects365", root=str(tmp_path), split="val")
    assert drawn(config, tmp_path / "out")[0].image.source == "objects365-val"


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("clicks", [True, False])
def test_openimages_is_read_by_name_and_its_boxes_become_pixels(tmp_path: Path, header: bool, clicks: bool) -> None:
    rows = [
        openimages_row("0a", SHARES, "/m/0k4j"),
        openimages_row("0a", SHARES, "/m/0k4j"),
        openimages_row("0a", SHARES, IsGroupOf=1),
        openimages_row("0b", SHARES, IsDepiction=1, IsInside=1),
        openimages_row("0b", SHARES, IsInside=1),
        openimages_row("0b", SHARES, IsGroupOf=-1, IsDepiction=-1),
        openimages_row("0b", SHARES, "/m/none"),
        openimages_row("0c", (0.5, 0.5, 0.5, 0.9)),
    ]
    write_openimages(tmp_path, rows, header=header, clicks=clicks)
    config = SourceConfig("openimages", root=str(tmp_path))
    assert reasons(config) == {
        "0a/0": "", "0a/1": "duplicate", "0a/2": "group", "0b/0": "depiction", "0b/1": "inside", "0b/2": "",
        "0b/3": "category-unknown", "0c/0": "box-empty",
    }  # fmt: skip
    found = drawn(config, tmp_path / "out")
    assert [sample.image.id for sample in found] == ["0a", "0b"]
    assert found[0].objects[0].box == [30, 20, 110, 100]
    assert found[0].objects[0].category == "Car"
    assert found[0].sketches[0].sketch_id == "openimages/0a/0"
    assert [o.status for o in found[0].objects] == ["written", "crowd"]


def test_rows_of_openimages_in_any_order_are_put_together(tmp_path: Path) -> None:
    rows = [openimages_row(image, (0, 0, share, 1)) for share in (0.5, 0.7) for image in ("0c", "0a", "0b")]
    write_openimages(tmp_path, rows)
    found = list(read_source(SourceConfig("openimages", root=str(tmp_path))))
    assert [image.image_id for image in found] == ["0c", "0a", "0b"]
    assert all([r.instance.box[2] for r in image.instances] == [0.5, 0.7] for image in found)


def test_a_number_that_is_none_leaves_its_row_out_and_keeps_the_others(tmp_path: Path) -> None:
    write_openimages(tmp_path, [openimages_row("0a", SHARES), openimages_row("0b", SHARES) | {"XMin": "left"}])
    assert reasons(SourceConfig("openimages", root=str(tmp_path))) == {"0a/0": "", "0b/0": "box-invalid"}


def test_coco_2017_is_found_below_its_root(tmp_path: Path) -> None:
    ids = write_coco(tmp_path / "coco", "val", 4)
    config = SourceConfig("coco", root=str(tmp_path / "coco"), split="val")
    assert config.called == "coco-val"
    files = ImageFiles(config)
    found = list(read_source(config))
    assert [image.image_id for image in found] == [str(number) for number in ids[:3]]  # the last has no annotation
    assert [files.read(image.file)[:2] for image in found] == [b"\xff\xd8"] * 3


def test_a_folder_that_is_not_as_described_shows_what_was_expected_and_found(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"zhiyuan_objv2_train\.json or .*found notes\.txt"):
        list(read_source(SourceConfig("objects365", root=str(tmp_path))))
    (tmp_path / "oidv6-train-annotations-bbox.csv").write_text("ImageID\n")
    with pytest.raises(ValueError, match=r"names of the classes should be oidv7-class-descriptions-boxable\.csv or"):
        list(read_source(SourceConfig("openimages", root=str(tmp_path))))
    with pytest.raises(ValueError, match="there is no folder .*nowhere"):
        annotation_files(SourceConfig("objects365", root=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"no split 'minival' \(--source\.split\), only \['train', 'val'\]"):
        annotation_files(SourceConfig("objects365", root=str(tmp_path), split="minival"))
    with pytest.raises(ValueError, match=r"source\.root is empty.*--source\.root DIR.*objects365\.org"):
        annotation_files(SourceConfig("objects365"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no table of boxes"),
        ("ImageID,LabelName\na,b\n", "has no column XMin and YMin and XMax and YMax"),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax\na,b,0,1,0\n", "is no table of boxes: .*Expected 6 columns, got 5"),
        ("\xff\xfe", "is no table of boxes|has no column"),
    ],
)
def test_a_broken_table_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    write_openimages(tmp_path, [openimages_row("0a", SHARES)])
    (tmp_path / "oidv6-train-annotations-bbox.csv").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=message) as caught:
        list(read_source(SourceConfig("openimages", root=str(tmp_path))))
    assert "oidv6-train-annotations-bbox.csv" in str(caught.value)


CELLS = st.text(st.characters(blacklist_characters='\n\r"\0', blacklist_categories=("Cs",)), max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    field=st.sampled_from(["ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf", "Confidence"]),
    value=CELLS | st.floats().map(str),
)
def test_any_cell_leaves_all_rows_in_the_index(tmp_path: Path, field: str, value: str) -> None:
    rows = [openimages_row("0a", SHARES), openimages_row("0b", SHARES) | {field: value}]
    write_openimages(tmp_path, [rows[0]])
    with (tmp_path / "oidv6-train-annotations-bbox.csv").open("w", newline="") as file:
        import csv

        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    try:
        found = index_of(SourceConfig("openimages", root=str(tmp_path)))
    except ValueError as error:
        assert "oidv6-train" in str(error)
    else:
        assert sum(found.reasons.values()) == 2


def test_a_worker_needs_no_annotations(tmp_path: Path) -> None:
    write_objects365(tmp_path, [objects365_row(1, 1, ELLIPSE)])
    config = SourceConfig("objects365", root=str(tmp_path))
    (image,) = read_source(config)
    (tmp_path / "zhiyuan_objv2_train.json").unlink()
    assert image_folder(config) == f"{tmp_path}/train"
    assert ImageFiles(config).read(image.file)[:2] == b"\xff\xd8"


def test_the_index_is_made_once_and_again_when_the_file_changes(tmp_path: Path) -> None:
    write_objects365(tmp_path, [objects365_row(1, 1, ELLIPSE)])
    config = SourceConfig("objects365", root=str(tmp_path), index=str(tmp_path / "index"))
    first = index_of(config)
    made = first.path.stat().st_mtime_ns
    assert index_of(config) == first
    assert first.path.stat().st_mtime_ns == made
    first.path.write_bytes(first.path.read_bytes()[:100])  # cut short
    assert index_of(config) == first
    write_objects365(tmp_path, [objects365_row(1, 1, ELLIPSE), objects365_row(2, 2, ELLIPSE)])
    second = index_of(config)
    assert second.fingerprint != first.fingerprint
    assert second.reasons == {"": 2}
    assert not list((tmp_path / "index").glob(".index-*"))


def test_the_manifests_say_where_and_how() -> None:
    for name in ("coco", "objects365", "openimages"):
        manifest, _ = source_manifest(name)
        assert manifest.obtain and "--" not in manifest.obtain  # of what reads it: each has flags of its own
        assert "train" in manifest.splits
        for split in manifest.splits.values():
            assert split.expected["images"] > 1000


def test_making_an_index_shows_how_far_it_is(tmp_path: Path) -> None:
    write_objects365(tmp_path, [objects365_row(1, 1, ELLIPSE)])
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    index_of(SourceConfig("objects365", root=str(tmp_path), index=str(tmp_path / "index")), console)
    assert "indexing zhiyuan_objv2_train.json" in console.file.getvalue()  # type: ignore[attr-defined]
