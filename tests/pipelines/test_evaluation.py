"""`make evaluate`: the paper's protocols on folders in the shape of its datasets, what is missing, and going on."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import data_manifests
from data_manifests.schema import MAX_ROWS, Protocol, load_manifest, protocol_manifest
from pipelines import evaluation
from pipelines.evaluation import RECIPES, EvaluationConfig, begin, run
from pipelines.protocols import NONE, ShardsConfig, classes_of, make_shards, protocol_names, shards_config, zero_shot
from sketchgen.instructions import settings_of
from sketchlm.evaluation import asking
from sketchlm.evaluation.measures import MEASURES
from sketchlm.evaluation.questions import Samples, collect
from sketchlm.evaluation.record import Missing, answers_file, read_record, write_record
from tests.datasets import write_coco, write_pixmo_count, write_quickdraw, write_sketchy, write_tu_berlin, write_vqav2
from tests.datasets.sketchy import photo_name
from tests.sketchlm.evaluation_report.pages import Page
from tests.sketchlm.llava import save_published

MANIFESTS = sorted((Path(data_manifests.__file__).parent / "protocols").glob("*.yaml"))
SOURCES = ("sketchy", "quickdraw", "tu_berlin", "sketchvcl-coco")
SKETCHED = ("cat", "cup", "scissors", "umbrella")
"""Classes of the folder of Sketchy; shen-25 keeps all but the cat out of training."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every dataset but the sketches that are made of COCO."""
    root = tmp_path_factory.mktemp("data")
    ids = write_coco(root / "coco", "val", 12)
    (root / "vqav2").mkdir()
    write_vqav2(root / "vqav2", "val", ids)
    write_sketchy(root / "sketchy", SKETCHED, 4, 2, lists=False, extended=0)
    (root / "sketchy" / "info").mkdir()
    test = [photo_name(name, 7 * place) for name in SKETCHED for place in range(3)]
    (root / "sketchy" / "info" / "testset.txt").write_text("".join(f"{name}.jpg\n" for name in test))
    write_tu_berlin(root / "tu_berlin", ("cat", "cup", "bus", "clock", "apple", "horse"))
    write_quickdraw(root / "quickdraw", ("apple", "bird", "bus", "car", "cat", "clock", "cup", "dog", "horse"), 40)
    write_pixmo_count(root / "pixmo_count", {"validation": 40})
    for path in (root / "pixmo_count" / "web").iterdir():  # as if all had been fetched before
        kept = root / "pixmo_count" / "images" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, kept)
    return root


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava-tiny")
    save_published(folder)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("protocols"))


def console() -> Console:
    return Console(file=io.StringIO(), record=True, width=200)


# --- manifests


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_protocol_is_made_of_what_there_is(path: Path) -> None:
    protocol = load_manifest(path, Protocol)
    assert protocol.name == path.stem and protocol.title and protocol.description
    assert len(set(protocol.tasks)) == len(protocol.tasks)
    for task in protocol.tasks:
        assert len(protocol.tasks) > 1 or set(protocol.measures) <= set(MEASURES[task])
    assert set(protocol.measures) <= set().union(*(MEASURES[task] for task in protocol.tasks))
    for sketches, asked in protocol.sketches.items():
        assert asked.unseen == (sketches in ("tu_berlin", "shapeworld-brush", "sketchvcl-shapeworld"))
        if protocol.made:
            assert sketches.startswith("sketchvcl-") and protocol.split == "val"
            continue
        one = shards_config(protocol, sketches, ShardsConfig("somewhere"))
        assert one.bank.split == "val"
        assert (one.source.world.split if one.source.generated else one.source.split) == "val"
        assert one.out.endswith(f"/{protocol.name}/{sketches}")
    assert zero_shot(protocol.only) or zero_shot(protocol.without) or "sketchy" not in protocol.name


def test_the_sample_sizes_are_the_papers() -> None:
    numbers = {"counting_pixmo": [153, 194, 453, 457], "counting_coco": [180, 299, 430, 472]}
    numbers |= {"retrieval_sketchy": [100] * 4, "retrieval_sketchy_unseen": [100] * 4}
    for name, expected in numbers.items():
        protocol = protocol_manifest(name)
        assert {bank: asked.queries for bank, asked in protocol.sketches.items()} == dict(
            zip(SOURCES, expected, strict=True)
        )


