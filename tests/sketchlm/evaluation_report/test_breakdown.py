"""Breakdowns: each number is that of the metrics over the same answers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchlm.evaluation.measures import FIELDS
from sketchlm.evaluation.record import AnswerRecord
from sketchlm.evaluation.report.answers import Answers, answers_of, gap, joined, mean_of, paired
from sketchlm.evaluation.report.breakdown import (
    MOST_COUNTED,
    breakdown,
    by_class,
    by_crowd,
    by_size,
    calibration,
    confusion,
    ranked,
    unread,
)
from sketchlm.evaluation.report.folder import Folder, read_folder
from sketchlm.metrics import BOX, BOXES, COUNTING, CountRow, RetrievalRow, count_row, differences, figures
from tests.sketchlm.evaluation_report.folders import Model, write_evaluation

MODEL = Model(seen=0.8, unseen=0.5, unreadable=0.1, spurious=0.2, twice=0.2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    path = tmp_path_factory.mktemp("evaluation")
    write_evaluation(path, MODEL, conditions=("asked", "shuffled"), pictures=0, questions=60)
    return read_folder(path)


def of(made: Folder, task: str, sketches: str = "hand", condition: str = "asked") -> Answers:
    return made.answers[f"world--{task}--{sketches}--{condition}"]


def rows(answers: Answers) -> list[list[float]]:
    return [[record.row[name] for name in FIELDS[answers.task]] for record in answers.records]


def test_classes_and_sizes_are_figures_of_their_questions(made: Folder) -> None:
    answers = of(made, "bbox")
    for bar in by_class(answers):
        mine = [(row, r.image) for row, r in zip(rows(answers), answers.records, strict=True) if r.category == bar.name]
        direct = figures([row for row, _ in mine], {"": BOX["Acc@0.5"]}, [image for _, image in mine])[""]
        assert bar.figure == direct
    values = [bar.figure.value for bar in by_class(answers)]
    assert values == sorted(values, reverse=True)
    assert sum(bar.figure.n for bar in by_class(answers)) == len(answers.records)
    sizes = {bar.name: bar.figure for bar in by_size(answers)}
    acc = figures(rows(answers), {name: BOX[f"Acc-{name}"] for name in "SML"}, answers.images)
    assert {name: figure.n for name, figure in sizes.items()} == {n: f.n for n, f in acc.items() if f.n}


def test_the_gap_of_the_same_questions_is_the_paired_difference(made: Folder) -> None:
    mine, theirs = of(made, "count"), of(made, "count", condition="shuffled")
    direct = differences(rows(mine), rows(theirs), {"": COUNTING["exact"]}, mine.images)[""]
    found = gap(mine, theirs, "exact")
    assert (found.value, found.low, found.high) == pytest.approx((direct.value, direct.low, direct.high))
    assert found.n == 2 * direct.n


def test_the_gap_of_parts_is_that_of_their_figures(made: Folder) -> None:
    mine, theirs = of(made, "bbox"), of(made, "bbox", "brush").at(range(20))
    assert gap(mine, theirs, "Acc").value == pytest.approx(mine.figure("Acc").value - theirs.figure("Acc").value)
    assert gap(mine, mine, "Acc").low == gap(mine, mine, "Acc").high == 0
    mean = mean_of([mine, theirs], "Acc").value
    assert mean == pytest.approx((mine.figure("Acc").value + theirs.figure("Acc").value) / 2)


def test_all_sketches_of_a_protocol_are_broken_down_together(made: Folder) -> None:
    entries = [entry for entry in made.evaluation.entries if entry.task == "count"]
    found = breakdown(made, entries)
    assert found is not None and found.sources == ("hand", "brush") and found.head == "exact"
    both = joined([of(made, "count"), of(made, "count", "brush")])
    assert found.classes == by_class(both) and found.confusion == confusion(both)
    assert found.styles[0].gap == gap(of(made, "count"), of(made, "count", "brush"), "exact")


def test_confusion_counts_each_answer_once(made: Folder) -> None:
    answers = of(made, "count")
    found = confusion(answers)
    assert sum(map(sum, found.cells)) == len(answers.records)
    assert found.labels[-1] == f"{MOST_COUNTED}+"
    pairs = Counter((record.truth, record.found) for record in answers.records)
    assert all(found.cells[n][m] == pairs[n, m] for n in range(MOST_COUNTED) for m in range(MOST_COUNTED))
    unreadable = [row[-1] for row in found.cells]
    assert sum(unreadable) == sum(record.found is None for record in answers.records) > 0


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(-1, 12)), min_size=1, max_size=30))
def test_confusion_fits_its_labels(pairs: list[tuple[int, int]]) -> None:
    records = [
        AnswerRecord(
            key=str(place),
            image="",
            category="",
            said="",
            truth=truth,
            found=None if said < 0 else said,
            row=count_row(said, truth)._asdict(),
        )
        for place, (truth, said) in enumerate(pairs)
    ]
    found = confusion(answers_of("count", records))
    assert {len(row) for row in found.cells} == {len(found.labels) + 1} and len(found.cells) == len(found.labels)
    assert sum(map(sum, found.cells)) == len(pairs)
    if max(map(max, pairs)) < MOST_COUNTED:
        exact = sum(truth == said for truth, said in pairs)
        assert sum(found.cells[n][n] for n in range(len(found.labels))) == exact


def test_calibration_is_that_of_its_tenths(made: Folder) -> None:
    answers = of(made, "sbir")
    found = calibration(answers)
    assert sum(bar.yes + bar.no for bar in found.bins) == len(answers.records)
    errors = []
    for bar in found.bins:
        mine = [r for r in answers.records if bar.low <= r.found < bar.high]
        if mine:
            assert bar.mean == pytest.approx(np.mean([r.found for r in mine]))
            assert bar.share.value == pytest.approx(np.mean([r.truth for r in mine]))
            errors.append(len(mine) * abs(bar.mean - bar.share.value))
    assert found.error == pytest.approx(sum(errors) / len(answers.records))


def test_precision_at_k_is_that_of_the_metrics(made: Folder) -> None:
    answers = of(made, "retrieval")
    found = ranked(answers)
    assert found is not None and len(found.precision) == 10
    for k in (1, 5, 10):
        place = RetrievalRow._fields.index(f"precision_{k}")
        assert found.precision[k - 1].value == pytest.approx(np.mean([row[place] for row in rows(answers)]))
    assert found.best[0] == 1 and found.best[9] == pytest.approx(0.3)
    assert all(f.value <= best + 1e-9 for f, best in zip(found.precision, found.best, strict=True))


def test_crowds_are_figures_of_their_questions(made: Folder) -> None:
    answers = of(made, "boxes")
    crowds = by_crowd(answers)
    assert [crowd.true for crowd in crowds] == ["1", "2", "3", "4", "5+"]
    assert sum(crowd.questions for crowd in crowds) == len(answers.records)
    three = answers.where(lambda record: len(record.truth) == 3)
    assert crowds[2].figures == figures(rows(three), BOXES, three.images)


def test_unreadable_answers_are_counted_by_what_was_said(made: Folder) -> None:
    answers = of(made, "count")
    found = unread(answers)
    unreadable = CountRow._fields.index("unread")
    assert found is not None
    assert found.share.value == pytest.approx(np.mean([row[unreadable] for row in rows(answers)]))
    assert found.texts == ((MODEL.says, "no number", round(found.share.value * len(answers.records))),)
    assert unread(of(made, "vqa")) is None


def test_no_box_where_there_is_none_is_no_unreadable_answer() -> None:
    row = dict.fromkeys(FIELDS["boxes"], 0.0)
    record = AnswerRecord(key="a", image="a", category="", said="none", truth=[], reason="no box", row=row)
    assert unread(answers_of("boxes", [record])) is None


def test_questions_pair_up_by_key_and_unclear_ones_do_not(made: Folder) -> None:
    mine = of(made, "count")
    turned = mine.at(range(len(mine.records) - 1, -1, -1))
    pairs = paired(mine, turned)
    assert [r.key for r in pairs.mine.records] == [r.key for r in pairs.theirs.records]
    assert len(pairs.mine.records) == len(mine.records)
    assert len(paired(mine, mine.at([3, 3, 4])).mine.records) == 1
    assert len(paired(mine, of(made, "bbox")).mine.records) == 0
