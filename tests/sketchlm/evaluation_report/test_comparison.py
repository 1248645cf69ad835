"""Two models side by side: equal ones differ by nothing, a better one is marked, questions pair up by their keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sketchlm.evaluation.record import RECORD, Evaluation, answers_file
from sketchlm.evaluation.report import write_comparison, write_report
from sketchlm.evaluation.report.comparison import compare
from sketchlm.evaluation.report.folder import read_folder
from sketchlm.metrics import COUNTING, differences
from tests.sketchlm.evaluation_report.folders import Model, write_evaluation
from tests.sketchlm.evaluation_report.pages import Page

BETTER, WORSE = Model(name="better", seen=0.95, unseen=0.9), Model(name="w<orse", seen=0.5, unseen=0.4)


def test_a_model_and_itself_differ_by_nothing(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "a", conditions=("asked", "blank"))
    found = compare(read_folder(tmp_path / "a"), read_folder(tmp_path / "a"))
    lines = [line for pair in found.pairs for line in pair.lines]
    assert len(lines) > 40
    for line in lines:
        assert line.difference is not None
        assert (line.difference.value, line.difference.low, line.difference.high) == (0, 0, 0)
        assert line.better == ""
    assert not found.partings and not found.settings and not found.only_a and not found.only_b
    page = Page(write_comparison(tmp_path / "a", tmp_path / "a", tmp_path / "c"))
    assert "▲ A" not in "".join(cell for row in page.rows for cell in row)
    assert "0.0 (0.0 to 0.0)" in (tmp_path / "c" / "comparison.md").read_text()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    a, b = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    write_evaluation(a, BETTER, conditions=("asked", "blank"), pictures=4, questions=60)
    write_evaluation(b, WORSE, conditions=("asked",), pictures=4, questions=60)
    return a, b


def test_differences_are_those_of_the_metrics(two: tuple[Path, Path]) -> None:
    a, b = map(read_folder, two)
    pair = next(pair for pair in compare(a, b).pairs if pair.a.name == "world--count--hand--asked")
    mine, theirs = a.answers[pair.a.name], b.answers[pair.a.name]
    direct = differences(mine.rows, theirs.rows, COUNTING, mine.images)
    assert {line.measure: line.difference for line in pair.lines} == {
        name: direct[name] for name in (line.measure for line in pair.lines)
    }
    assert pair.pairs == 60
    better = {line.measure: line.better for line in pair.lines}
    assert better["exact"] == "A" and better["MAE"] == "A"  # less is better there


def test_turned_round_everything_turns(two: tuple[Path, Path]) -> None:
    a, b = map(read_folder, two)
    one, other = compare(a, b), compare(b, a)
    turned = {"A": "B", "B": "A", "": ""}
    for pair, back in zip(one.pairs, other.pairs, strict=True):
        assert [turned[line.better] for line in pair.lines] == [line.better for line in back.lines]
        for line, mirror in zip(pair.lines, back.lines, strict=True):
            assert line.difference and mirror.difference
            assert line.difference.value == pytest.approx(-mirror.difference.value)
    assert one.only_a == other.only_b != ()


def test_examples_where_they_part(two: tuple[Path, Path]) -> None:
    found = compare(*map(read_folder, two))
    assert dict(found.partings)["A"]
    for side, partings in found.partings:
        for one in partings:
            assert one.marks[0 if side == "A" else 1] == "right" != one.marks[1 if side == "A" else 0]
            assert one.card.image is not None
    boxed = [one for _, them in found.partings for one in them if one.card.task == "bbox"]
    assert boxed
    for one in boxed:
        mine = one.boxes[0 if one.marks[0] == "right" else 1][0]
        true = max(one.card.example.true_boxes, key=lambda box: -abs(box[0] - mine[0]) - abs(box[1] - mine[1]))
        assert mine[:4] == pytest.approx(true, abs=0.02)


def test_the_pages_are_whole_and_load_nothing(two: tuple[Path, Path], tmp_path: Path) -> None:
    path = write_comparison(*two, tmp_path)
    page = Page(path)
    assert all(re.match(r"data:image/(jpeg|png);base64,", load) for load in page.loads) and page.loads
    assert not page.links and "default-src 'none'" in page.source and len(page.source) < 8_000_000
    assert "w<orse" in page.text and "w<orse" not in page.source
    text = (tmp_path / "comparison.md").read_text()
    assert "w&lt;orse" in text and "w<orse" not in text
    assert "Only of A: world--sbir--hand--blank" in page.text
    before = path.read_bytes(), text
    write_comparison(*two, tmp_path)
    assert (path.read_bytes(), (tmp_path / "comparison.md").read_text()) == before


def test_only_questions_of_both_are_compared_and_other_settings_named(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "a", BETTER, tasks=("count",), questions=40)
    evaluation = write_evaluation(tmp_path / "b", WORSE, tasks=("count",), questions=40, shift=10)
    changed = evaluation.model_copy(update={"settings": {"seed": 1, "limit": 40, "frame": "padded"}})
    (tmp_path / "b" / RECORD).write_text(changed.model_dump_json())
    found = compare(read_folder(tmp_path / "a"), read_folder(tmp_path / "b"))
    assert {pair.pairs for pair in found.pairs} == {30}
    assert found.settings == (("seed", "0", "1"), ("commit", "abc1234", "not set"), ("frame", "not set", "padded"))
    page = Page(write_comparison(tmp_path / "a", tmp_path / "b", tmp_path / "c"))
    assert "30 questions pair up, of 40 of A and 40 of B" in page.text
    assert page.row("seed") == ["seed", "0", "1"]
    assert "30 of 40 and 40" in (tmp_path / "c" / "comparison.md").read_text()


def test_without_common_questions_or_answers_there_is_no_difference(tmp_path: Path) -> None:
    evaluation = write_evaluation(tmp_path / "a", BETTER, tasks=("count", "bbox"), conditions=("asked",))
    write_evaluation(tmp_path / "b", WORSE, tasks=("count", "bbox"), conditions=("asked",), shift=1000)
    for entry in evaluation.entries:
        if entry.task == "bbox":
            answers_file(tmp_path / "a", entry).unlink()
    found = compare(read_folder(tmp_path / "a"), read_folder(tmp_path / "b"))
    assert {line.difference for pair in found.pairs for line in pair.lines} == {None}
    assert {pair.pairs for pair in found.pairs} == {0}
    Page(write_comparison(tmp_path / "a", tmp_path / "b", tmp_path / "c"))


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "a", tasks=("count",))
    write_evaluation(tmp_path / "b", tasks=("bbox",))
    with pytest.raises(ValueError, match="have no entry in common .*: evaluate both with the same protocols"):
        write_comparison(tmp_path / "a", tmp_path / "b", tmp_path)


def test_examples_of_old_records_are_told(tmp_path: Path) -> None:
    for name, model in (("a", BETTER), ("b", WORSE)):
        write_evaluation(tmp_path / name, model, tasks=("count",), conditions=("asked",))
        path = tmp_path / name / RECORD
        evaluation = Evaluation.model_validate_json(path.read_text())
        entries = [
            entry.model_copy(update={"examples": [one.model_copy(update={"key": ""}) for one in entry.examples]})
            for entry in evaluation.entries
        ]
        path.write_text(evaluation.model_copy(update={"entries": entries}).model_dump_json())
    page = Page(write_comparison(tmp_path / "a", tmp_path / "b", tmp_path))
    assert "12 examples do not say which question they are" in page.text


def test_a_report_against_another_links_its_comparison(two: tuple[Path, Path]) -> None:
    page = Page(write_report(two[0], against=two[1]))
    assert "comparison.html" in page.links and "Comparison with w<orse" in page.text
    assert (two[0] / "comparison.html").is_file() and (two[0] / "comparison.md").is_file()
