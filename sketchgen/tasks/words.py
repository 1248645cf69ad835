"""Every word that template-made texts can hold, in one place: a small model's vocabulary is made from it."""

from __future__ import annotations

import re

from sketchgen.colour import COLOURS

SHOWS = ("The sketch shows {a} {name}.", "This is {a} {name}.")
NUMBER_ONE = "There is 1 in the image."
NUMBER_MANY = "There are {number} in the image."
SIZE = "{subject} is {size}."
SIZE_SHAPE = "{subject} is {size} and {shape}."
PLACE = "{subject} is in the {place} of the image."
PLACE_RELATION = "{subject} is in the {place} of the image, {relation} the {other}."
IT, LARGEST, DRAWN = "It", "The largest", "The drawn one"

QUESTIONS: dict[str, tuple[str, ...]] = {
    "category": ("What does the sketch show?", "What is the object in the sketch?"),
    "presence": ("Is the object in the sketch also in the image?", "Does the image show the object in the sketch?"),
    "place": ("Where in the image is the object in the sketch?", "In which part of the image is the sketched object?"),
    "number": (
        "How many objects like the one in the sketch are in the image?",
        "How many of the sketched objects does the image show?",
    ),
    "neighbour": ("What is {relation} the object in the sketch?", "Which object is {relation} the sketched object?"),
    "comparison": (
        "Is the object in the sketch larger or smaller than the {other}?",
        "Compared with the {other}, is the sketched object larger or smaller?",
    ),
    "size": ("How large is the object in the sketch?", "Is the sketched object small or large in the image?"),
    "colour": ("What colour is the object in the sketch?", "Which colour has the sketched object in the image?"),
    "coloured": ("Is the object in the sketch {colour} in the image?", "Is the sketched object the {colour} one?"),
}

PEOPLE = frozenset({"person", "man", "woman", "boy", "girl"})
"""Whose colour nobody is asked for."""
OPEN_QUESTIONS = (
    "How does the given sketch relate to the overall composition of the image?",
    "What role does the object in the sketch play in the image?",
    "Describe how the object of the sketch appears in the image and what is around it.",
)
"""Answered by who sees the image; the first is the paper's (figure model.png)."""
ARTICLES = ("a", "an")
SIZES = ("small", "of medium size", "large")
SHAPES = ("tall", "wide")
PLACES = (
    *("upper left", "upper middle", "upper right"),
    *("middle left", "middle", "middle right"),
    *("lower left", "lower middle", "lower right"),
)
RELATIONS = ("left of", "right of", "above", "below")
ANSWERS = ("yes", "no", "larger", "smaller", *COLOURS)
DIGITS = tuple("0123456789")


def article(name: str) -> str:
    """`a` or `an`."""
    return "an" if name[:1].lower() in set("aeiou") else "a"


def tokens(text: str) -> list[str]:
    """Words, digits and punctuation marks of a text."""
    return re.findall(r"[A-Za-z]+|\d|[^\sA-Za-z\d]", text)


def vocabulary() -> list[str]:
    """Sorted tokens that templates can emit beside the names of classes; a number is made of digits."""
    texts = [*SHOWS, NUMBER_ONE, NUMBER_MANY, SIZE, SIZE_SHAPE, PLACE, PLACE_RELATION, IT, LARGEST, DRAWN]
    texts += [text for variants in QUESTIONS.values() for text in variants]
    texts += [*ARTICLES, *SIZES, *SHAPES, *PLACES, *RELATIONS, *ANSWERS, *DIGITS]
    return sorted({token for text in texts for token in tokens(re.sub(r"\{\w+\}", " ", text))})
