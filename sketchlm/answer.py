"""Answers: greedy decoding in batches, with the probability of `yes` where that is what is asked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_manifests.schema import Query
from sketchlm.loss import normalise
from sketchlm.model import unwrap
from sketchlm.processor import Picture, Processor
from sketchlm.tokenizer import number_tokens

NUMBER = re.compile(r"[0-9]*\.[0-9]+|[0-9]+")
BRACKETS = re.compile(r"\[([^\[\]]*)\]")
NEAR = 0.05
"""Share of the frame that a number may be off and says the same, in scores."""
MAX_NEW_TOKENS = {"describe": 160, "bbox": 256, "count": 8, "vqa": 32, "sbir": 4}


@dataclass(frozen=True, slots=True)
class Question:
    """One query with what the model is shown (sketch first; the image alone where it has no sketch)."""

    pictures: tuple[Picture, ...]
    query: Query
    draw: int = 0
    hint: str = ""
    """A user's own words, behind those of the template."""


class Token(NamedTuple):
    """One token of an answer. end: where it ends in the text; chance: its probability after all before it."""

    end: int
    chance: float


@dataclass(frozen=True, slots=True)
class Answer:
    """text: as decoded; yes: p(yes) / (p(yes) + p(no)) at the first token, in [0, 1]; tokens: of the text, in order."""

    text: str
    yes: float
    tokens: tuple[Token, ...] = ()
    ended: bool = True
    """Whether the model was done, and was not cut off."""


class Found(NamedTuple):
    """A box in an answer: shares of the frame; score: how sure the model was, in [0, 1] (see `found_boxes`)."""

    box: tuple[float, float, float, float]
    score: float


