"""The small folders: in the shape of the public datasets, checked without their writers; every reader takes them."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from data_manifests.vocabulary import vocabulary
from sketchgen.banks import BankConfig, build_bank
from sketchgen.engine import EngineConfig
from sketchgen.instructions import InstructionsConfig, run_instructions
from sketchgen.photo import PhotoConfig, decode
from sketchgen.seed import seed_of
from sketchgen.source import ImageFiles, SourceConfig
from sketchgen.sources import index_of, read_source
from sketchgen.tasks.config import TasksConfig
from tests.datasets import (
    fill_objects365,
    fill_openimages,
    write_all,
    write_coco,
    write_pixmo_count,
    write_quickdraw,
    write_sketchy,
    write_tu_berlin,
    write_vqav2,
)
from tests.sketchgen.test_run import quiet, samples

DATASETS = ("coco", "objects365", "openimages", "pixmo_count", "vqav2", "sketchy", "tu_berlin", "quickdraw")
COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
TRANSFORMS = {"tx_" + bits for bits in ("000000000000", "000100000000", "000000000010", "000000000110",
                                        "000000001010", "000000001110")}  # fmt: skip


TINY: dict[str, Callable[[Path, int], Any]] = {
    "coco": lambda root, seed: write_coco(root, "train", 4, seed),
    "objects365": lambda root, seed: fill_objects365(root, "train", 4, seed),
    "openimages": lambda root, seed: fill_openimages(root, "test", 3, seed),
    "pixmo_count": lambda root, seed: write_pixmo_count(root, {"train": 2, "test": 1}, "http://localhost:1/web/", seed),
    "vqav2": lambda root, seed: write_vqav2(root, "val", [42, 44], seed),
    "sketchy": lambda root, seed: write_sketchy(root, ("cat", "hot-air_balloon"), 1, 2, seed=seed),
    "tu_berlin": lambda root, seed: write_tu_berlin(root, ("cat", "bear (animal)"), 1, seed),
    "quickdraw": lambda root, seed: write_quickdraw(root, ("cat", "hot air balloon"), 5, seed=seed),
}
"""Every writer, with as little as it takes."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the script says."""
    done = script(tmp_path_factory.mktemp("datasets"))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def root(said: str) -> Path:
    """What it wrote: all datasets, size 1."""
    return Path(said.partition(": ")[0]).parent


def script(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.datasets", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ink_box(path: Path) -> tuple[int, int, int, int]:
    """Left, top, width and height of what is drawn, pixels."""
    rows, cols = np.nonzero(np.asarray(Image.open(path).convert("L")) < 128)
    return cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1


def test_the_script_says_what_it_wrote_and_spoils_nothing(said: str, root: Path) -> None:
    assert re.findall(r"/(\w+): [\d,]+ files, [\d.]+ MB", said) == list(DATASETS)
    assert {path.name for path in root.iterdir()} == set(DATASETS)
    again = script(root)
    assert again.returncode == 2 and "is not empty" in again.stderr and "Traceback" not in again.stderr


@pytest.mark.parametrize("name", DATASETS)
def test_a_seed_means_the_same_bytes_and_another_one_others(tmp_path: Path, name: str) -> None:
    for folder, seed in (("first", 0), ("again", 0), ("other", 1)):
        (tmp_path / folder).mkdir()
        TINY[name](tmp_path / folder, seed)
    first, again, other = (hashes(tmp_path / folder) for folder in ("first", "again", "other"))
    assert first == again and first
    same = [path for path in first if first[path] == other.get(path)]
    assert all(re.search(r"^info/|class-descriptions|filelist", path) for path in same)  # names alone


@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_is_as_its_facts_say(root: Path, split: str) -> None:
    data = json.loads((root / "coco" / "annotations" / f"instances_{split}2017.json").read_text())
    assert set(data) == {"info", "licenses", "images", "annotations", "categories"}
    ids = [category["id"] for category in data["categories"]]
    assert len(ids) == len({category["name"] for category in data["categories"]}) == 80
    assert set(ids) == set(range(1, 91)) - COCO_GAPS
    licenses = {row["id"] for row in data["licenses"]}
    images = {image["id"]: image for image in data["images"]}
    for image in images.values():
        assert image["file_name"] == f"{image['id']:012d}.jpg" and image["license"] in licenses
        with Image.open(root / "coco" / f"{split}2017" / image["file_name"]) as photo:
            assert photo.format == "JPEG" and photo.size == (image["width"], image["height"])
    assert len({(image["width"], image["height"]) for image in images.values()}) == 2  # wide and upright
    assert len({row["id"] for row in data["annotations"]}) == len(data["annotations"])
    for row in data["annotations"]:
        assert set(row) == {"id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd"}
        assert row["category_id"] in ids
        _check_mask(row, images[row["image_id"]])
    assert set(images) - {row["image_id"] for row in data["annotations"]}  # some have no annotation
    crowds = [row for row in data["annotations"] if row["iscrowd"]]
    assert crowds and all(row["id"] == 900_100_000_000 + row["image_id"] for row in crowds)


def _check_mask(row: dict[str, Any], image: dict[str, Any]) -> None:
    """As pycocotools draws it, it is of that area, and in that box."""
    height, width = image["height"], image["width"]
    segmentation = row["segmentation"]
    if row["iscrowd"]:
        assert segmentation["size"] == [height, width] and sum(segmentation["counts"]) == height * width
        runs = coco_mask.frPyObjects(segmentation, height, width)
    else:
        assert all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation)
        runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    bits = coco_mask.decode(runs)
    assert 0.95 < bits.sum() / row["area"] < 1.15  # holes are filled
    rows, cols = np.nonzero(bits)
    seen = (cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1)
    assert np.abs(np.array(seen) - row["bbox"]).max() <= 2


