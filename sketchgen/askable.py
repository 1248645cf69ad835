"""What of an image can be asked about: its classes under our names, without what is kept out of training."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from data_manifests.vocabulary import vocabulary
from sketchgen.checks import box_iou
from sketchgen.instruction_sample import refused_row
from sketchgen.ledger import QueryRow
from sketchgen.source import TWICE, SourceImage, SourceInstance, SourceQuery

SAME = 0.8
"""IoU from which two boxes are of one object that a source names twice ("Couch" and "Studio couch")."""
DIFFERS = "count-differs"
"""Reason of a question whose source answers it in two ways."""


class Askable:
    """The classes that can be drawn, and those that are to stay unseen."""

    def __init__(self, source: str, classes: Collection[str], unseen: frozenset[str]) -> None:
        """source: whose names the images bear; classes: that are drawn; unseen: nothing of them is asked or named; both
        by our names."""
        self._source, self._classes, self._unseen = source, frozenset(classes), unseen

    def named(self, image: SourceImage) -> SourceImage:
        """The image with our names of its classes; what is named twice for that is marked."""
        names = [row.instance.category for row in image.instances]
        rows = [
            replace(row, instance=replace(row.instance, category=self._name_of(name)))
            for name, row in zip(names, image.instances, strict=True)
        ]
        asked = [replace(q, category=self._name_of(q.category)) if q.category else q for q in image.asked]
        return replace(image, instances=tuple(_once(rows, names)), asked=tuple(_agreed(asked)))

    def _name_of(self, category: str) -> str:
        return vocabulary().read(category, self._source).name

    def sift(self, image: SourceImage, blank: QueryRow) -> tuple[SourceImage, list[QueryRow]]:
        """The image without the names of what is kept out of training, and a row for each class and question that is
        not asked."""
        named = {row.instance.category for row in image.instances if row.status == "planned"}
        named |= {query.category for query in image.asked if query.category and not query.reason}
        kept_out = {name for name in named if is_unseen(name, self._unseen)}
        undrawn = sorted(named - kept_out - self._classes)
        details = {name: f"{name!r} is kept out of training" for name in sorted(kept_out)}
        rows = [refused_row(blank, "class-unseen", detail, name) for name, detail in details.items()]
        rows += [refused_row(blank, "class-not-drawn", f"the bank has no {name!r}", name) for name in undrawn]
        asked = []
        for query in image.asked:
            if query.reason:
                rows.append(refused_row(blank, query.reason, f"question {query.query_id}", query.category))
            elif self._unseen and vocabulary().speaks_of(" . ".join((query.question, *query.answers)), self._unseen):
                rows.append(refused_row(blank, "class-unseen", f"question {query.query_id}: {query.question}"))
            else:
                asked.append(query)
        return replace(image, instances=tuple(map(self._nameless, image.instances)), asked=tuple(asked)), rows

    def _nameless(self, row: SourceInstance) -> SourceInstance:
        """A thing of a class that is kept out stands where it stands, without its name."""
        if not is_unseen(row.instance.category, self._unseen):
            return row
        return replace(row, instance=replace(row.instance, category=""))

    def is_left(self, image: SourceImage) -> bool:
        """Whether anything is left to ask about."""
        if image.asked:
            return any(not query.category or query.category in self._classes for query in image.asked)
        return any(row.status == "planned" and row.instance.category in self._classes for row in image.instances)


def is_unseen(name: str, unseen: Collection[str]) -> bool:
    """Whether a class, or one of the names between slashes, is among those that are kept out."""
    return any(part in unseen for part in (name, *name.split("/")))


def _once(rows: Sequence[SourceInstance], names: Sequence[str]) -> list[SourceInstance]:
    """The rows, TWICE for those that say by another name of their source what an earlier one said. names: as the source
    spells them."""
    found: list[SourceInstance] = []
    for number, row in enumerate(rows):
        is_said = not row.reason and any(
            not other.reason
            and other.instance.category == row.instance.category
            and names[place] != names[number]
            and box_iou(other.instance.box, row.instance.box) >= SAME
            for place, other in enumerate(found)
        )
        found.append(replace(row, reason=TWICE) if is_said else row)
    return found


def _agreed(asked: Sequence[SourceQuery]) -> list[SourceQuery]:
    """The questions, with a reason for those about one class that are answered in two ways, or asked twice."""
    answers: dict[str, set[int]] = {}
    for query in asked:
        if query.category and not query.reason:
            answers.setdefault(query.category, set()).add(query.count)
    found, seen = [], set()
    for query in asked:
        if query.category and not query.reason:
            reason = DIFFERS if len(answers[query.category]) > 1 else TWICE if query.category in seen else ""
            seen.add(query.category)
            query = replace(query, reason=reason)
        found.append(query)
    return found