AVERAGES = {
    "counting_pixmo": {
        "GPT-4o": 33.6, "Gemini 1.5 Pro": 32.5, "LLaVA-1.5-7B": 16.0, "Qwen2.5-VL-7B": 17.7, "Molmo-7B-D": 30.3,
        "O3SLM-7B": 43.5, "O3SLM-13B": 44.0,
    },
    "counting_coco": {
        "GPT-4o": 16.4, "Gemini 1.5 Pro": 17.0, "LLaVA-1.5-7B": 12.1, "Qwen2.5-VL-7B": 4.6, "Molmo-7B-D": 12.0,
        "O3SLM-7B": 31.3, "O3SLM-13B": 31.7,
    },
}  # fmt: skip
"""As the paper prints them."""


@pytest.mark.parametrize("name", AVERAGES)
def test_the_papers_averages_are_those_of_its_values(name: str) -> None:
    published = {row.model: row.values for row in protocol_manifest(name).published}
    assert list(published) == list(AVERAGES[name])
    for model, values in published.items():
        assert list(values) == list(SOURCES)
        mean = sum(value for (value,) in values.values()) / 4
        assert 100 * mean == pytest.approx(AVERAGES[name][model], abs=0.051), model


def test_published_shares_fit_what_they_are_shares_of() -> None:
    for path in MANIFESTS:
        for row in load_manifest(path, Protocol).published:
            assert all(0 <= value <= 1 for values in row.values.values() for value in values)
    for row in protocol_manifest("detection_coco").published:
        for acc, half, small, medium, large in row.values.values():
            assert acc < half and acc <= max(small, medium, large) + 0.0011  # rounded
    for row in protocol_manifest("retrieval_sketchy").published:
        for first, five, ten in row.values.values():  # of 100 queries
            assert all(abs(100 * k * value - round(100 * k * value)) < 0.51 for k, value in ((1, first), (5, five)))
            assert ten > 0


def test_the_paper_recipe_holds_every_protocol_of_real_photos() -> None:
    assert set(RECIPES["paper"]().protocols) == {
        name for name in protocol_names() if protocol_manifest(name).source != "shapeworld"
    }
    for recipe in RECIPES.values():
        assert recipe().recipe == recipe.__name__


@pytest.mark.parametrize(("change", "message"), [
    ({"source": "cocoa"}, "no source is called 'cocoa'"),
    ({"ask": {"max_bocks": 2}}, "max_bocks"),
    ({"world": {"sides": 2}}, "there is no 'sides' to set; known are kinds"),
    ({"world": {"kinds": [1.0]}}, "world: kinds"),
    ({"tasks": ["draw"]}, "tasks.0"),
    ({"sketches": {"shapeworld-pencil": {}}}, "has no style 'pencil'"),
    ({"only": "shen-24"}, "no zero-shot protocol is called 'shen-24'"),
])  # fmt: skip
def test_a_manifest_that_cannot_work_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    usual = {"name": "mine", "title": "mine", "description": "", "tasks": ["count"], "source": "shapeworld",
             "images": 4, "sketches": {"shapeworld-hand": {"queries": 2}}}  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(usual | change))
    config = EvaluationConfig("mine", protocols=(str(path),), shards=str(tmp_path / "shards"), dry_run=True)
    told = console()
    with pytest.raises(ValueError, match=".") as caught:
        run(config, told)
    assert message in f"{caught.value} {told.export_text()}"


# --- the paper's protocols on the shapes of its datasets