def test_splits_of_coco_do_not_meet_and_one_photo_is_grey(root: Path) -> None:
    names = {split: {path.name for path in (root / "coco" / f"{split}2017").iterdir()} for split in ("train", "val")}
    assert {split: len(found) for split, found in names.items()} == {"train": 12, "val": 6}
    assert not names["train"] & names["val"]
    modes = Counter(Image.open(path).mode for path in (root / "coco" / "train2017").iterdir())
    assert modes == {"RGB": 11, "L": 1}


@pytest.mark.parametrize("split", ["train", "val"])
def test_objects365_is_as_its_facts_say(root: Path, split: str) -> None:
    data = json.loads((root / "objects365" / f"zhiyuan_objv2_{split}.json").read_text())
    assert all(1 <= row["id"] <= 365 for row in data["categories"])
    assert {"Cabinet/shelf", "Barrel/bucket"} <= {row["name"] for row in data["categories"]}
    images = {image["id"]: image for image in data["images"]}
    versions = set()
    for image in images.values():
        assert {"id", "file_name", "width", "height", "license", "url"} == set(image)
        found = re.fullmatch(r"images/(v[12])/(patch\d+)/(objects365_(v[12])_\d{8}\.jpg)", image["file_name"])
        assert found and found[1] == found[4]
        versions.add((found[1], int(found[2].removeprefix("patch")) < 16))
        with Image.open(root / "objects365" / split / found[2] / found[3]) as photo:
            assert photo.size == (image["width"], image["height"])
    assert versions == {("v1", True), ("v2", False)}
    rows = data["annotations"]
    fields = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "isfake", "isreflected"}
    assert all(set(row) == fields for row in rows) and len({row["id"] for row in rows}) == len(rows)
    assert all(any(row[flag] for row in rows) for flag in ("iscrowd", "isfake", "isreflected"))
    assert max(Counter((row["image_id"], row["category_id"], *row["bbox"]) for row in rows).values()) == 2
    assert any(row["bbox"][0] + row["bbox"][2] > images[row["image_id"]]["width"] for row in rows)
    assert [row["image_id"] for row in rows] != sorted(row["image_id"] for row in rows)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_openimages_is_as_its_facts_say(root: Path, split: str) -> None:
    name = {"train": "oidv6-train-annotations-bbox.csv"}.get(split, f"{split}-annotations-bbox.csv")
    with (root / "openimages" / name).open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    flags = ["IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"]
    head = ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", *flags]
    clicks = [f"XClick{n}{axis}" for axis in "XY" for n in (1, 2, 3, 4)]
    assert reader.fieldnames == (head + clicks if split == "train" else head)
    for row in rows:
        assert 0 <= float(row["XMin"]) < float(row["XMax"]) <= 1 and 0 <= float(row["YMin"]) < float(row["YMax"]) <= 1
        assert {row[flag] for flag in flags} <= {"1", "0", "-1"}
        assert re.fullmatch(r"[0-9a-f]{16}", row["ImageID"]) and re.fullmatch(r"/m/\w+", row["LabelName"])
    assert all(any(row[flag] == "1" for row in rows) for flag in flags[2:])
    assert any(row[flag] == "-1" for row in rows for flag in flags)
    photos = {path.stem for path in (root / "openimages" / split).glob("*.jpg")}
    assert photos == {row["ImageID"] for row in rows}


