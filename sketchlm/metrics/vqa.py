"""VQAv2's accuracy, as the public evaluation code of the challenge works it out, quirks included.

Checked against that code's behaviour (not its words), where the description on the challenge's page says otherwise:

- What a model says is always normalised; what people said only where they differ, and of that only the punctuation.
  So `Two` matches ten people who say `2`, and never people who say `two` or `the cat`.
- Punctuation becomes a space only inside words (`black/white`); where it stands beside a space anywhere in the answer,
  all of its kind goes. A comma between two digits (`1,000 (or so)`) makes all punctuation go.
- A period stays where a digit follows (`.5`, `v.2`), and only the first 32 others go.
- A contraction is mended where one apostrophe is missing, never two (`couldnt've`, not `couldntve`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sketchlm.metrics.figure import average

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""Not the apostrophe (possessives) and not the colon (times)."""
NUMBERED_COMMA = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")
MAX_PERIODS = 32
"""The public code hands a flag of this value over as the number of replacements."""
ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
ENDINGS = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
    "n't've": "could had might should would",
    "'d": "he how it someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who you",
    "'ll": "how it somebody someone something they what who why you",
    "'re": "there they what why you",
    "'s": "he how somebody someone that there what when where who why",
    "'ve": "could might must not should they we what where who would you",
    "": "ma'am o'clock 'twas y'all y'all'll y'all'd've 'ow's'at",
}
"""Contractions that are mended, by their end. Not `it's` or `we'll`, whose letters are words too; nor `I'm`, which the
public table spells with a capital that no word has by then."""


def _mended() -> dict[str, str]:
    """Each contraction by itself with one apostrophe missing."""
    whole = [start + end for end, starts in ENDINGS.items() for start in starts.split()]
    places = [(word, place) for word in whole for place, letter in enumerate(word) if letter == "'"]
    mended = {word[:place] + word[place + 1 :]: word for word, place in places}
    return mended | {"somebody'd": "somebodyd"}  # the public code has this pair the wrong way round


CONTRACTIONS = _mended()


def normalise(text: str) -> str:
    """What a model says as it is compared: punctuation, case, number words, articles, contractions."""
    words = [NUMBERS.get(word, word) for word in without_punctuation(_plain(text)).lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def without_punctuation(text: str) -> str:
    """The text with punctuation removed, or replaced by a space where it stands inside a word."""
    numbered = NUMBERED_COMMA.search(text) is not None
    swaps: dict[str, str | int | None] = {
        mark: "" if numbered or f"{mark} " in text or f" {mark}" in text else " " for mark in PUNCTUATION
    }
    return PERIOD.sub("", text.translate(str.maketrans(swaps)), count=MAX_PERIODS)


def _plain(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def vqa_accuracy(said: str, people: Sequence[str]) -> float:
    """Mean over the people, each left out in turn, of min(1, matches among the others / 3): in [0, 1].

    Of ten people 0, 1, 2, 3, 4 and more matches give 0, 0.3, 0.6, 0.9, 1. Raises ValueError for fewer than four people:
    whoever is left out, the rest could not give 1.
    """
    if len(people) < 4:
        raise ValueError(f"{len(people)} people answered {list(people)}: the rule needs four, and is meant for ten")
    theirs = [without_punctuation(text) for text in people] if len(set(people)) > 1 else people
    mine = normalise(said)
    matches = [text == mine for text in theirs]
    others = [sum(matches) - own for own in matches]
    return sum(min(1.0, count / 3) for count in others) / len(others)


class VqaRow(NamedTuple):
    """How one answer compares with those that a question has."""

    accuracy: float
    """By VQAv2's rule; 0 where too few people answered."""
    exact: float
    """1 where it is one of them, both normalised: of questions from templates."""
    annotated: float
    """1 where enough people answered for the rule."""
    template: float
    """1 where not."""


def vqa_row(said: str, answers: Sequence[str]) -> VqaRow:
    """answers: as a query holds them: the consensus, then what people said, if people were asked.

    Raises ValueError where there is none.
    """
    if not answers:
        raise ValueError("the question has no answer: leave it out")
    people = answers[1:]
    annotated = len(people) >= 4
    exact = normalise(said) in {normalise(text) for text in answers}
    accuracy = vqa_accuracy(said, people) if annotated else 0.0
    return VqaRow(accuracy, float(exact), float(annotated), float(not annotated))


VQA = {
    "VQAv2 accuracy": average(VqaRow._fields, "accuracy", "annotated"),
    "exact": average(VqaRow._fields, "exact", "template"),
}
"""The rule where people answered, exact match where a template did."""
