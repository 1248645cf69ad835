"""Scores of boxes from token probabilities, and suppression."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sketchlm.answer import NEAR, Answer, Question, Token, answer, chances_of, found_boxes, read_boxes
from sketchlm.detection import DetectionConfig, boxes_of
from sketchlm.loss import normalise
from sketchlm.metrics import overlaps
from sketchlm.processor import Picture
from sketchlm.tokenizer import number_tokens
from tests.sketchlm.llava import SIZES, asked, llama_tokenizer, tiny_llava, tiny_processor, tiny_tokenizer


def spelled(pieces: list[tuple[str, float]], ended: bool = True) -> Answer:
    """An answer of tokens with their probabilities."""
    tokens, text = [], ""
    for piece, chance in pieces:
        text += piece
        tokens.append(Token(len(text), chance))
    return Answer(text, 0.5, tuple(tokens), ended)


def test_a_score_is_the_mean_of_its_four_numbers() -> None:
    """Signs between them do not count, nor do other boxes."""
    numbers = [("0.10", 0.9), (", ", 0.01), ("0.20", 0.8), (", ", 0.01), ("0.30", 0.7), (", ", 0.01), ("0.40", 0.6)]
    first = [("[", 0.02), *numbers, ("]", 0.03)]
    second = [(", [", 0.5), *((text, 0.5) for text, _ in numbers), ("]", 0.5)]
    found = found_boxes(spelled(first + second))
    assert [one.box for one in found] == [(0.1, 0.2, 0.3, 0.4)] * 2
    assert found[0].score == pytest.approx((0.9 * 0.8 * 0.7 * 0.6) ** 0.25)
    assert found[1].score == pytest.approx(0.5)


def test_of_numbers_that_are_spelled_digits_to_the_first_decimal_count() -> None:
    digits = [piece for n in "1234" for piece in (("0", 0.9), (".", 0.8), (n, 0.5), ("7", 0.001), (", ", 1.0))]
    found = found_boxes(spelled([("[", 1.0), *digits[:-1], ("]", 1.0)]))
    assert found[0].box == (0.17, 0.27, 0.37, 0.47)
    assert found[0].score == pytest.approx(0.9 * 0.8 * 0.5)


def test_numbers_of_one_token_count_with_those_near_them() -> None:
    tokenizer = tiny_tokenizer()
    order = number_tokens(tokenizer)
    logits = torch.full((1, len(tokenizer)), -math.inf)
    for value, share in ((40, 0.2), (45, 0.3), (46, 0.4), (35, 0.1)):
        logits[0, order[value]] = math.log(share)
    said = torch.tensor([[order[40]]])
    assert NEAR == 0.05
    assert float(chances_of([logits], said, order)) == pytest.approx(0.2 + 0.3 + 0.1)
    assert float(chances_of([logits], said)) == pytest.approx(0.2)
    other = torch.tensor([[tokenizer.convert_tokens_to_ids("[")]])
    assert float(chances_of([logits], other, order)) == 0


def test_probabilities_of_an_answer_are_those_of_the_model() -> None:
    """Against one plain forward over prompt and answer."""
    model, processor = tiny_llava(seed=3), tiny_processor()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, SIZES.side, SIZES.side), np.uint8)
    one = Question(tuple(map(Picture, pixels)), asked("vqa"))
    (given_,) = answer(model, processor, [one], max_new_tokens=6)
    prompt = sum(processor.question(one.query, one.draw), ())
    with torch.no_grad():
        out = model.generate(
            input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            pixel_values=normalise(torch.from_numpy(pixels), torch.float32), max_new_tokens=6, do_sample=False,
            pad_token_id=3, eos_token_id=2,
        )  # fmt: skip
        logits = model(input_ids=out, pixel_values=normalise(torch.from_numpy(pixels), torch.float32)).logits[0]
    said = out[0, len(prompt) :]
    shares = logits[len(prompt) - 1 : -1].softmax(-1)
    numbers = set(number_tokens(processor.tokenizer))
    plain = [(n, float(shares[n, token])) for n, token in enumerate(said.tolist()) if token not in numbers | {2}]
    assert plain
    assert [given_.tokens[n].chance for n, _ in plain] == pytest.approx([share for _, share in plain], abs=1e-5)
    assert given_.tokens[-1].end == len(given_.text)
    assert not given_.ended or len(given_.tokens) < 6


def test_tokens_end_where_their_text_does(tmp_path: Any) -> None:
    """Of a Llama tokenizer, which spells numbers and drops a leading space."""
    from sketchlm.answer import told

    tokenizer = llama_tokenizer(tmp_path, legacy=False)
    text = "[0.12, 0.34, 0.56, 0.78]"
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id])
    given_ = told(tokenizer, ids, torch.full((len(ids),), 0.5), 0.5)
    assert given_.text == text and given_.ended
    assert [token.end for token in given_.tokens] == sorted(token.end for token in given_.tokens)
    assert given_.tokens[-1].end == len(text)
    assert found_boxes(given_)[0].score == pytest.approx(0.5**3)  # 0, the point, one digit


boxes = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(5, 10), st.integers(5, 10), st.floats(0.05, 1)),
    max_size=6,
)


@given(boxes, st.floats(0.2, 0.9))
def test_what_stays_overlaps_by_less_and_is_surest_first(raw: list[tuple[Any, ...]], overlap: float) -> None:
    pieces = []
    for x1, y1, x2, y2, score in raw:
        pieces += [("[", 1.0), *((f"{value / 10:.2f}, ", score) for value in (x1, y1, x2, y2)), ("]", 1.0)]
    given_ = spelled(pieces)
    found = boxes_of(given_, DetectionConfig(multiple=True, overlap=overlap))
    assert len(found.named) == len(raw)
    assert set(found.kept) <= set(found.named)
    assert bool(found.kept) == bool(raw)
    scores = [one.score for one in found.kept]
    assert scores == sorted(scores, reverse=True)
    shares = overlaps([one.box for one in found.kept], [one.box for one in found.kept])
    assert all(shares[a, b] <= overlap + 1e-9 for a in range(len(shares)) for b in range(a))
    sure = boxes_of(given_, DetectionConfig(multiple=True, overlap=1.0, min_score=0.5)).kept
    assert all(one.score >= 0.5 for one in sure)
    assert boxes_of(given_, DetectionConfig()).kept == found.named[:1]


@given(st.text("[]0123456789., -"))
def test_boxes_with_scores_are_those_of_the_text(text: str) -> None:
    found = found_boxes(spelled([(letter, 0.9) for letter in text]))
    assert [one.box for one in found] == read_boxes(text)
    assert all(0 < one.score <= 1 for one in found)