def test_class_names_of_openimages_come_with_a_header_and_without(root: Path) -> None:
    texts = [(root / "openimages" / name).read_text() for name in
             ("oidv7-class-descriptions-boxable.csv", "class-descriptions-boxable.csv")]  # fmt: skip
    assert texts[0] == "LabelName,DisplayName\n" + texts[1]
    assert {"Bat (Animal)", "Kitchen & dining room table"} <= {line.split(",")[1] for line in texts[1].splitlines()}


def test_pixmo_count_is_as_its_facts_say(root: Path) -> None:
    files = sorted((root / "pixmo_count" / "data").iterdir())
    assert [path.name for path in files] == [
        "test-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet",
        "validation-00000-of-00001.parquet",
    ]  # fmt: skip
    text, points = pa.string(), pa.struct({"x": pa.list_(pa.float32()), "y": pa.list_(pa.float32())})
    evaluated = {"image_url": text, "image_sha256": text, "count": pa.int32(), "label": text}
    urls: list[str] = []
    for path in files:
        train = path.name.startswith("train")
        schema = pq.read_schema(path)
        assert dict(zip(schema.names, schema.types, strict=True)) == evaluated | ({"points": points} if train else {})
        for row in pq.read_table(path).to_pylist():
            urls.append(row["image_url"])
            assert re.fullmatch(r"[0-9a-f]{64}", row["image_sha256"]) and row["label"]
            if train:
                assert len(row["points"]["x"]) == len(row["points"]["y"]) == row["count"] >= 1
                assert all(0 <= v <= 256 for axis in "xy" for v in row["points"][axis])
            else:
                assert 2 <= row["count"] <= 10
    assert max(Counter(urls).values()) > 1  # a photo with several classes


def test_urls_of_pixmo_count_rot_and_change_as_they_are_said_to(tmp_path: Path) -> None:
    fates = write_pixmo_count(tmp_path, {"train": 14, "test": 7})
    tables = [pq.read_table(path, columns=["image_url", "image_sha256"]) for path in (tmp_path / "data").iterdir()]
    rows = {row["image_url"]: row["image_sha256"] for row in pa.concat_tables(tables).to_pylist()}
    seen: dict[str, set[tuple[bool, bool]]] = defaultdict(set)
    for url, sha256 in rows.items():
        places = (Path(unquote(urlparse(url).path)), tmp_path / "images" / sha256)
        there = [hashlib.sha256(path.read_bytes()).hexdigest() == sha256 if path.exists() else None for path in places]
        seen[fates[url]].add((there[0], there[1]))
    assert dict(seen) == {
        "served": {(True, None)}, "cached": {(True, True)}, "kept": {(None, True)}, "rotten": {(None, None)},
        "changed": {(False, None)}, "torn": {(True, False)},
    }  # fmt: skip


@pytest.mark.parametrize("split", ["train", "val"])
def test_vqav2_is_as_its_facts_say(root: Path, split: str) -> None:
    folder = root / "vqav2"
    questions = json.loads((folder / f"v2_OpenEnded_mscoco_{split}2014_questions.json").read_text())["questions"]
    rows = json.loads((folder / f"v2_mscoco_{split}2014_annotations.json").read_text())["annotations"]
    assert all(set(question) == {"image_id", "question", "question_id"} for question in questions)
    fields = {"question_id", "image_id", "question_type", "answer_type", "multiple_choice_answer", "answers"}
    assert all(set(row) == fields for row in rows)
    image_of = {question["question_id"]: question["image_id"] for question in questions}
    assert len(image_of) == len(questions) and image_of == {row["question_id"]: row["image_id"] for row in rows}
    assert [row["question_id"] for row in rows] != [question["question_id"] for question in questions]
    for row in rows:
        assert [answer["answer_id"] for answer in row["answers"]] == list(range(1, 11))
        assert all(set(answer) == {"answer", "answer_confidence", "answer_id"} for answer in row["answers"])
        counts = Counter(answer["answer"] for answer in row["answers"])
        assert counts[row["multiple_choice_answer"]] == max(counts.values())
    assert {row["answer_type"] for row in rows} == {"yes/no", "number", "other"}
    assert {len({answer["answer"] for answer in row["answers"]}) for row in rows} >= {1, 2}  # some disagree
    photos = {path.name for path in (folder / f"{split}2014").iterdir()}
    assert photos == {f"COCO_{split}2014_{image:012d}.jpg" for image in image_of.values()}


