"""Folders that are no evaluation, or a damaged one: an error that names the file and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_manifests.schema import Measured
from sketchlm.evaluation.record import RECORD, answers_file
from sketchlm.evaluation.report import write_report
from tests.sketchlm.evaluation_report.folders import write_evaluation

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_evaluation(tmp_path, tasks=("count", "bbox", "sbir"), styles={"hand": "seen"}, questions=12)
    return tmp_path


def change(path: Path, edit: Edit) -> None:
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def change_line(path: Path, number: int, edit: Edit) -> None:
    lines = path.read_text().splitlines()
    data = json.loads(lines[number])
    edit(data)
    lines[number] = json.dumps(data)
    path.write_text("\n".join(lines) + "\n")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"evaluation\.json cannot be read .*: give the folder"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d.update(version=0), "is of version 0, this release reads 1"),
        (lambda d: d.pop("model"), "model: Field required"),
        (lambda d: d.update(surprise=1), "surprise: Extra inputs"),
        (lambda d: d["entries"].append(d["entries"][0]), "two entries 'world--count--hand--asked'"),
        (lambda d: d.update(entries=[]), "holds no entry"),
        (lambda d: d["entries"][4]["examples"][0].update(boxes=[[0.1, 0.2]]), r"an example .* box \[0\.1, 0\.2\]"),
    ],
)
def test_a_record_that_is_wrong(folder: Path, edit: Edit, said: str) -> None:
    change(folder / RECORD, edit)
    with pytest.raises(ValueError, match=said):
        write_report(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
def test_a_record_that_is_no_record(folder: Path, text: bytes) -> None:
    (folder / RECORD).write_bytes(text)
    with pytest.raises(ValueError, match=r"evaluation\.json"):
        write_report(folder)


@pytest.mark.parametrize(
    ("task", "edit", "said"),
    [
        ("count", lambda d: d.pop("key"), "line 4: key: Field required"),
        ("count", lambda d: d.update(row={}), "its row has no 'exact'"),
        ("count", lambda d: d.update(truth="many"), "count is 'many', must be a number"),
        ("count", lambda d: d["row"].update(exact=1 - d["row"]["exact"]), "gives exact .*, evaluation.json says"),
        ("sbir", lambda d: d.update(found=1.5), r"found is 1\.5, must be p\(yes\)"),
        ("sbir", lambda d: d.update(truth=2), "truth is 2, must be 0 or 1"),
    ],
)
def test_an_answer_that_is_wrong(folder: Path, task: str, edit: Edit, said: str) -> None:
    path = folder / "answers" / f"world--{task}--hand--asked.jsonl"
    change_line(path, 3, edit)
    with pytest.raises(ValueError, match=said) as error:
        write_report(folder)
    assert str(path) in str(error.value) and "remove it and run the same evaluation again" in str(error.value)


@pytest.mark.parametrize("kept", [0, 300, -5])
def test_answers_that_are_cut(folder: Path, kept: int) -> None:
    path = folder / "answers" / "world--bbox--hand--asked.jsonl"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"world--bbox--hand--asked\.jsonl.*remove it and run"):
        write_report(folder)


@pytest.mark.parametrize("found", [[1, 2], [["a", 1]], "all", [[None, 1, 1, 1]]])
def test_boxes_and_rankings_that_are_none(tmp_path: Path, found: Any) -> None:
    evaluation = write_evaluation(tmp_path, tasks=("retrieval",), styles={"hand": "seen"}, conditions=("asked",))
    change_line(answers_file(tmp_path, evaluation.entries[0]), 0, lambda d: d.update(found=found))
    with pytest.raises(ValueError, match=r"answer 0 .* is none of retrieval: found is"):
        write_report(tmp_path)


def test_an_old_report_stays_where_the_new_one_fails(folder: Path) -> None:
    before = write_report(folder).read_bytes()
    (folder / RECORD).write_text("{")
    with pytest.raises(ValueError, match="evaluation"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before


VALUES = [None, -1, 0, 2, 1e9, 0.5, "", "x", [], [[]], [[1, 2, 3, 4]], [["a", 0.5, 1]], {}, {"exact": 2}, True]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    tasks: tuple[Measured, ...] = ("count", "bbox", "boxes", "sbir", "retrieval", "vqa")
    write_evaluation(folder, tasks=tasks, styles={"hand": "seen"}, conditions=("asked",), questions=4, pictures=0)
    return folder


@settings(max_examples=25)
@given(st.data())
def test_whatever_a_field_holds_it_is_a_report_or_an_error_that_says_why(small: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(small.glob("answers/*.jsonl"))))
    before = path.read_text()
    records = [json.loads(line) for line in before.splitlines()]
    record = data.draw(st.sampled_from(records))
    record[data.draw(st.sampled_from(sorted(record)))] = data.draw(st.sampled_from(VALUES))
    path.write_text("".join(f"{json.dumps(one)}\n" for one in records))
    try:
        write_report(small)
    except ValueError as error:
        assert path.name in str(error)
    finally:
        path.write_text(before)
