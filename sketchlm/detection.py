"""Boxes from answers: scored, and without those that say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sketchlm.answer import Answer, Found, Question, answer, found_boxes
from sketchlm.metrics.box import OVERLAP, suppress
from sketchlm.processor import Processor


@dataclass(frozen=True)
class DetectionConfig:
    """How boxes are taken from answers."""

    multiple: bool = False
    """All boxes that are named, else the first."""
    overlap: float = OVERLAP
    """Of two boxes that overlap by more (IoU) the surer stays; 1 = all stay."""
    min_score: float = 0.0
    """Boxes that are at least so sure stay."""


class Boxes(NamedTuple):
    """What an answer holds: shares of the frame."""

    kept: list[Found]
    """Surest first."""
    named: list[Found]
    """All of them, in the order in which they were named."""
    answer: Answer


def detect(
    model: Any,
    processor: Processor,
    questions: Sequence[Question],
    config: DetectionConfig,
    batch: int = 32,
    max_new_tokens: int = 0,
) -> list[Boxes]:
    """The boxes of each question (task `bbox`). Raises ValueError for settings that mean nothing."""
    if not (0 <= config.overlap <= 1 and 0 <= config.min_score <= 1):
        raise ValueError(f"overlap is {config.overlap}, min_score {config.min_score}: both are from 0 to 1")
    return [boxes_of(given, config) for given in answer(model, processor, questions, batch, max_new_tokens)]


def boxes_of(given: Answer, config: DetectionConfig) -> Boxes:
    """The boxes of one answer."""
    named = found_boxes(given)
    sure = [one for one in (named if config.multiple else named[:1]) if one.score >= config.min_score]
    kept = suppress([one.box for one in sure], [one.score for one in sure], config.overlap)
    return Boxes([sure[place] for place in kept], named, given)