@torch.inference_mode()
def answer(
    model: Any, processor: Processor, questions: Sequence[Question], batch: int = 32, max_new_tokens: int = 0
) -> list[Answer]:
    """Answer questions of one task, greedily. max_new_tokens: 0 = MAX_NEW_TOKENS of the task.

    Rows are padded on the left; equal to answering one by one (tested).
    Raises ValueError for a prompt that leaves no room in the model's context for an answer.
    """
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}, must be at least 1 (0 = by task)")
    llava, tokenizer = unwrap(model), processor.tokenizer
    context = llava.config.get_text_config().max_position_embeddings
    weight = next(llava.parameters())
    yes, no = (int(processor._answer_ids(word)[0]) for word in ("yes", "no"))
    assert len({question.query.task for question in questions}) < 2, "one task at a time"
    numbers = number_tokens(tokenizer)
    answers: list[Answer] = []
    for start in range(0, len(questions), batch):
        group = questions[start : start + batch]
        rows = [sum(processor.question(q.query, q.draw, q.hint), ()) for q in group]
        ids, mask = _left_padded(rows, tokenizer.pad_token_id)
        if ids.shape[1] >= context:
            raise ValueError(f"the prompt has {ids.shape[1]} tokens, the model's context {context}: ask in fewer words")
        pixels = torch.from_numpy(np.stack([picture.pixels for q in group for picture in q.pictures]))
        out = llava.generate(
            input_ids=ids.to(weight.device),
            attention_mask=mask.to(weight.device),
            pixel_values=normalise(pixels.to(weight.device), weight.dtype),
            max_new_tokens=max_new_tokens or MAX_NEW_TOKENS[group[0].query.task],
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        first = out.logits[0].float().softmax(-1)
        shares = (first[:, yes] / (first[:, yes] + first[:, no])).tolist()
        said = out.sequences[:, ids.shape[1] :].cpu()
        chances = chances_of(out.logits, said, numbers)
        answers += [told(tokenizer, *row) for row in zip(said, chances, shares, strict=True)]
    return answers


def _left_padded(rows: Sequence[tuple[int, ...]], pad: int) -> tuple[Tensor, Tensor]:
    """ids and mask [B, L]."""
    length = max(map(len, rows))
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def chances_of(logits: Sequence[Tensor], said: Tensor, numbers: Sequence[int] = ()) -> Tensor:
    """Probability of each said token: logits of each step [B, V], said [B, N] -> [B, N].

    numbers: ids of 0.00, 0.01, ... 1.00 where each is one token: for those it is the probability of the numbers that
    are at most NEAR from the said one, since a model that is trained to be off by little (loss.box_sigma) spreads it.
    """
    order = torch.tensor(numbers, dtype=torch.long)
    chances = []
    for n, step in enumerate(logits):
        shares = step.float().softmax(-1).cpu()
        chance = shares.gather(1, said[:, n, None])[:, 0]
        if len(order):
            is_said = said[:, n, None] == order
            near = (torch.arange(len(order)) - is_said.int().argmax(1)[:, None]).abs() <= NEAR * 100
            chance = torch.where(is_said.any(1), (shares[:, order] * near).sum(1), chance)
        chances.append(chance)
    return torch.stack(chances, 1)


def told(tokenizer: Any, ids: Tensor, chances: Tensor, yes: float) -> Answer:
    """The answer that tokens [N] make, up to the end of the turn."""
    length = next((n for n, token in enumerate(ids.tolist()) if token == tokenizer.eos_token_id), len(ids))
    texts = tokenizer.batch_decode([ids[: n + 1] for n in range(length)], skip_special_tokens=True)
    whole = texts[-1] if texts else ""
    before = len(whole) - len(whole.lstrip())
    text = whole.strip()
    ends = [min(max(len(part) - before, 0), len(text)) for part in texts]
    tokens = tuple(Token(end, float(chance)) for end, chance in zip(ends, chances, strict=False))
    return Answer(text, yes, tokens, ended=length < len(ids))


def found_boxes(given: Answer) -> list[Found]:
    """Boxes in an answer, in the order in which it names them; [] where the text holds none that makes sense.

    Four numbers in brackets are a box; where there are no such, any four numbers in a row are. The score is how
    probable the model found each of the four numbers (to a tenth of the frame) after what it had said before: their
    geometric mean. Where a number is spelled in digits, those up to the first decimal count; where it is one token, it
    counts with those near it (`chances_of`).
    """
    found = [Found(box, chance_of(given.tokens, spans) ** (1 / len(spans))) for box, spans in _boxes(given.text)]
    return [one for one in found if _makes_sense(one.box)]


def read_boxes(text: str) -> list[tuple[float, float, float, float]]:
    """Boxes in a text, shares of the frame, as `found_boxes` reads them."""
    return [box for box, _ in _boxes(text) if _makes_sense(box)]


Span = tuple[int, int]


def _boxes(text: str) -> Iterator[tuple[tuple[float, float, float, float], list[Span]]]:
    """Four numbers each, and where they stand in the text."""
    groups = [list(NUMBER.finditer(text, *inside.span(1))) for inside in BRACKETS.finditer(text)]
    groups = [group for group in groups if len(group) == 4]
    if not groups:
        numbers = list(NUMBER.finditer(text))
        groups = [numbers[i : i + 4] for i in range(0, len(numbers) - 3, 4)]
    for group in groups:
        x1, y1, x2, y2 = (float(number.group()) for number in group)
        yield (x1, y1, x2, y2), [_to_tenth(number) for number in group]


def _to_tenth(number: re.Match[str]) -> Span:
    start, point, end = number.start(), number.group().find("."), number.end()
    return start, (min(start + point + 2, end) if point >= 0 else end)


def _makes_sense(box: tuple[float, float, float, float]) -> bool:
    x1, y1, x2, y2 = box
    return 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1


def chance_of(tokens: Sequence[Token], spans: Sequence[Span]) -> float:
    """Probability of what stands at `spans` of a text, each token after all before it; 1 where no tokens are known."""
    if not tokens:
        return 1.0
    starts = [0, *(token.end for token in tokens)]
    logs = [
        math.log(max(token.chance, 1e-12))
        for start, token in zip(starts, tokens, strict=False)
        if any(start < last and token.end > first for first, last in spans)
    ]
    return math.exp(sum(logs))


def read_count(text: str) -> int:
    """The number in an answer; -1 where there is none (or one of more than nine digits)."""
    first, last = span_of_count(text)
    return int(text[first:last]) if 0 < last - first < 10 else -1


def span_of_count(text: str) -> Span:
    """Where the number of `read_count` stands; (0, 0) where there is none."""
    found = re.search(r"[0-9]+", text)
    return found.span() if found else (0, 0)
