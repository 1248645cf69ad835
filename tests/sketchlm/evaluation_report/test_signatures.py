"""Failure signatures: each is seen where it was put and nowhere else, and cannot be told where too little is asked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_manifests.schema import Measured
from sketchlm.evaluation.record import answers_file
from sketchlm.evaluation.report import Signature, signatures, write_report
from sketchlm.evaluation.report.signatures import FAR, LEAST, above, below, needed
from sketchlm.metrics import Figure
from tests.sketchlm.evaluation_report.folders import Model, write_evaluation

FROZEN = (("connector", "frozen"),)
IGNORED = "Sketch ignored"
STYLE = "Style overfit"
CONNECTOR = "Low SBIR with a frozen connector"
PLACES = "High VQA, low detection"
HALLUCINATED = "Hallucinated boxes in crowds"
DUPLICATES = "Duplicate boxes in crowds"
UNREADABLE = "Answers unreadable"


def told(folder: Path, model: Model, *tasks: Measured, **fields: Any) -> dict[str, Signature]:
    evaluation = write_evaluation(folder, model, tasks=tasks, pictures=0, **({"questions": 120} | fields))
    return {one.name: one for one in signatures(evaluation, folder)}


@pytest.mark.parametrize(
    ("name", "tasks", "bad", "good"),
    [
        (IGNORED, ("bbox",), Model(seen=0.3, unseen=0.3, control=0.45), Model()),
        (STYLE, ("count",), Model(seen=0.95, unseen=0.4), Model(seen=0.7, unseen=0.9)),
        (CONNECTOR, ("sbir",), Model(seen=0.5, unseen=0.5, facts=FROZEN), Model(facts=FROZEN)),
        (CONNECTOR, ("retrieval",), Model(seen=0.1, unseen=0.1, facts=FROZEN), Model(facts=FROZEN)),
        (PLACES, ("vqa", "bbox"), Model(weak=("bbox",)), Model()),
        (HALLUCINATED, ("boxes",), Model(spurious=0.8), Model()),
        (DUPLICATES, ("boxes",), Model(twice=0.8), Model()),
        (UNREADABLE, ("count",), Model(unreadable=0.4), Model()),
        (UNREADABLE, ("bbox",), Model(unreadable=0.4), Model()),
    ],
)
def test_seen_where_it_is_and_only_there(
    tmp_path: Path, name: str, tasks: tuple[Measured, ...], bad: Model, good: Model
) -> None:
    seen = told(tmp_path / "bad", bad, *tasks, conditions=("asked", "blank"))[name]
    assert seen.verdict == "seen" and any(one.verdict == "seen" for one in seen.evidence)
    assert told(tmp_path / "good", good, *tasks, conditions=("asked", "blank"))[name].verdict == "not seen"
    assert told(tmp_path / "none", bad)[name].verdict == "cannot be told"


@pytest.mark.parametrize("name", [IGNORED, STYLE, CONNECTOR])
def test_few_questions_tell_nothing(tmp_path: Path, name: str) -> None:
    """However clear they are: the interval of two that are both wrong has no width."""
    found = told(tmp_path, Model(seen=0.9, unseen=0.1, control=0.9, facts=FROZEN), "sbir", "count", questions=8)[name]
    assert found.verdict == "cannot be told"
    assert f"Of fewer than {LEAST} questions, all of" in found.told
    assert all(one.needed >= LEAST for one in found.evidence)


def test_an_interval_that_holds_the_limit_tells_nothing(tmp_path: Path) -> None:
    found = told(tmp_path, Model(seen=0.75, unseen=0.72), "count", questions=60)[STYLE]
    assert found.verdict == "cannot be told" and found.evidence[0].figure.n == 60
    assert found.evidence[0].figure.low < found.evidence[0].limit < found.evidence[0].figure.high
    assert f"about {found.evidence[0].needed:,} questions of each would tell" in found.told
    assert "needs about" in write_report(tmp_path).read_text()


def test_as_many_questions_as_are_said_to_be_needed_do(tmp_path: Path) -> None:
    """Of a figure that stays: asked so much more, the interval of the very same answers leaves out the limit."""
    few = told(tmp_path / "few", Model(seen=0.9), "sbir", questions=60, conditions=("asked", "blank"))[STYLE]
    open_ = few.evidence[0]
    assert few.verdict == "cannot be told" and open_.needed > 60
    narrower = (60 / open_.needed) ** 0.5
    figure = open_.figure
    ends = [figure.value + (end - figure.value) * narrower for end in (figure.low, figure.high)]
    assert not ends[0] < open_.limit < ends[1]


@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0.01, 0.99), st.integers(1, 5000))
def test_questions_needed_narrow_the_interval_to_the_limit(value: float, half: float, limit: float, n: int) -> None:
    found = needed(Figure(value, value - half, value + half, n), limit)
    assert LEAST <= found <= FAR
    if found < FAR and found > LEAST:
        assert half * (n / found) ** 0.5 <= abs(value - limit) * (1 + 1e-9)
        assert half * (n / (found / 1.2)) ** 0.5 > abs(value - limit)  # not many more than that
    assert needed(Figure(limit, 0.0, 1.0, n), limit) == FAR


def test_a_connector_that_was_trained_or_is_not_known(tmp_path: Path) -> None:
    low = {"seen": 0.5, "unseen": 0.5}
    trained = told(tmp_path / "a", Model(**low, facts=(("connector", "lora"),)), "sbir")[CONNECTOR]
    assert trained.verdict == "not seen" and "SBIR is low all the same" in trained.told
    unknown = told(tmp_path / "b", Model(**low, facts=()), "sbir")[CONNECTOR]
    assert unknown.verdict == "cannot be told" and "not in the model's facts" in unknown.told
    assert told(tmp_path / "c", Model(facts=()), "sbir")[CONNECTOR].verdict == "not seen"


def test_low_vqa_with_low_detection_is_another_matter(tmp_path: Path) -> None:
    both = told(tmp_path / "a", Model(weak=("vqa", "bbox")), "vqa", "bbox")[PLACES]
    assert both.verdict == "not seen" and both.told == "VQA is not high, detection low."
    alone = told(tmp_path / "b", Model(), "vqa")[PLACES]
    assert alone.verdict == "cannot be told" and alone.told == "Needs answers of bbox."


def test_boxes_of_one_or_two_instances_are_no_crowd(tmp_path: Path) -> None:
    crowd = told(tmp_path, Model(spurious=0.8), "boxes", conditions=("asked",))[HALLUCINATED]
    assert all(0 < one.figure.n < 120 for one in crowd.evidence)


def test_without_answers_nothing_can_be_told(tmp_path: Path) -> None:
    evaluation = write_evaluation(tmp_path, Model(seen=0.1, control=0.5), pictures=0, questions=12)
    for entry in evaluation.entries:
        answers_file(tmp_path, entry).unlink()
    assert {one.verdict for one in signatures(evaluation, tmp_path)} == {"cannot be told"}


def test_they_are_written_as_data_and_on_the_pages(tmp_path: Path) -> None:
    evaluation = write_evaluation(tmp_path, Model(twice=0.8), tasks=("boxes",), pictures=0, questions=120)
    page = write_report(tmp_path).read_text()
    written = json.loads((tmp_path / "signatures.json").read_text())
    found = signatures(evaluation, tmp_path)
    assert [(one["name"], one["verdict"]) for one in written] == [(one.name, one.verdict) for one in found]
    document = (tmp_path / "report.md").read_text()
    for one in found:
        assert one.name in page and f"| {one.name} |" in document
        assert not any(math.isnan(value) for item in one.evidence for value in (item.figure.low, item.figure.high))
    assert "| **seen** | Duplicate boxes in crowds |" in document


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.99))
def test_a_verdict_needs_the_whole_interval(a: float, b: float, limit: float) -> None:
    figure = Figure((a + b) / 2, min(a, b), max(a, b), LEAST)
    for verdict, is_seen in (
        (above(figure, limit), lambda value: value > limit),
        (below(figure, limit), lambda value: value < limit),
    ):
        sides = {is_seen(figure.low), is_seen(figure.high)}
        assert verdict == ("cannot be told" if len(sides) == 2 else "seen" if sides == {True} else "not seen")