def test_photos_of_vqav2_are_those_of_coco_under_other_splits(root: Path) -> None:
    """A photo of val2014 may be one of train2017: who holds out the one must look at the other."""
    splits: dict[str, set[str]] = {"train": set(), "val": set()}
    for path in (root / "vqav2").glob("*2014/*.jpg"):
        year14, number = re.fullmatch(r"COCO_(\w+)2014_(\d{12})\.jpg", path.name).groups()  # type: ignore[union-attr]
        (twin,) = (root / "coco").glob(f"*2017/{number}.jpg")
        splits[year14].add(twin.parent.name)
        with Image.open(path) as one, Image.open(twin) as other:
            assert one.size == other.size
            difference = np.asarray(one.convert("L"), int) - np.asarray(other.convert("L"), int)
            assert np.abs(difference).mean() < 3
    assert splits == {"train": {"train2017"}, "val": {"train2017", "val2017"}}


def test_sketchy_is_as_its_facts_say(root: Path) -> None:
    base = root / "sketchy" / "256x256"
    assert {path.name for path in (base / "sketch").iterdir()} == TRANSFORMS
    assert {path.name for path in (base / "photo").iterdir()} == {"tx_000000000000", "tx_000100000000"}
    photos = [{p.relative_to(tx).as_posix() for p in tx.glob("*/*.jpg")} for tx in (base / "photo").iterdir()]
    sketches = [{p.relative_to(tx).as_posix() for p in tx.glob("*/*.png")} for tx in (base / "sketch").iterdir()]
    assert all(found == photos[0] for found in photos) and all(found == sketches[0] for found in sketches)
    drawn = Counter(re.fullmatch(r"(.*)-\d+\.png", name)[1] + ".jpg" for name in sketches[0])  # type: ignore[index]
    assert set(drawn) == photos[0] and set(drawn.values()) == {5}
    assert all(re.fullmatch(r"[^/]+/n\d{8}_\d+\.jpg", name) for name in photos[0])
    assert {"hot-air_balloon", "car_(sedan)"} < {name.partition("/")[0] for name in photos[0]}
    assert all(Image.open(path).size == (256, 256) for path in base.rglob("*.*"))
    test = (root / "sketchy" / "info" / "testset.txt").read_text().split("\n")
    assert test.pop() == "" and 0 < len(set(test) & photos[0]) == len(test) < len(photos[0])
    invalid = [p.read_text().splitlines() for p in (root / "sketchy" / "info").glob("invalid-*.txt")]
    stems = {Path(name).stem for name in sketches[0]}
    assert set(itertools.chain(*invalid)) < stems and [] in invalid
    extended = {p.relative_to(root / "sketchy").as_posix() for p in (root / "sketchy").glob("EXTEND*/*/*")}
    assert all(re.fullmatch(r"EXTEND_image_sketchy/[^/]+/ext_\d+\.jpg", name) for name in extended) and extended


def test_drawings_of_sketchy_lie_as_their_transform_says(root: Path) -> None:
    base = root / "sketchy" / "256x256" / "sketch"
    names = sorted(path.relative_to(base / "tx_000100000000") for path in (base / "tx_000100000000").glob("*/*-3.png"))
    for name in names:
        box = {tx: ink_box(base / tx / name) for tx in TRANSFORMS}
        left, top, width, height = box["tx_000100000000"]
        assert abs(max(width, height) - 0.78 * 256) < 6
        assert abs(left + width / 2 - 128) < 3 and abs(top + height / 2 - 128) < 3
        inside, around, stretched = (box[f"tx_00000000{bits}"] for bits in ("0110", "1010", "1110"))
        for side in (2, 3):
            assert inside[side] - 3 <= stretched[side]
            assert stretched[side] - 3 <= around[side] or around[side - 2] + around[side] >= 254 or not around[side - 2]


