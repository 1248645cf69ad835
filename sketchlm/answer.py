"""Answers: greedy decoding in batches, with the probability of `yes` where that is what is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_manifests.schema import Query
from sketchlm.loss import normalise
from sketchlm.model import unwrap
from sketchlm.processor import Picture, Processor

NUMBER = re.compile(r"[0-9]*\.[0-9]+|[0-9]+")
BRACKETS = re.compile(r"\[([^\[\]]*)\]")
MAX_NEW_TOKENS = {"describe": 128, "bbox": 64, "count": 8, "vqa": 32, "sbir": 4}


@dataclass(frozen=True, slots=True)
class Question:
    """One query with what the model is shown (sketch first; the image alone where it has no sketch)."""

    pictures: tuple[Picture, ...]
    query: Query
    draw: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """text: as decoded; yes: p(yes) / (p(yes) + p(no)) at the first token, in [0, 1]."""

    text: str
    yes: float


@torch.inference_mode()
def answer(model: Any, processor: Processor, questions: Sequence[Question], batch: int = 32) -> list[Answer]:
    """Answer questions of one task, greedily.

    Rows are padded on the left; equal to answering one by one (tested).
    """
    llava, tokenizer = unwrap(model), processor.tokenizer
    weight = next(llava.parameters())
    yes, no = (int(processor._answer_ids(word)[0]) for word in ("yes", "no"))
    assert len({question.query.task for question in questions}) < 2, "one task at a time"
    answers: list[Answer] = []
    for start in range(0, len(questions), batch):
        group = questions[start : start + batch]
        ids, mask = _left_padded([sum(processor.question(q.query, q.draw), ()) for q in group], tokenizer.pad_token_id)
        pixels = torch.from_numpy(np.stack([picture.pixels for q in group for picture in q.pictures]))
        out = llava.generate(
            input_ids=ids.to(weight.device),
            attention_mask=mask.to(weight.device),
            pixel_values=normalise(pixels.to(weight.device), weight.dtype),
            max_new_tokens=MAX_NEW_TOKENS[group[0].query.task],
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        first = out.logits[0].float().softmax(-1)
        texts = tokenizer.batch_decode(out.sequences[:, ids.shape[1] :], skip_special_tokens=True)
        share = first[:, yes] / (first[:, yes] + first[:, no])
        answers += [Answer(text.strip(), float(p)) for text, p in zip(texts, share, strict=True)]
    return answers


def _left_padded(rows: Sequence[tuple[int, ...]], pad: int) -> tuple[Tensor, Tensor]:
    """ids and mask [B, L]."""
    length = max(map(len, rows))
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def read_boxes(text: str) -> list[tuple[float, float, float, float]]:
    """Boxes in an answer, shares of the frame; [] where the text holds none that makes sense.

    Four numbers in brackets are a box; where there are no such, any four numbers in a row are.
    """
    groups = [NUMBER.findall(inside) for inside in BRACKETS.findall(text)]
    groups = [group for group in groups if len(group) == 4]
    if not groups:
        numbers = NUMBER.findall(text)
        groups = [numbers[i : i + 4] for i in range(0, len(numbers) - 3, 4)]
    boxes = [tuple(map(float, group)) for group in groups]
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in boxes if 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1]


def read_count(text: str) -> int:
    """The number in an answer; -1 where there is none (or one of more than nine digits)."""
    found = re.search(r"[0-9]+", text)
    return int(found.group()) if found and len(found.group()) < 10 else -1
