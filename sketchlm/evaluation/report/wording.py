"""How numbers and texts are written in reports."""

from __future__ import annotations

import re
from typing import Final

from sketchlm.evaluation.report.task import NO_SHARES
from sketchlm.metrics import Figure

MOST_TEXT: Final = 160
"""Characters of what a model said that are shown."""
MARKS: Final = re.compile(r"([\\`*_\[\]|~$#])")
"""What means something in Markdown."""
UNSEEN: Final = "a style that the protocol keeps out of training (what this model was trained on is not known)"
"""What † says."""


def counted(many: int, one: str, several: str = "") -> str:
    """`1 question`, `1,200 questions`; several: where it is not `one` with an s."""
    return f"{many:,} {one if many == 1 else several or f'{one}s'}"


def number(value: float, measure: str = "") -> str:
    """In percent, one decimal, as the paper; a measure that is no share as it is."""
    if value != value:
        return "–"
    return f"{value:.2f}" if measure in NO_SHARES else f"{100 * value:.1f}"


def interval(figure: Figure, measure: str = "") -> str:
    """Of a figure: `45.6–51.9`; "" where there is none."""
    if figure.low != figure.low:
        return ""
    return f"{number(figure.low, measure)}–{number(figure.high, measure)}"


def signed(value: float, measure: str = "") -> str:
    """Of a difference, in points: `+1.2`, `−0.3`, `0.0`."""
    if value != value:
        return "–"
    text = f"{value:+.2f}" if measure in NO_SHARES else f"{100 * value:+.1f}"
    return text.replace("-", "−") if float(text) else text[1:]


def signed_interval(figure: Figure, measure: str = "") -> str:
    """Of a difference: `−0.3 to +1.2`; "" where there is none."""
    if figure.low != figure.low:
        return ""
    return f"{signed(figure.low, measure)} to {signed(figure.high, measure)}"


def shown(text: object, most: int = MOST_TEXT) -> str:
    """One line of what can be printed, of at most so many characters.

    A model may say anything: marks that turn the direction of writing, line ends, or pages of it.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 4 * most]).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def markdown(text: object, most: int = MOST_TEXT) -> str:
    """`shown`, with nothing in it that Markdown, HTML, or a link finder would take for its own."""
    plain = shown(text, most).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = MARKS.sub(r"\\\1", plain)
    return plain.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")


def markdown_table(head: list[str], rows: list[list[str]], left: int = 1) -> list[str]:
    """Lines of a table; cells are Markdown already, the first `left` columns are words."""
    rule = ["---" if place < left else "---:" for place in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