@pytest.fixture(scope="module")
def evaluated(data: Path, llava: Path, shards: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """All of them, a few questions of each; the folder, and what was said."""
    out, told = tmp_path_factory.mktemp("evaluated") / "paper", console()
    config = replace(
        RECIPES["paper"](), model=str(llava), data=str(data), shards=shards, limit=3, out=str(out), threads=1,
        conditions=("asked", "text"),
    )  # fmt: skip
    assert run(config, told) == out
    return out, told.export_text()


@pytest.mark.slow
def test_every_protocol_is_evaluated_with_every_source_that_is_here(evaluated: tuple[Path, str]) -> None:
    record = read_record(evaluated[0])
    assert record is not None
    there = {(one.protocol, one.task, one.sketches, one.condition) for one in record.entries}
    for name in RECIPES["paper"]().protocols:
        protocol = protocol_manifest(name)
        for sketches in protocol.sketches:
            if sketches.startswith("sketchvcl-coco"):
                continue
            for task in protocol.tasks:
                for condition in {"asked", "text"} & set(protocol.conditions):
                    assert (name, task, "" if sketches == NONE else sketches, condition) in there
    assert record.model.facts["stage"] == "plain" and record.model.name.startswith("llava-tiny")
    for one in record.entries:
        assert 1 <= one.questions <= 3 and one.figures
        assert one.style == ("" if not one.sketches else "unseen" if one.sketches == "tu_berlin" else "seen")
        lines = answers_file(evaluated[0], one).read_text().splitlines()
        assert len(lines) == one.questions
        assert bool(one.examples) == (one.condition == protocol_manifest(one.protocol).conditions[0])


@pytest.mark.slow
def test_what_is_missing_is_listed_with_the_way_to_get_it(evaluated: tuple[Path, str], data: Path) -> None:
    record = read_record(evaluated[0])
    assert record is not None
    lacking = {(one.protocol, one.sketches): one.what for one in record.missing}
    assert set(lacking) == {
        (name, sketches)
        for name in protocol_names()
        for sketches in protocol_manifest(name).sketches
        if sketches.startswith("sketchvcl-coco")
    }
    ways = {name: way for one in record.missing for name, way in one.folders.items()}
    assert set(ways) == {"sketchvcl-coco", "sketchvcl-coco-val"}
    assert all("make sketches RECIPE=coco" in way for way in ways.values())
    assert "--source.split val" in ways["sketchvcl-coco-val"]
    assert all(what == f"{data} lacks {sketches}/" for (_, sketches), what in lacking.items())
    assert "missing for counting_coco with sketchvcl-coco, counting_pixmo with sketchvcl-coco, " in evaluated[1]
    page = Page(evaluated[0] / "report.html")
    assert page.row("sketchvcl-coco/")[1] == ways["sketchvcl-coco"]
    assert f"| sketchvcl-coco/ | {ways['sketchvcl-coco'][:20]}" in (evaluated[0] / "report.md").read_text()


@pytest.mark.slow
def test_a_second_run_asks_nothing_and_leaves_the_record_as_it_was(
    evaluated: tuple[Path, str], data: Path, llava: Path, shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(asking, "ask", never)
    monkeypatch.setattr(asking, "write_examples", never)
    before = {path: path.read_bytes() for path in evaluated[0].rglob("*.json*")}
    config = replace(
        RECIPES["paper"](), model=str(llava), data=str(data), shards=shards, limit=3, out=str(evaluated[0]), batch=7,
        conditions=("asked", "text"),
    )  # fmt: skip
    run(config, console())
    assert {path: path.read_bytes() for path in evaluated[0].rglob("*.json*")} == before


@pytest.mark.parametrize(("fields", "named"), [
    ({"seed": 1}, "seed: 0 there, 1 now"),
    ({"limit": 2}, "limit: 3 there, 2 now"),
    ({"dtype": "bfloat16"}, "dtype: '' there, 'bfloat16' now"),
    ({"model": "learn"}, "model: '"),
    ({"protocols": ("counting_coco",)}, r"protocols.vqav2: '[0-9a-f]{16}' there, '\(absent\)' now"),
])  # fmt: skip
@pytest.mark.slow
def test_a_folder_of_other_settings_is_refused_with_what_differs(
    fields: dict[str, Any], named: str, evaluated: tuple[Path, str], data: Path, llava: Path, shards: str
) -> None:
    config = replace(
        RECIPES["paper"](), model=str(llava), data=str(data), shards=shards, limit=3, out=str(evaluated[0]),
        sketches=("quickdraw",),
    )  # fmt: skip
    with pytest.raises(ValueError, match=rf"made with other settings:\n(.*\n)*  {named}"):
        run(replace(config, **fields), console())


def test_a_folder_of_something_else_is_refused(tmp_path: Path, data: Path, llava: Path, shards: str) -> None:
    config = EvaluationConfig("x", str(llava), protocols=("vqav2",), data=str(data), shards=shards, limit=1)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ValueError, match=r"not empty and no evaluation \(it holds holiday.jpg\)"):
        run(replace(config, out=str(tmp_path)), console())
    (tmp_path / "evaluation.json").write_text('{"version": 1')
    with pytest.raises(ValueError, match=r"evaluation.json: the file: Invalid JSON"):
        run(replace(config, out=str(tmp_path)), console())


def test_nothing_to_evaluate_is_an_error_that_names_what_is_missing(tmp_path: Path) -> None:
    told = console()
    config = replace(RECIPES["paper"](), data=str(tmp_path), shards=str(tmp_path / "shards"), out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="nothing can be evaluated: the lines above say what is missing"):
        run(config, told)
    text = told.export_text()
    for words in ("coco/: train2017.zip", "sketches_png.zip", "gsutil", "v2_Questions", "info-06-04.7z"):
        assert text.count(words) == 1  # however many protocols want it
    assert f"Put into {tmp_path}, each under its name (--data DIR or SKETCH_DATA_DIR names another place)" in text
    assert all("make sketches" in line for line in text.splitlines() if "--source" in line)  # which has that flag
    assert not (tmp_path / "out").exists()
    for change, message in (
        ({"sketches": ("oil",)}, "--sketches: no protocol here has 'oil'"),
        ({"protocols": ("counting_cats",)}, "no protocol is called 'counting_cats'"),
        ({"protocols": ()}, "--protocols is empty"),
        ({"batch": 0}, "--batch is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            run(replace(config, **change), console())


# --- which questions


def samples_of(name: str, sketches: str, data: Path, shards: str, **fields: Any) -> tuple[Protocol, Samples]:
    protocol = protocol_manifest(name).model_copy(update=fields)
    made = make_shards(protocol, sketches, ShardsConfig(str(data), shards=shards), console())
    assert isinstance(made, str), made
    return protocol, Samples(made)


def test_seen_and_unseen_classes_are_apart(data: Path, shards: str) -> None:
    seen, samples = samples_of("retrieval_sketchy", "sketchy", data, shards)
    unseen, others = samples_of("retrieval_sketchy_unseen", "sketchy", data, shards)
    assert classes_of(seen, samples) == {"cat"}
    assert classes_of(unseen, others) == {"cup", "scissors", "umbrella"}
    protocol = protocol_manifest("counting_coco")
    assert classes_of(protocol, samples) == frozenset()


@pytest.mark.slow
def test_sketches_of_sketchy_are_looked_for_in_their_very_photo(evaluated: tuple[Path, str]) -> None:
    record = read_record(evaluated[0])
    assert record is not None
    asked = {one.name: one for one in record.entries if one.task == "retrieval" and one.condition == "asked"}
    assert len(asked) == 6
    for one in asked.values():
        assert ("own hit@1" in one.figures) == (one.sketches == "sketchy")
    unseen = asked["retrieval_sketchy_unseen--retrieval--sketchy--asked"]
    assert unseen.images == 9  # three classes, three photos each
    assert unseen.constant["own precision@1"] == pytest.approx(1 / 9)
    assert unseen.constant["precision@1"] == pytest.approx(3 / 9)


def test_boxes_of_words_are_asked_of_every_class(data: Path, shards: str) -> None:
    _, samples = samples_of("detection_text", NONE, data, shards)
    asked = {one.query.category for one in collect(samples.records, "bbox")}
    there = {
        thing.category
        for record in samples.records
        for thing in record.objects
        if thing.status != "crowd" and sum(o.category == thing.category for o in record.objects) <= 5
    }
    assert asked <= there and len(asked) > 3
    assert there - asked <= {thing.category for record in samples.records for thing in record.objects}


def test_counts_are_of_what_is_there(data: Path, shards: str) -> None:
    _, samples = samples_of("counting_coco", "quickdraw", data, shards)
    counts = [one.query.count for one in collect(samples.records, "count")]
    assert counts and min(counts) > 0
    _, photos = samples_of("counting_pixmo", "quickdraw", data, shards)
    assert all(2 <= one.query.count <= 10 for one in collect(photos.records, "count"))


def test_more_is_made_than_is_asked_so_that_classes_can_be_even(data: Path) -> None:
    protocol = protocol_manifest("counting_coco")
    one = shards_config(protocol, "quickdraw", ShardsConfig(str(data)))
    assert (one.size, one.select.images, one.select.balance) == (4 * 299, 4 * 299, 1.0)
    ranked = shards_config(protocol_manifest("retrieval_sketchy"), "sketchy", ShardsConfig(str(data)))
    assert (ranked.size, ranked.select.images, ranked.tasks.own) == (0, 625, 1.0)
    drawn = shards_config(protocol_manifest("retrieval_sketchy"), "quickdraw", ShardsConfig(str(data)))
    assert drawn.tasks.own == 0
    world = shards_config(protocol_manifest("shapeworld_crowd"), "shapeworld-brush", ShardsConfig())
    assert (world.bank.name, world.bank.styles) == ("shapeworld-hand", ("brush",))
    assert world.source.world.kinds == (1.0, 0.0, 0.0) and world.tasks.max_rows == MAX_ROWS
    assert settings_of(world) == json.loads(json.dumps(settings_of(world)))


def test_data_that_is_damaged_is_missing_and_says_why(data: Path, tmp_path: Path) -> None:
    harmed = tmp_path / "data"
    shutil.copytree(data / "coco", harmed / "coco")
    shutil.copytree(data / "tu_berlin", harmed / "tu_berlin")
    protocol = protocol_manifest("counting_coco")
    annotations = harmed / "coco" / "annotations" / "instances_val2017.json"
    annotations.write_bytes(annotations.read_bytes()[:400])
    found = make_shards(protocol, "tu_berlin", ShardsConfig(str(harmed), shards=str(tmp_path / "shards")), console())
    assert isinstance(found, Missing) and "instances_val2017.json" in found.what
    annotations.unlink()
    found = make_shards(protocol, "tu_berlin", ShardsConfig(str(harmed), shards=str(tmp_path / "shards")), console())
    assert isinstance(found, Missing) and "does not look like coco (val): the annotations should be" in found.what


# --- going on


def small(tmp_path: Path, llava: Path, **fields: Any) -> EvaluationConfig:
    """The smallest world, with all conditions of two tasks."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({
        "name": "mine", "title": "mine", "description": "", "tasks": ["count", "sbir"], "source": "shapeworld",
        "images": 12, "sketches": {"shapeworld-hand": {"queries": 6}, "shapeworld-brush": {"unseen": True}},
        "conditions": ["asked", "shuffled", "blank", "text"],
    }))  # fmt: skip
    config = EvaluationConfig(
        "mine", str(llava), protocols=(str(path),), shards=str(tmp_path / "shards"), out=str(tmp_path / "out"),
        threads=1,
    )  # fmt: skip
    return replace(config, **fields)


@pytest.mark.slow
def test_finished_entries_outlive_a_stop(tmp_path: Path, llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path, llava)
    asked: list[str] = []
    real = asking.ask

    def stopping(one: Any, *rest: Any) -> Any:
        asked.append(one.empty().name)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(one, *rest)

    monkeypatch.setattr(asking, "ask", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(config, console())
    record = read_record(tmp_path / "out")
    assert record is not None
    assert [one.name for one in record.entries] == asked[:3]
    run(config, console())
    whole = read_record(tmp_path / "out")
    assert whole is not None and len(whole.entries) == 16
    assert Counter(asked) == Counter({one.name: 1 for one in whole.entries}) + Counter(asked[3:4])
    assert whole.entries[:3] == record.entries
    brush = [one for one in whole.entries if one.sketches == "shapeworld-brush" and one.task == "sbir"]
    assert len({one.questions for one in brush}) == 1 and brush[0].questions > 6


@pytest.mark.slow
def test_an_entry_whose_answers_are_damaged_is_asked_again(tmp_path: Path, llava: Path) -> None:
    config = small(tmp_path, llava, tasks=("count",), conditions=("asked",))
    run(config, console())
    before = read_record(tmp_path / "out")
    assert before is not None
    path = answers_file(tmp_path / "out", before.entries[0])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    run(config, console())
    assert path.read_bytes() == whole
    after = read_record(tmp_path / "out")
    assert after is not None
    assert [one.figures for one in after.entries] == [one.figures for one in before.entries]
    run(replace(config, tasks=("sbir",), conditions=("blank",)), console())  # a folder may be added to
    more = read_record(tmp_path / "out")
    assert more is not None and more.entries[:2] == after.entries and len(more.entries) == 4


def test_a_dry_run_asks_nothing(tmp_path: Path, llava: Path) -> None:
    told = console()
    assert run(small(tmp_path, llava, dry_run=True), told) is None
    assert "16 entries" in told.export_text() and not (tmp_path / "out").exists()


def test_the_questions_that_are_announced_are_those_of_the_report(tmp_path: Path, llava: Path) -> None:
    path = Path(small(tmp_path, llava).protocols[0])
    mine = yaml.safe_load(path.read_text()) | {"tasks": ["count", "retrieval"], "rankings": 2, "gallery": 3}
    path.write_text(yaml.safe_dump(mine))
    config = EvaluationConfig("mine", str(llava), protocols=(str(path),), shards=str(tmp_path / "shards"),
                              out=str(tmp_path / "out"), sketches=("shapeworld-hand",), threads=1)  # fmt: skip
    told = console()
    run(config, told)
    record = read_record(tmp_path / "out")
    questions = sum(one.questions for one in record.entries)
    ranked = sum(one.questions * one.images for one in record.entries if one.task == "retrieval")
    counting = sum(one.questions for one in record.entries if one.task == "count")
    said = f"8 entries, {questions} questions, {counting + ranked} answers: of a ranking one for each image"
    assert said in told.export_text() and ranked == 4 * 2 * 3
    assert f"{questions} questions in 8 entries" in (tmp_path / "out" / "report.html").read_text()
    assert "on cpu, 1 thread." in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_each_folder_of_shards_and_each_answer_is_read_once(
    tmp_path: Path, llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, llava)
    run(config, console())
    seen: Counter[str] = Counter()

    def counting(name: str, real: Any) -> Any:
        def call(*given: Any) -> Any:
            seen[name] += 1
            return real(*given)

        return call

    monkeypatch.setattr(evaluation, "Samples", counting("folders", Samples))
    monkeypatch.setattr(evaluation, "questions_of_plan", counting("choices", evaluation.questions_of_plan))
    monkeypatch.setattr(asking, "read_answers", counting("answers", asking.read_answers))
    whole = read_record(config.out)
    write_record(config.out, whole.model_copy(update={"entries": whole.entries[:3]}))  # as if killed
    told = console()
    run(config, told)
    assert seen == {"folders": 2, "choices": 16, "answers": 16}
    after = read_record(config.out)
    assert [one.model_copy(update={"seconds": 0.0}) for one in after.entries] == [
        one.model_copy(update={"seconds": 0.0}) for one in whole.entries
    ]
    assert after.entries[:3] == whole.entries[:3] and not any(one.seconds for one in after.entries[3:])
    lines = [line for line in told.export_text().splitlines() if line.startswith("mine--")]
    assert [line.endswith(" s") for line in lines] == [True] * 3 + [False] * 13
    assert "and 13 entries whose time is not known" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_a_model_is_not_compared_with_itself(tmp_path: Path, llava: Path) -> None:
    config = small(tmp_path, llava, tasks=("count",), conditions=("asked",))
    run(config, console())
    there = config.out
    with pytest.raises(ValueError, match=r"--against \(AGAINST=\) is .*, where this evaluation itself is written"):
        run(replace(config, against=f"{there}/../out"), console())
    elsewhere = replace(config, out=str(tmp_path / "again"), against=there)
    with pytest.raises(ValueError, match=r"is of llava-tiny\S*, and so is this: the same weights and prompt"):
        run(elsewhere, console())
    other = replace(elsewhere, model="learn")
    with pytest.raises(ValueError, match=r"has no entry of those that are asked here, its protocols are mine"):
        run(replace(other, tasks=("sbir",)), console())
    assert not (tmp_path / "again").exists()  # refused before anything was asked
    told = console()
    run(other, told)
    page = tmp_path / "again" / "comparison.html"
    assert f"comparison with {read_record(there).model.name}: {page}" in told.export_text() and page.is_file()


def test_two_runs_of_one_folder_are_kept_apart(tmp_path: Path, llava: Path) -> None:
    from sketchgen.output import locked
    from sketchgen.storage import Storage

    with locked(Storage(str(tmp_path / "out"))), pytest.raises(ValueError, match="another run is writing to"):
        run(small(tmp_path, llava), console())


@pytest.mark.slow
def test_a_kill_leaves_what_the_next_run_goes_on_with(tmp_path: Path, llava: Path) -> None:
    config = small(tmp_path, llava)
    command = [
        sys.executable, "-m", "pipelines.evaluation", "tiny", "--model", str(llava), "--protocols", *config.protocols,
        "--shards", config.shards, "--out", config.out, "--threads", "1", "--batch", "1",
    ]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        begun = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    deadline = time.monotonic() + 120
    answers = tmp_path / "out" / "answers"
    while len(list(answers.glob("mine*.jsonl"))) < 3 and time.monotonic() < deadline and begun.poll() is None:
        time.sleep(0.02)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    record = read_record(tmp_path / "out")
    assert record is not None and 2 <= len(record.entries) < 16
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    whole = read_record(tmp_path / "out")
    assert whole is not None and len(whole.entries) == 16
    assert whole.entries[: len(record.entries)] == record.entries
    assert not list(answers.glob(".tmp*"))


def test_a_record_is_written_in_one_step(tmp_path: Path, llava: Path) -> None:
    from sketchlm.evaluation.model import facts_of
    from sketchlm.loading import open_model

    config = small(tmp_path, llava)
    model = facts_of(str(llava), open_model(llava, "cpu"))
    record = begin(tmp_path / "out", config, [protocol_manifest("shapeworld")], model, [])
    write_record(tmp_path / "out", record)
    assert read_record(tmp_path / "out") == record
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["evaluation.json"]


@pytest.mark.slow
def test_sketches_of_the_very_objects_tell_any_instance_from_their_own(tmp_path: Path) -> None:
    protocol = protocol_manifest("shapeworld_own").model_copy(update={"images": 4})
    made = make_shards(protocol, "sketchvcl-shapeworld", ShardsConfig(shards=str(tmp_path)), console())
    assert isinstance(made, str)
    samples = Samples(made)
    asked = collect(samples.records, "bbox")
    assert len(asked) > 8 and max(len(one.query.boxes) for one in asked) > 1
    for one in asked:
        record = samples.records[one.sample]
        box = next(o.box for o in record.objects if o.object_id == record.sketches[one.query.row].object_id)
        assert one.query.boxes[one.own] == box
        assert len(one.query.boxes) == sum(o.category == one.query.category for o in record.objects)
    assert [one.query.count for one in collect(samples.records, "count")] == [len(one.query.boxes) for one in asked]
    assert not collect(samples.records, "sbir")
    assert make_shards(protocol, "sketchvcl-shapeworld", ShardsConfig(shards=str(tmp_path)), console()) == made


@pytest.mark.slow
def test_the_model_that_comes_with_the_package_stands_above_its_controls(tmp_path: Path) -> None:
    """Of the embedded default, fewer scenes than its card: wide intervals."""
    config = replace(RECIPES["tiny"](), model="learn", shards=str(tmp_path / "shards"), out=str(tmp_path / "out"))
    run(config, console())
    record = read_record(tmp_path / "out")
    assert record is not None and len(record.entries) == 48 and not record.missing
    found = {(one.task, one.sketches, one.condition): one.figures for one in record.entries}
    for sketches in ("shapeworld-hand", "shapeworld-brush"):
        for task, figure, least in (
            ("bbox", "Acc@0.5", 0.6), ("sbir", "balanced accuracy", 0.8), ("vqa", "exact", 0.6),
            ("retrieval", "mAP", 0.7), ("count", "exact, present", 0.2),
        ):  # fmt: skip
            asked = found[task, sketches, "asked"][figure].value
            controls = [found[task, sketches, name][figure].value for name in ("shuffled", "blank", "text")]
            assert asked >= least and asked > max(controls) + 0.1, (task, sketches, asked, controls)
