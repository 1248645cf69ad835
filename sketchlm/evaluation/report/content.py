"""What a report says, worked out once for all its forms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from data_manifests.schema import Condition, Measured, Protocol
from sketchlm.evaluation.record import ANSWERS, Entry
from sketchlm.evaluation.report.answers import gap
from sketchlm.evaluation.report.breakdown import Breakdown, as_asked, breakdown
from sketchlm.evaluation.report.folder import Folder
from sketchlm.evaluation.report.picture import Card, Pictures, cards
from sketchlm.evaluation.report.signatures import Signature, signatures
from sketchlm.evaluation.report.table import CONTROLS, Table, known_protocol, tables, title_of
from sketchlm.evaluation.report.task import TASKS, Task
from sketchlm.metrics import Figure

BIG: Final[tuple[Measured, ...]] = ("sbir", "count", "bbox", "vqa", "boxes", "retrieval")
"""Tasks that have a big number, in this order."""
GLANCE: Final = 4
"""Answers that are shown at the top."""


@dataclass(frozen=True, slots=True)
class Big:
    """The figure that says most of a task: as asked, with the first sketches of a seen style."""

    task: Task
    entry: Entry
    measure: str
    figure: Figure
    unseen: tuple[str, Figure] | None
    """Source and figure of an unseen style in the same protocol."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What the sketch is worth for a big number: each control, and how much higher the figure as asked is."""

    big: Big
    controls: dict[Condition, tuple[Figure, Figure | None]]
    """The control's figure and the gain; None where answers are missing."""


@dataclass(frozen=True, slots=True)
class Part:
    """One task of a protocol."""

    name: Measured
    task: Task
    entries: tuple[Entry, ...]
    tables: tuple[Table, ...]
    breakdown: Breakdown | None
    cards: tuple[tuple[str, list[Card]], ...]
    """By source of sketches, those with a card."""
    unanswered: tuple[str, ...]
    """Files of answers that are not there."""

    @property
    def is_percent(self) -> bool:
        """Whether all columns of its tables are shares."""
        return all(column.is_share for table in self.tables for column in table.columns)

    @property
    def has_unseen(self) -> bool:
        """Whether a column is of an unseen style."""
        return any(column.is_unseen for table in self.tables for column in table.columns)

    @property
    def has_published(self) -> bool:
        """Whether a row is of others."""
        return any(row.kind == "published" for table in self.tables for row in table.rows)


@dataclass(frozen=True, slots=True)
class Section:
    """One protocol."""

    name: str
    title: str
    description: str
    parts: tuple[Part, ...]
    origins: tuple[str, ...]
    """Where its published rows come from."""


@dataclass(frozen=True, slots=True)
class Content:
    """All of a report."""

    folder: Folder
    bigs: tuple[Big, ...]
    glance: tuple[Card, ...]
    """One answer of each of the first big numbers, drawn at random."""
    worth: tuple[Worth, ...]
    signatures: tuple[Signature, ...]
    sections: tuple[Section, ...]
    left_out: int
    """Examples for which the page has no room."""

    @property
    def controls(self) -> list[Condition]:
        """Those that a big number has."""
        return [condition for condition in CONTROLS if any(condition in one.controls for one in self.worth)]

    @property
    def has_no_width(self) -> bool:
        """Whether an interval of a big number has none."""
        return any(big.figure.low == big.figure.high for big in self.bigs)


def content(folder: Folder) -> Content:
    """Raises ValueError for a folder without an entry."""
    evaluation = folder.evaluation
    if not evaluation.entries and not evaluation.missing:
        raise ValueError(f"{folder.path} holds no entry: evaluate at least one protocol")
    shown = [entry for group in _grouped(evaluation.entries).values() for entry in as_asked(group)]
    made, left = cards(Pictures(folder.path), shown)
    names = dict.fromkeys(entry.protocol for entry in evaluation.entries)
    sections = tuple(_section(folder, name, made) for name in names)
    bigs = _bigs(folder)
    return Content(
        folder=folder,
        bigs=bigs,
        glance=tuple(_glance(bigs, made))[:GLANCE],
        worth=tuple(worth for big in bigs if (worth := _worth(folder, big)).controls),
        signatures=tuple(signatures(evaluation, folder)),
        sections=sections,
        left_out=left,
    )


def _grouped(entries: Sequence[Entry]) -> dict[tuple[str, Measured], list[Entry]]:
    groups: dict[tuple[str, Measured], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.protocol, entry.task), []).append(entry)
    return groups


def _section(folder: Folder, name: str, made: dict[str, list[Card]]) -> Section:
    protocol = known_protocol(folder.evaluation, name)
    groups = _grouped([entry for entry in folder.evaluation.entries if entry.protocol == name])
    return Section(
        name=name,
        title=protocol.title if protocol else name,
        description=" ".join(protocol.description.split()) if protocol else "A protocol without a manifest.",
        parts=tuple(_part(folder, protocol, task, entries, made) for (_, task), entries in groups.items()),
        origins=tuple(dict.fromkeys(row.origin for row in protocol.published)) if protocol else (),
    )


def _part(
    folder: Folder, protocol: Protocol | None, task: Measured, entries: Sequence[Entry], made: dict[str, list[Card]]
) -> Part:
    return Part(
        name=task,
        task=TASKS[task],
        entries=tuple(entries),
        tables=tuple(tables(folder, protocol, entries)),
        breakdown=breakdown(folder, entries),
        cards=tuple((title_of(e.sketches), made[e.name]) for e in entries if made.get(e.name)),
        unanswered=tuple(f"{ANSWERS}/{entry.name}.jsonl" for entry in entries if folder.of(entry) is None),
    )


def _bigs(folder: Folder) -> tuple[Big, ...]:
    bigs = []
    asked = [entry for entry in folder.evaluation.entries if entry.condition == "asked"]
    for task in BIG:
        mine = [entry for entry in asked if entry.task == task and _head(entry)]
        for entry in sorted(mine, key=lambda entry: entry.style == "unseen")[:1]:
            head = _head(entry)
            others = [e for e in mine if e.protocol == entry.protocol and e.style == "unseen" and e is not entry]
            unseen = [(title_of(other.sketches), other.figures[head]) for other in others if head in other.figures]
            bigs.append(Big(TASKS[task], entry, head, entry.figures[head], unseen[0] if unseen else None))
    return tuple(bigs)


def _glance(bigs: Sequence[Big], made: dict[str, list[Card]]) -> Iterator[Card]:
    for big in bigs:
        cards = [one for one in made[big.entry.name] if one.example.kind == "random" and not one.strip]
        yield from cards[:1]


def _head(entry: Entry) -> str:
    return next((name for name in TASKS[entry.task].head if name in entry.figures), "")


def _worth(folder: Folder, big: Big) -> Worth:
    found: dict[Condition, tuple[Figure, Figure | None]] = {}
    for entry in folder.evaluation.entries:
        is_its = (entry.protocol, entry.task) == (big.entry.protocol, big.entry.task)
        is_same = entry.sketches == big.entry.sketches or (entry.condition == "text" and not entry.style)
        if is_its and is_same and entry.condition in CONTROLS and big.measure in entry.figures:
            mine, theirs = folder.of(big.entry), folder.of(entry)
            gain = gap(mine, theirs, big.measure) if mine and theirs and big.measure in theirs.measures else None
            found[entry.condition] = (entry.figures[big.measure], gain)
    return Worth(big, {condition: found[condition] for condition in CONTROLS if condition in found})
