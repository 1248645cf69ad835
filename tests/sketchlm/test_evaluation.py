"""Scores and columns: an oracle reaches everything, what does not look at the sketch is told apart from it."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from data_manifests.schema import Query
from sketchlm.answer import Answer
from sketchlm.evaluation import questions as evaluation
from sketchlm.evaluation.questions import Asked, Column, collect, columns, constants, evaluate, score, shuffled
from sketchlm.metrics import Figure
from sketchlm.processor import Processor, ProcessorConfig
from sketchlm.prompt import PromptConfig, box_text
from sketchlm.shards import read_samples
from sketchlm.tokenizer import build_tokenizer
from tests.sketchlm.runs import SIDE, TEXTS, write_training_shards

TASKS = ("bbox", "count", "vqa", "sbir", "describe")
SAMPLES = 24


@pytest.fixture(scope="module")
def processor() -> Processor:
    tokenizer = build_tokenizer(TEXTS)
    return Processor(tokenizer, 32, 4, ProcessorConfig(prompt=PromptConfig(system=""), tasks=TASKS))


@pytest.fixture(scope="module")
def asked(processor: Processor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Asked]]:
    shards = write_training_shards(tmp_path_factory.mktemp("shards"), (SAMPLES,))
    return collect(islice(read_samples(str(shards)), SAMPLES), processor)


def truth(query: Query) -> Answer:
    """What someone who knows the facts says."""
    boxes = box_text(query.boxes, (SIDE, SIDE), PromptConfig())
    text = {
        "bbox": boxes,
        "count": str(query.count),
        "vqa": f"{query.answers[0].capitalize()}.",
        "sbir": "",
        "describe": f"The sketch shows a {query.category}. It is at {boxes}.",
    }[query.task]
    return Answer(text, float(query.match == 1))


def answers_by(monkeypatch: pytest.MonkeyPatch, say: Any) -> None:
    monkeypatch.setattr(evaluation, "answer", lambda _model, _processor, group: [say(q) for q in group])


def summarise(asked: dict[str, list[Asked]], scores: dict[str, list[dict[str, float]]]) -> dict[str, Figure]:
    return {name: column.figure() for name, column in columns(asked, scores).items()}


def test_an_oracle_reaches_all(
    asked: dict[str, list[Asked]], processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_by(monkeypatch, lambda question: truth(question.query))
    told: list[int] = []
    scores = evaluate(None, processor, asked, told.append)
    assert sum(told) == sum(map(len, asked.values()))
    everyone = {task: [replace(one, choices=4) for one in them] for task, them in asked.items()}
    found = summarise(everyone, evaluate(None, processor, everyone))
    for name, figure in found.items():
        assert figure.value == pytest.approx(1.0, abs=0.05 if "IoU" in name else 0.0), name  # text has two digits
        assert figure.n > 0
    # with fewer than four classes to choose from no box is counted
    assert summarise(asked, scores)["BBOX Acc@0.5"].n == 0


def test_who_answers_always_the_same_reaches_the_constants(
    asked: dict[str, list[Asked]], processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_by(monkeypatch, lambda question: Answer("1", 1.0))
    found = summarise(asked, evaluate(None, processor, asked))
    assert found["SBIR balanced accuracy"].value == constants(asked, processor)["SBIR balanced accuracy"] == 0.5
    ones = [one.question.query.count == 1 for one in asked["count"]]
    assert found["COUNT exact, class present"].value == pytest.approx(sum(ones) / len(ones))
    assert constants(asked, processor)["COUNT exact, class present"] == pytest.approx(sum(ones) / len(ones))
    assert found["VQA exact"].value == found["DESCRIBE class named"].value == 0


def test_what_cannot_be_read_is_wrong_and_no_error(asked: dict[str, list[Asked]], processor: Processor) -> None:
    for task in TASKS:
        scored = score(asked[task][0], Answer("what?", 0.5), processor)
        assert scored.get("right", scored.get("half")) == float(task == "sbir" and asked[task][0].question.query.match)


def test_shuffling_moves_sketches_alone(asked: dict[str, list[Asked]]) -> None:
    moved = shuffled(asked["count"])
    assert [one.question.query for one in moved] == [one.question.query for one in asked["count"]]
    pairs = list(zip(moved, asked["count"], strict=True))
    assert all(np.array_equal(a.question.pictures[1].pixels, b.question.pictures[1].pixels) for a, b in pairs)
    others = sum(a.question.pictures[0] is not b.question.pictures[0] for a, b in pairs)
    assert others > len(pairs) * 0.8
    before = {id(one.question.pictures[0]) for one in asked["count"]}
    assert {id(one.question.pictures[0]) for one in moved} == before
    first = asked["count"][0]
    alone = replace(first, question=replace(first.question, pictures=first.question.pictures[1:]))  # text alone
    assert shuffled([alone, first])[0].question.pictures[-1] is alone.question.pictures[0]


def test_the_difference_of_two_columns_is_narrower_than_theirs() -> None:
    """Questions that are hard for one are hard for the other: pairs know that."""
    rng = random.Random(0)
    hard = [rng.random() for _ in range(400)]
    images = [str(n // 4) for n in range(400)]
    mine = Column([[float(h > 0.3)] for h in hard], images)
    theirs = Column([[float(h > 0.4)] for h in hard], images)
    gap = mine.above(theirs)
    assert gap.value == pytest.approx(mine.figure().value - theirs.figure().value)
    assert gap.low < gap.value < gap.high
    assert gap.low > 0
    assert gap.high - gap.low < 0.7 * (mine.figure().high - mine.figure().low)
    assert mine.above(mine) == Figure(0, 0, 0, 400)
    with pytest.raises(ValueError, match="400 and 399 answers to different questions"):
        mine.above(Column(theirs.rows[1:], images[1:]))


def test_balanced_accuracy_of_a_column_is_that_of_its_classes() -> None:
    rows = [[1.0, 1.0]] * 6 + [[0.0, 1.0]] * 2 + [[1.0, 0.0]] + [[0.0, 0.0]] * 3
    column = Column(rows, [str(n) for n in range(12)], "balanced accuracy")
    assert column.figure().value == pytest.approx((0.75 + 0.25) / 2)
    assert column.above(column).value == 0


def test_columns_are_only_of_tasks_that_were_asked(asked: dict[str, list[Asked]], processor: Processor) -> None:
    some = {"sbir": asked["sbir"]}
    scores = {"sbir": [score(one, truth(one.question.query), processor) for one in some["sbir"]]}
    assert list(columns(some, scores)) == ["SBIR balanced accuracy"]
    assert list(constants(some, processor)) == ["SBIR balanced accuracy"]
