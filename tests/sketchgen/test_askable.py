"""What can be said of an image: nothing of what is kept unseen, nothing twice, and nothing that nobody knows."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from data_manifests.vocabulary import vocabulary
from sketchgen.askable import DIFFERS, Askable
from sketchgen.banks import BankConfig, bank_settings
from sketchgen.engine import EngineConfig
from sketchgen.instance import Instance
from sketchgen.instructions import InstructionsConfig, run_instructions, settings_of
from sketchgen.ledger import QueryRow
from sketchgen.source import TWICE, SourceConfig, SourceImage, SourceInstance, SourceQuery
from sketchgen.tasks.config import TasksConfig
from tests.conftest import draw_scene
from tests.datasets import write_quickdraw, write_sketchy
from tests.sketchgen.test_instructions import ledger, samples, world


def quiet() -> Console:
    return Console(file=io.StringIO())


def thing(name: str, box: tuple[float, float, float, float] = (10, 10, 60, 60), reason: str = "") -> SourceInstance:
    return SourceInstance(Instance(f"{name}{box}", name, box), reason)


def image(*things: SourceInstance, asked: tuple[SourceQuery, ...] = ()) -> SourceImage:
    return SourceImage("1", "1.jpg", 100, 100, "", things, asked=asked)


# --- names


@pytest.mark.parametrize(
    ("text", "is_said"),
    [
        ("Where are the butterflies?", True), ("How many planes?", True), ("an aeroplane", True), ("an aircraft", True),
        ("Is this a jetliner", True), ("the TEDDY", True), ("wine bottles", True), ("Is it a parrot.", True),
        ("What is on the plate?", False), ("planetarium", False), ("a caterpillar", False), ("", False),
    ],
)  # fmt: skip
def test_a_class_is_spoken_of_by_any_of_its_names(text: str, is_said: bool) -> None:
    unseen = frozenset({"airplane", "butterfly", "parrot", "teddy bear", "wine bottle"})
    assert vocabulary().speaks_of(text, unseen) is is_said


@pytest.mark.parametrize("text", ["three mice", "a mouse", "the rhino", "cattle on a field", "bats"])
def test_what_is_kept_out_is_kept_out_in_every_meaning(text: str) -> None:
    unseen = frozenset({"mouse (animal)", "rhinoceros", "cow", "bat (animal)"})
    assert vocabulary().speaks_of(text, unseen)


def test_what_a_source_names_twice_is_there_once() -> None:
    ask = Askable("openimages", ["couch", "person"], frozenset())
    near = (10.0, 10.0, 61.0, 60.0)
    found = ask.named(image(thing("Couch"), thing("Studio couch", near), thing("Sofa bed", (70, 70, 90, 90))))
    assert [row.instance.category for row in found.instances] == ["couch"] * 3
    assert [row.reason for row in found.instances] == ["", TWICE, ""]
    # two of one name are two things, however near
    found = ask.named(image(thing("Couch"), thing("Couch", near)))
    assert [row.reason for row in found.instances] == ["", ""]


def test_counts_that_contradict_each_other_are_not_asked() -> None:
    ask = Askable("pixmo_count", ["cat", "dog"], frozenset())
    queries = [SourceQuery(label, "count", label, count) for label, count in
               (("cats", 2), ("cat", 3), ("dogs", 1), ("Dog", 1))]  # fmt: skip
    found = ask.named(image(asked=tuple(queries)))
    assert [(q.category, q.reason) for q in found.asked] == [
        ("cat", DIFFERS), ("cat", DIFFERS), ("dog", ""), ("dog", TWICE)
    ]  # fmt: skip


def test_a_name_of_which_one_meaning_is_unseen_is_unseen_and_what_stands_there_stays() -> None:
    ask = Askable("objects365", ["cup", "dog"], frozenset({"cup"}))
    found, rows = ask.sift(ask.named(image(thing("Cup/Mug"), thing("Dog"))), QueryRow(0, "1"))
    assert [row.instance.category for row in found.instances] == ["", "dog"]
    assert [(row.reason, row.category) for row in rows] == [("class-unseen", "cup/mug")]


def test_of_wider_classes_nobody_can_say_that_they_are_not_there() -> None:
    unclear = vocabulary().unclear
    assert {"animal", "mammal", "carnivore"} <= unclear({"dog"})
    assert "person" in unclear({"man"}) and "man" in unclear({"person"}) and "woman" not in unclear({"man"})
    assert {"bird", "animal"} <= unclear({"duck"}) and "duck" in unclear({"bird"}) and "bird" not in unclear({"bird"})
    assert unclear({"cup"}) & {"fork", "dog"} == set()


# --- runs


def coco(folder: Path, rows: list[dict[str, Any]], names: list[str], images: int = 8) -> SourceConfig:
    """Photos with the same rows each; rows: category and bbox (xywh)."""
    (folder / "photos").mkdir(parents=True)
    for number in range(images):
        draw_scene(number).save(folder / "photos" / f"{number}.jpg", quality=95)
    data = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 160, "height": 120} for n in range(images)],
        "annotations": [
            row | {"id": n * 100 + k, "image_id": n, "iscrowd": 0} for n in range(images) for k, row in enumerate(rows)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
    }
    (folder / "a.json").write_text(json.dumps(data))
    return SourceConfig("coco", annotations=str(folder / "a.json"), images=str(folder / "photos"))


@pytest.fixture(scope="module")
def quickdraw(tmp_path_factory: pytest.TempPathFactory) -> BankConfig:
    root = tmp_path_factory.mktemp("qd")
    write_quickdraw(root)
    return BankConfig("quickdraw", root=str(root))


def run(source: SourceConfig, bank: BankConfig, out: Path, tasks: TasksConfig, **fields: Any) -> InstructionsConfig:
    config = InstructionsConfig(source, bank, tasks=tasks, engine=EngineConfig("local"), out=str(out), **fields)
    assert run_instructions(config, quiet()) == 0
    return config


def test_a_row_whose_box_means_nothing_is_no_no(quickdraw: BankConfig, tmp_path: Path) -> None:
    names = ["cat", "dog", "horse", "bird", "sheep"]
    rows = [{"category_id": 0, "bbox": [10, 10, 40, 40]}, {"category_id": 1, "bbox": [10, 10, 0, 40]}]
    run(coco(tmp_path / "in", rows, names), quickdraw, tmp_path / "out", TasksConfig(zero_rate=1.0, min_counts=1))
    asked = Counter(row.category for row in ledger(tmp_path / "out") if row.status == "written")
    assert asked["cat"] and not asked["dog"]


def test_tasks_that_ask_of_what_is_there_need_nothing_that_is_not(quickdraw: BankConfig, tmp_path: Path) -> None:
    rows = [{"category_id": 0, "bbox": [10, 10, 40, 40]}]
    source = coco(tmp_path / "in", rows, ["cat"])
    run(source, quickdraw, tmp_path / "out", TasksConfig(names=("bbox", "describe"), min_singles=1))
    assert Counter(row.task for row in ledger(tmp_path / "out")) == {"bbox": 8, "describe": 8}


def test_a_grey_photo_is_not_asked_for_colours(quickdraw: BankConfig, tmp_path: Path) -> None:
    from PIL import Image

    rows = [{"category_id": 0, "bbox": [30, 20, 80, 80], "segmentation": [[30, 20, 110, 20, 110, 100, 30, 100]]}]
    source = coco(tmp_path / "in", rows, ["cat", "dog"])
    for number in range(8):
        path = tmp_path / "in" / "photos" / f"{number}.jpg"
        Image.new("RGB", (160, 120), (90, 90, 92)).save(path)
    run(source, quickdraw, tmp_path / "out", TasksConfig(names=("vqa",)))
    assert not [row for row in ledger(tmp_path / "out") if row.query_id.endswith("colour")]


def test_unseen_classes_of_a_procedural_world_are_neither_drawn_nor_named(tmp_path: Path) -> None:
    config = replace(world(tmp_path, scenes=12), unseen="shen-25")
    assert run_instructions(config, quiet()) == 0
    kept_out = {"cup", "horse", "tree", "umbrella"}
    for record, _, _ in samples(tmp_path).values():
        assert not {s.category for s in record.sketches} & kept_out
        assert not {o.category for o in record.objects} & kept_out
        said = " ".join(text for q in record.queries for text in (q.question, *q.answers))
        assert not [name for name in kept_out if re.search(rf"\b{name}s?\b", said)]


def test_a_class_whose_drawings_cannot_be_read_costs_one_photo_of_a_shard(tmp_path: Path) -> None:
    classes = ("cat", "cup", "apple", "dog")
    write_sketchy(tmp_path / "in", classes, photos_per_class=12)
    for path in (tmp_path / "in").rglob("256x256/sketch/*/cup/*.png"):
        path.write_bytes(b"no picture")
    source, bank = SourceConfig("sketchy", root=str(tmp_path / "in")), BankConfig("sketchy", root=str(tmp_path / "in"))
    run(source, bank, tmp_path / "out", TasksConfig(names=("sbir",)))
    rows = ledger(tmp_path / "out")
    assert any(row.reason == "drawing-broken" and row.category == "cup" for row in rows)
    answers = Counter(row.match for row in rows if row.status == "written")
    assert abs(answers[1] - answers[0]) <= 2 and answers[1] > 20


def sketchy_source(tmp_path: Path, classes: tuple[str, ...], photos: int) -> tuple[SourceConfig, BankConfig]:
    write_sketchy(tmp_path / "in", classes, photos_per_class=photos)
    return SourceConfig("sketchy", root=str(tmp_path / "in")), BankConfig("sketchy", root=str(tmp_path / "in"))


@pytest.mark.slow
def test_a_small_size_takes_of_every_class_and_no_class_is_another_s_only_negative(tmp_path: Path) -> None:
    classes = ("cat", "cup", "apple", "dog", "horse")
    source, bank = sketchy_source(tmp_path, classes, 24)
    run(source, bank, tmp_path / "part", TasksConfig(names=("sbir",)), size=50)
    rows = [row for row in ledger(tmp_path / "part") if row.status == "written"]
    assert len(rows) == 50
    shown = {i: o.category for i, (record, _, _) in samples(tmp_path / "part").items() for o in record.objects}
    assert min(Counter(shown.values()).values()) >= 3 and set(shown.values()) == set(classes)
    run(source, bank, tmp_path / "all", TasksConfig(names=("sbir",)))
    against: dict[str, Counter[str]] = {}
    for record, _, _ in samples(tmp_path / "all").values():
        [own] = {o.category for o in record.objects}
        against.setdefault(own, Counter()).update(q.category for q in record.queries if q.match == 0)
    assert all(max(counts.values()) < 0.8 * counts.total() for counts in against.values()), against


def test_several_pairs_of_a_photo(tmp_path: Path) -> None:
    source, bank = sketchy_source(tmp_path, ("cat", "cup", "apple", "dog"), 6)
    run(source, bank, tmp_path / "out", TasksConfig(names=("sbir",), pairs=3, own=0.3))
    for record, _, _ in samples(tmp_path / "out").values():
        assert Counter(q.match for q in record.queries) == {0: 3, 1: 3}
        assert len({q.query_id for q in record.queries}) == 6
        others = [q.category for q in record.queries if q.match == 0 and not q.question]
        assert len(set(others)) == len(others)
        assert all(s.category == q.category for s, q in zip(record.sketches, record.queries, strict=True))


def test_photos_that_have_nothing_to_ask_are_made_up_for(quickdraw: BankConfig, tmp_path: Path) -> None:
    """Half of the photos show what no bank draws."""
    source = coco(tmp_path / "in", [{"category_id": 0, "bbox": [10, 10, 40, 40]}], ["cat", "moon"], images=40)
    path = tmp_path / "in" / "a.json"
    data = json.loads(path.read_text())
    for row in data["annotations"][20:]:
        row["category_id"] = 1
    path.write_text(json.dumps(data))
    run(source, quickdraw, tmp_path / "out", TasksConfig(names=("bbox",), min_singles=1), size=20)
    assert sum(row.status == "written" for row in ledger(tmp_path / "out")) == 20


@pytest.mark.parametrize(("photos", "drawings"), [("val", "train"), ("train", "val")])
def test_photos_and_drawings_are_of_one_split(tmp_path: Path, photos: Any, drawings: Any) -> None:
    source, bank = sketchy_source(tmp_path, ("cat", "cup"), 6)
    with pytest.raises(ValueError, match=f"source.split is '{photos}' and bank.split is '{drawings}'"):
        run(
            replace(source, split=photos), replace(bank, split=drawings), tmp_path / "out", TasksConfig(names=("sbir",))
        )


def test_settings_hold_what_decides_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, bank = sketchy_source(tmp_path, ("cat", "cup"), 6)
    config = InstructionsConfig(source, bank, tasks=TasksConfig(names=("sbir",)))
    before = settings_of(config)
    (tmp_path / "in" / "README.txt").write_text("mine")
    assert settings_of(replace(config, bank=replace(bank, width=5.0, weight=0.3))) == before
    assert "width" not in bank_settings(bank)
    monkeypatch.setattr(
        vocabulary(), "_remembered", lambda name, source: vocabulary()._read({"cup": "mug"}.get(name, name), source)
    )
    assert settings_of(config) != before
