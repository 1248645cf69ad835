"""What of an image can be asked about: its classes under our names, without what is kept out of training."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from data_manifests.vocabulary import vocabulary
from sketchgen.instruction_sample import refused_row
from sketchgen.ledger import QueryRow
from sketchgen.source import SourceImage


class Askable:
    """The classes that can be drawn, and those that are to stay unseen."""

    def __init__(self, source: str, classes: Collection[str], unseen: frozenset[str]) -> None:
        """source: whose names the images bear; classes: that are drawn; unseen: nothing of them is asked or named; both
        by our names."""
        self._source, self._classes, self._unseen = source, frozenset(classes), unseen
        self._unseen_words = _words_pattern(unseen)

    def named(self, image: SourceImage) -> SourceImage:
        """The image with our names of its classes."""
        rows = [
            replace(row, instance=replace(row.instance, category=self._name_of(row.instance.category)))
            for row in image.instances
        ]
        asked = [replace(q, category=self._name_of(q.category)) if q.category else q for q in image.asked]
        return replace(image, instances=tuple(rows), asked=tuple(asked))

    def _name_of(self, category: str) -> str:
        return vocabulary().read(category, self._source).name

    def sift(self, image: SourceImage, blank: QueryRow) -> tuple[SourceImage, list[QueryRow]]:
        """The image without what is kept out of training, and a row for each class and question that is not asked."""
        named = {row.instance.category for row in image.instances if row.status == "planned"}
        named |= {query.category for query in image.asked if query.category and not query.reason}
        kept_out = sorted(named & self._unseen)
        undrawn = sorted(named - self._unseen - self._classes)
        rows = [refused_row(blank, "class-unseen", f"{name!r} is kept out of training", name) for name in kept_out]
        rows += [refused_row(blank, "class-not-drawn", f"the bank has no {name!r}", name) for name in undrawn]
        asked = []
        for query in image.asked:
            if query.reason:
                rows.append(refused_row(blank, query.reason, f"question {query.query_id}", query.category))
            elif self._unseen_words and self._unseen_words.search(" ".join((query.question, *query.answers))):
                rows.append(refused_row(blank, "class-unseen", f"question {query.query_id}: {query.question}"))
            else:
                asked.append(query)
        instances = tuple(row for row in image.instances if row.instance.category not in self._unseen)
        return replace(image, instances=instances, asked=tuple(asked)), rows

    def is_left(self, image: SourceImage) -> bool:
        """Whether anything is left to ask about."""
        if image.asked:
            return any(not query.category or query.category in self._classes for query in image.asked)
        return any(row.status == "planned" and row.instance.category in self._classes for row in image.instances)


def _words_pattern(names: frozenset[str]) -> re.Pattern[str] | None:
    """Finds any of the names as a word, in singular or plural."""
    words = "|".join(sorted(re.escape(name.partition(" (")[0]) for name in names))
    return re.compile(rf"\b(?:{words})(?:e?s)?\b", re.IGNORECASE) if words else None
