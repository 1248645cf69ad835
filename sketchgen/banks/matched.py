"""A bank under the class names of the images: what is drawn for "cell phone" where the bank says "mobile-phone"."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from data_manifests.vocabulary import Match, Matching, vocabulary
from sketchgen.bank import Drawing, SketchBank
from sketchgen.seed import seed_of

REPORT = "classes.json"
"""How the classes of the images and of the bank were matched, beside the shards."""


class MatchedBank:
    """Draws the classes that images and bank have in common, each by the bank's classes of that meaning.

    It knows no others: a class of the bank that the images' source does not annotate may be in any of them, so that
    nobody could say whether it is there.
    """

    def __init__(self, bank: SketchBank, matching: Matching) -> None:
        self._bank = bank
        self._drawn_by = matching.drawn_by
        self._meant = {match.drawing: match.image for match in matching.matches}

    @property
    def categories(self) -> tuple[str, ...]:
        """As the images name them."""
        return tuple(self._drawn_by)

    def draw(self, category: str, seed: int) -> Drawing:
        """See `SketchBank`."""
        if category not in self._drawn_by:
            raise ValueError(f"the bank has no drawings of {category!r}")
        names = self._drawn_by[category]
        name = names[seed_of("name", seed) % len(names)]
        return replace(self._bank.draw(name, seed), category=category)

    def lookalikes(self, category: str) -> tuple[str, ...]:
        """What the bank knows, else what belongs to the same group in the vocabulary."""
        known = [twin for name in self._drawn_by.get(category, ()) for twin in self._bank.lookalikes(name)]
        named = [self._meant[twin] for twin in known if twin in self._meant] or vocabulary().alike(category)
        return tuple(name for name in dict.fromkeys(named) if name in self._drawn_by and name != category)


def to_json(matchings: Sequence[Matching]) -> bytes:
    """The report: a matching for each bank."""
    return (json.dumps([asdict(matching) for matching in matchings], indent=1, ensure_ascii=False) + "\n").encode()


def from_json(text: bytes) -> list[Matching]:
    """The matchings that `to_json` wrote."""
    return [
        Matching(tuple(Match(**row) for row in found["matches"]), tuple(found["images"]), tuple(found["drawings"]))
        for found in json.loads(text)
    ]