def test_photos_of_sketchy_lie_under_their_drawings(root: Path) -> None:
    """What the box-aligned drawing spans of the whole photo, and a tenth more, is the photo of the box."""
    base = root / "sketchy" / "256x256"
    alike = []
    for path in sorted((base / "photo" / "tx_000100000000").glob("*/*.jpg")):
        drawing = base / "sketch" / "tx_000000001110" / path.parent.name / f"{path.stem}-2.png"
        left, top, width, height = ink_box(drawing)
        whole = Image.open(base / "photo" / "tx_000000000000" / path.parent.name / path.name)
        box = (left - 0.1 * width, top - 0.1 * height, left + 1.1 * width, top + 1.1 * height)
        part = whole.resize((256, 256), box=tuple(float(np.clip(value, 0, 256)) for value in box))
        pixels = [np.asarray(image.convert("L"), float).ravel() for image in (part, Image.open(path))]
        alike.append(float(np.corrcoef(pixels)[0, 1]))
    assert len(alike) == 18 and min(alike) > 0.85 and np.median(alike) > 0.95


def test_tu_berlin_is_as_its_facts_say(root: Path) -> None:
    folder = root / "tu_berlin" / "png"
    found = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.png")}
    listed = (folder / "filelist.txt").read_text().splitlines()
    assert set(listed) == found and len(listed) == len(found)
    assert sorted(int(Path(name).stem) for name in listed) == list(range(1, len(found) + 1))
    assert {"bear (animal)", "car (sedan)", "computer-mouse"} <= {name.partition("/")[0] for name in found}
    assert {Image.open(folder / name).size for name in found} == {(1111, 1111)}


@pytest.mark.parametrize("kind", ["simplified", "raw"])
def test_quickdraw_is_as_its_facts_say(tmp_path: Path, kind: Any) -> None:
    write_quickdraw(tmp_path, ("cat", "hot air balloon"), 40, kind)
    for name in ("cat", "hot air balloon"):
        lines = (tmp_path / f"{name}.ndjson").read_text().splitlines()
        whole = [line for line in lines if line.endswith("}")]
        assert (len(lines), len(whole)) == (41, 40)
        rows = [json.loads(line) for line in whole]
        fields = {"key_id", "word", "countrycode", "timestamp", "recognized", "drawing"}
        assert all(set(row) == fields and row["word"] == name for row in rows)
        assert len({row["key_id"] for row in rows}) == 40 and all(
            re.fullmatch(r"\d{16}", row["key_id"]) for row in rows
        )
        assert [row["recognized"] for row in rows].count(True) == 32
        for row in rows:
            _check_strokes(row["drawing"], kind)


def _check_strokes(drawing: list[list[list[float]]], kind: str) -> None:
    assert drawing and all(len(stroke) == (2 if kind == "simplified" else 3) for stroke in drawing)
    assert all(len({len(axis) for axis in stroke}) == 1 and stroke[0] for stroke in drawing)
    if kind == "raw":
        times = [moment for stroke in drawing for moment in stroke[2]]
        assert times == sorted(times) and times[0] == 0
        return
    axes = [[value for stroke in drawing for value in stroke[axis]] for axis in (0, 1)]
    assert all(type(value) is int for axis in axes for value in axis)
    assert min(axes[0]) <= 3 and min(axes[1]) <= 3 and 250 <= max(*axes[0], *axes[1]) <= 255


def test_drawings_differ_by_class_and_by_hand(root: Path) -> None:
    bank = build_bank(BankConfig("quickdraw", root=str(root / "quickdraw")))
    pictures = {
        name: {bank.draw(name, seed_of(name, n)).image.tobytes() for n in range(12)} for name in bank.categories
    }
    assert len(pictures) == 12
    assert min(map(len, pictures.values())) >= 6  # two seeds may mean the same line
    assert len(set().union(*pictures.values())) == sum(map(len, pictures.values()))


