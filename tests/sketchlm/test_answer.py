"""Answers: batch = single to the letter, and readers that take whatever a model says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from data_manifests.schema import Query
from sketchlm.answer import MAX_NEW_TOKENS, Question, answer, read_boxes, read_count
from sketchlm.loss import normalise
from sketchlm.model import ModelConfig, adapt
from sketchlm.processor import Picture, Processor
from sketchlm.prompt import PromptConfig, box_text
from tests.sketchlm.llava import SIZES, asked, fused, shake, tiny_llava, tiny_processor

NOISE = np.random.default_rng(0)


def picture() -> Picture:
    return Picture(NOISE.integers(0, 256, (3, SIZES.side, SIZES.side), np.uint8))


@pytest.fixture(scope="module", params=["concat", "fusion"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_llava(seed=3) if request.param == "concat" else fused(tiny_llava(seed=3))


@pytest.fixture(scope="module")
def processor() -> Processor:
    return tiny_processor()


def questions(task: str, number: int) -> list[Question]:
    """Questions of different lengths, every third without a sketch."""
    made = []
    for n in range(number):
        row = -1 if n % 3 == 2 else 0
        one: Query = asked(task, row, question="What is it " + "and what " * n + "?", category="dog " * (n + 1))
        made.append(Question(tuple(picture() for _ in range(1 if row < 0 else 2)), one, draw=n))
    return made


@pytest.mark.parametrize("task", ["vqa", "sbir", "count"])
def test_left_padded_batches_answer_as_one_by_one(
    model: Any, processor: Processor, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MAX_NEW_TOKENS, "vqa", 12)
    many = questions(task, 7)
    lengths = {len(sum(processor.question(q.query, q.draw), ())) for q in many}
    assert len(lengths) > 2
    alone = [answer(model, processor, [q])[0] for q in many]
    for batch in (7, 3):
        together = answer(model, processor, many, batch)
        assert [one.text for one in together] == [one.text for one in alone]
        # worst seen: 6e-8
        assert [one.yes for one in together] == pytest.approx([one.yes for one in alone], abs=1e-6)
    assert len({one.text for one in alone}) > 1


def test_yes_is_its_share_beside_no_at_the_first_token(model: Any, processor: Processor) -> None:
    (one,) = questions("sbir", 1)
    (given_,) = answer(model, processor, [one])
    ids = torch.tensor([sum(processor.question(one.query, one.draw), ())])
    pixels = normalise(torch.from_numpy(np.stack([p.pixels for p in one.pictures])), torch.float32)
    with torch.no_grad():
        last = model(input_ids=ids, pixel_values=pixels).logits[0, -1]
    yes, no = processor.tokenizer.convert_tokens_to_ids(["yes", "no"])
    assert given_.yes == pytest.approx(float(torch.sigmoid(last[yes] - last[no])), abs=1e-6)


def test_the_first_picture_is_the_sketch(model: Any, processor: Processor) -> None:
    (one,) = questions("sbir", 1)
    swapped = Question(one.pictures[::-1], one.query, one.draw)
    assert (
        abs(answer(model, processor, [one])[0].yes - answer(model, processor, [swapped])[0].yes) > 1e-5
    )  # batches: 6e-8


def test_no_questions_have_no_answers_and_tasks_are_not_mixed(model: Any, processor: Processor) -> None:
    assert answer(model, processor, []) == []
    with pytest.raises(AssertionError, match="one task at a time"):
        answer(model, processor, [*questions("sbir", 1), *questions("count", 1)])


def test_answers_go_through_an_adapter(processor: Processor) -> None:
    (one,) = questions("sbir", 1)
    adapted = adapt(tiny_llava(seed=3), ModelConfig(lora_rank=4))
    before = answer(adapted, processor, [one])[0].yes
    shake(adapted, 1)
    assert abs(answer(adapted, processor, [one])[0].yes - before) > 1e-3


# Readers


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("[0.10, 0.20, 0.50, 0.60]", [(0.1, 0.2, 0.5, 0.6)]),
        ("[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]", [(0.1, 0.2, 0.5, 0.6), (0, 0, 1, 1)]),
        ("The 2 dogs are at [.1,.2,.5,.6].", [(0.1, 0.2, 0.5, 0.6)]),
        ("A dog. [0.10 , 0.20 , 0.50 , 0.60]", [(0.1, 0.2, 0.5, 0.6)]),
        ("0.1 0.2 0.5 0.6", [(0.1, 0.2, 0.5, 0.6)]),
        ("[0.1, 0.2, 0.5, 0.6", [(0.1, 0.2, 0.5, 0.6)]),
        ("[0.5, 0.2, 0.1, 0.6]", []),
        ("[10, 20, 50, 60]", []),
        ("[0.1, 0.2, 0.5]", []),
        ("", []),
    ],
)
def test_boxes_of_an_answer(text: str, boxes: list[tuple[float, ...]]) -> None:
    assert read_boxes(text) == boxes


low, high = st.integers(0, 49), st.integers(50, 100)


@given(st.lists(st.tuples(low, low, high, high)))
def test_what_is_written_is_read(corners: list[tuple[int, int, int, int]]) -> None:
    boxes = [[float(value) for value in box] for box in corners]
    assert read_boxes(box_text(boxes, (100, 100), PromptConfig())) == [tuple(v / 100 for v in box) for box in corners]


@given(st.text() | st.text("[]0123456789., -"))
@example("9" * 5000)
@example("[" + "9" * 400 + ".0, 1, 1, 1]")
@example("٣")
def test_readers_never_raise(text: str) -> None:
    assert all(0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1 for x1, y1, x2, y2 in read_boxes(text))
    assert read_count(text) >= -1


@pytest.mark.parametrize(
    ("text", "count"), [("5", 5), ("There are 12 dogs.", 12), ("no dogs", -1), ("", -1), ("0", 0), ("1" * 20, -1)]
)
def test_count_of_an_answer(text: str, count: int) -> None:
    assert read_count(text) == count
