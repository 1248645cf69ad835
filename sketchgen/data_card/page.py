"""The data card of instruction shards: `card.html`, self-contained, and the same numbers as `card.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sketchgen.data_card.examples import Example, Wording, draw_examples, pick_examples
from sketchgen.data_card.numbers import (
    EVEN,
    MEDIUM,
    MOST_COUNTED,
    SIDE_END,
    SIDE_STEP,
    SMALL,
    QueryNumbers,
    count_all,
    shortfall,
)
from sketchgen.data_card.table import CardPart, QueryTable
from sketchgen.storage import Storage
from sketchgen.template import template

__all__ = ["DATA_CARD", "NUMBERS", "CardConfig", "CardPart", "Wording", "write_data_card"]

DATA_CARD = "card.html"
NUMBERS = "card.json"
CLASSES_SHOWN = 30
"""Classes that have a bar; a folded list holds all."""


@dataclass(frozen=True)
class CardConfig:
    """What the card shows. None of this changes a number of it."""

    examples: int = 40
    """Queries that are shown as pictures and words."""
    seed: int = 0
    """Decides which ones."""


def write_data_card(
    storage: Storage,
    title: str,
    facts: Mapping[str, str],
    target: int,
    parts: Sequence[CardPart],
    wording: Wording,
    config: CardConfig | None = None,
) -> QueryNumbers:
    """Write card.html and card.json to `storage`, and return the numbers in them; same shards, same bytes.

    facts: how they were made, shown as label and value; target: queries that were wanted, 0 for as many as there are;
    parts: the folders of shards, one for a plain run; wording: a query and its sample to prompt and answer, as the
    trainer words them (pipelines.wording). The numbers come from ledgers and plans; shards are read for the examples
    only. What is not finished is not counted.
    Raises ValueError, with the remedy, for parts that cannot be told apart, a folder that is no output of
    make instructions, and ledgers or shards that are damaged or of another version.
    """
    config = config or CardConfig()
    if target < 0 or config.examples < 0:
        raise ValueError(f"target is {target} and examples {config.examples}: both must be at least 0")
    with QueryTable(parts) as table:
        numbers = count_all(table, parts)
        picks = pick_examples(table, config.examples, config.seed)
    examples = draw_examples(picks, parts, wording)
    storage.write(DATA_CARD, _page(title, facts, target, numbers, examples).encode())
    record = {
        "title": title,
        "facts": dict(facts),
        "target": target,
        **asdict(numbers),
        "examples": {"seed": config.seed, "queries": [asdict(pick) for pick in picks]},
    }
    storage.write(NUMBERS, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    return numbers


def _page(title: str, facts: Mapping[str, str], target: int, numbers: QueryNumbers, examples: Sequence[Example]) -> str:
    page = template("data_card.html.j2", thousands=_thousands, percent=_percent, shortfall=shortfall)
    return page.render(
        title=title,
        facts=facts,
        target=target,
        numbers=numbers,
        examples=examples,
        classes_shown=CLASSES_SHOWN,
        even=EVEN,
        most_counted=MOST_COUNTED,
        sides={"step": SIDE_STEP, "end": SIDE_END, "small": SMALL, "medium": MEDIUM},
    )


def _thousands(number: int) -> str:
    return f"{number:,}"


def _percent(part: float, whole: float = 1.0) -> str:
    """`12.3 %`; of nothing `–`. What is not quite all, or not quite nothing, does not look so."""
    if not whole:
        return "–"
    share = part / whole
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{min(share, 0.999) if share < 1 else share:.1%}".replace("%", " %")