SOURCES = [("coco", "train"), ("coco", "val"), ("objects365", "train"), ("objects365", "val"),
           *(("openimages", split) for split in ("train", "validation", "test"))]  # fmt: skip


@pytest.mark.parametrize(("name", "split"), SOURCES)
def test_every_source_is_read_and_its_photos_are_sound(root: Path, name: str, split: str) -> None:
    config = SourceConfig(name, root=str(root / name), split=split)
    files = ImageFiles(config)
    images = list(read_source(config))
    for image in images:
        photo = decode(files.read(image.file), (image.width, image.height), PhotoConfig(), image.relative)
        assert photo.rgb.shape[:2] in ((192, 256), (256, 192))
    found = set(index_of(config).reasons)
    flaws = {
        "coco": {"crowd"},
        "objects365": {"crowd", "fake", "duplicate", "box-outside", "box-empty"},
        "openimages": {"group", "depiction", "inside"},
    }[name]
    assert found == {"", *flaws}
    assert sum(not one.reason for image in images for one in image.instances) >= 8
    assert index_of(config).images >= len(images)


@pytest.mark.parametrize(("name", "splits"), [("quickdraw", ("train", "val")), ("sketchy", ("train", "val")),
                                              ("tu_berlin", ("val",))])  # fmt: skip
def test_every_bank_draws_every_class(root: Path, name: Any, splits: Any) -> None:
    for split in splits:
        config = BankConfig(name, root=str(root / name), split=split)
        bank = build_bank(config)
        assert len(bank.categories) >= 6
        for category in bank.categories:
            one, again = (one.draw(category, 12345) for one in (bank, build_bank(config)))
            assert one.sketch_id == again.sketch_id and (one.image == again.image).all()
            assert one.image.shape == (256, 256) and one.image.dtype == np.uint8
            assert 0.001 < (one.image < 128).mean() < 0.3


@pytest.mark.parametrize("bank", ["quickdraw", "sketchy", "tu_berlin"])
@pytest.mark.parametrize("source", ["coco", "objects365", "openimages"])
def test_sources_and_banks_have_classes_in_common(root: Path, source: str, bank: Any) -> None:
    images = {
        one.instance.category
        for image in read_source(SourceConfig(source, root=str(root / source)))
        for one in image.instances
    }
    drawings = build_bank(BankConfig(bank, root=str(root / bank), split="val")).categories
    assert len(vocabulary().match(images, drawings, source, bank).drawn_by) >= 2


@pytest.mark.parametrize(("source", "bank"), [("coco", "quickdraw"), ("objects365", "sketchy"),
                                              ("openimages", "quickdraw")])  # fmt: skip
def test_every_task_is_asked_about_them(root: Path, tmp_path: Path, source: str, bank: Any) -> None:
    config = InstructionsConfig(
        source=SourceConfig(source, root=str(root / source)),
        bank=BankConfig(bank, root=str(root / bank)),
        tasks=TasksConfig(max_boxes=3),
        engine=EngineConfig("local"),
        out=str(tmp_path / "out"),
    )
    assert run_instructions(config, quiet()) == 0
    records = [json.loads(sample["json"]) for sample in samples(tmp_path / "out")]
    asked = {query["task"] for record in records for query in record["queries"]}
    assert asked == {"describe", "bbox", "count", "vqa", "sbir"}


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match="is not empty: name another folder"):
        next(write_all(tmp_path))
    with pytest.raises(ValueError, match="size is 0, must be 1 or more"):
        next(write_all(tmp_path / "new", size=0))
    with pytest.raises(ValueError, match="num_images is 3, must be 4 or more"):
        write_coco(tmp_path, "train", 3)


def test_photos_of_coco_are_those_of_vqav2_for_the_same_seed_only(tmp_path: Path) -> None:
    ids = write_coco(tmp_path, "val", 4, seed=3)
    for seed in (3, 4):
        write_vqav2(tmp_path / str(seed), "val", ids[:1], seed)
    name = f"{ids[0]:012d}.jpg"
    photos = [(tmp_path / "val2017" / name).read_bytes()]
    photos += [(tmp_path / str(seed) / "val2014" / f"COCO_val2014_{name}").read_bytes() for seed in (3, 4)]
    assert photos[0] == photos[1] != photos[2]
