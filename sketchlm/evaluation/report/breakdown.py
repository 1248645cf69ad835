"""Where a model is right and wrong: by class, size and style, and what is particular to each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sketchlm.evaluation.record import Entry
from sketchlm.evaluation.report.answers import Answers, gap, joined
from sketchlm.evaluation.report.folder import Folder
from sketchlm.evaluation.report.table import title_of
from sketchlm.evaluation.report.values import boxes_of, count_of, grades, is_unread, p_yes, yes_or_no
from sketchlm.metrics import Figure, average, figures

FEW: Final = 10
"""Questions below which a class has no interval: it would be wider than what it says."""
MOST_COUNTED: Final = 6
"""The last row and column of a confusion of counts take this many and more."""
BINS: Final = 10
"""Of p(yes)."""
MOST_RANKED: Final = 50
"""Places of a ranking that a curve goes to at most."""
MOST_TRUE: Final = 5
"""The last row of several boxes takes this many true instances and more."""
TEXTS: Final = 8
"""Unreadable answers that are shown, the most frequent."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure of a part of the questions; without an interval where there are few."""

    name: str
    figure: Figure
    """n: the questions that enter."""

    @property
    def has_interval(self) -> bool:
        """Whether there are questions enough."""
        return self.figure.n >= FEW


@dataclass(frozen=True, slots=True)
class Style:
    """A measure with a way of drawing that training saw, with one that it did not, and how much higher the first is."""

    measure: str
    seen: Figure
    unseen: Figure
    gap: Figure
    sources: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each true count was answered with each."""

    labels: tuple[str, ...]
    """Of rows and columns; the last takes more, where the data have more."""
    cells: tuple[tuple[int, ...], ...]
    """[true][said], and a column more: unreadable."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers whose p(yes) lies in one tenth."""

    low: float
    high: float
    yes: int
    """Whose truth is yes."""
    no: int
    mean: float
    """p(yes) of them; nan where there is none."""
    share: Figure
    """Of yes among them; that of a calibrated model is `mean`."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """p(yes) against the truth."""

    bins: tuple[Bin, ...]
    error: float
    """Mean distance of `mean` and `share`, weighted by answers: the expected calibration error."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Precision among the first k of a ranking, and the best that the gallery allows."""

    precision: tuple[Figure, ...]
    """From k = 1."""
    best: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Several boxes, of the questions with so many true instances."""

    true: str
    questions: int
    figures: dict[str, Figure]


@dataclass(frozen=True, slots=True)
class Unread:
    """Answers in which nothing could be read."""

    share: Figure
    texts: tuple[tuple[str, str, int], ...]
    """What was said, why it says nothing, how often: the most frequent."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Of one protocol and task as asked, all sketches together. Empty: not of this task, or not known."""

    head: str
    """The measure of classes and sizes."""
    sources: tuple[str, ...]
    classes: tuple[Bar, ...] = ()
    """Best first."""
    sizes: tuple[tuple[str, tuple[Bar, ...]], ...] = ()
    """By source of sketches, then S, M and L."""
    styles: tuple[Style, ...] = ()
    confusion: Confusion | None = None
    calibration: Calibration | None = None
    ranked: Ranked | None = None
    crowds: tuple[Crowd, ...] = ()
    unread: Unread | None = None


def breakdown(folder: Folder, entries: Sequence[Entry]) -> Breakdown | None:
    """entries: of one protocol and task; those as asked count, and of a protocol of controls alone the first of them.

    None where no answers are there.
    """
    asked = as_asked(entries)
    parts = {entry.sketches: found for entry in asked if (found := folder.of(entry)) is not None and found.records}
    if not parts:
        return None
    answers = joined(list(parts.values()))
    sizes = tuple((title_of(name), bars) for name, part in parts.items() if (bars := by_size(part)))
    return Breakdown(
        head=answers.head,
        sources=tuple(title_of(name) for name in parts),
        classes=by_class(answers),
        sizes=sizes if answers.task == "bbox" else (),  # several boxes are of several sizes
        styles=by_style(folder, asked),
        confusion=confusion(answers) if answers.task == "count" else None,
        calibration=calibration(answers) if answers.task == "sbir" else None,
        ranked=ranked(answers) if answers.task == "retrieval" else None,
        crowds=by_crowd(answers) if answers.task == "boxes" else (),
        unread=unread(answers),
    )


def as_asked(entries: Sequence[Entry]) -> list[Entry]:
    """Those as the protocol has it; of controls alone those of the first condition."""
    asked = [entry for entry in entries if entry.condition == "asked"]
    return asked or [entry for entry in entries if entry.condition == entries[0].condition]


def by_class(answers: Answers) -> tuple[Bar, ...]:
    """The head figure of each class, best first."""
    bars = _bars(answers.by(lambda record: record.category), answers.head)
    return tuple(sorted(bars, key=lambda bar: (-bar.figure.value, -bar.figure.n, bar.name)))


def by_size(answers: Answers) -> tuple[Bar, ...]:
    """The head figure of small, medium and large true boxes, those whose size is known."""
    sizes = answers.by(lambda record: record.size)
    return tuple(_bars({size: sizes[size] for size in "SML" if size in sizes}, answers.head))


def _bars(groups: dict[str, Answers], head: str) -> list[Bar]:
    if not head:
        return []
    bars = [Bar(name, group.figure(head)) for name, group in groups.items()]
    return [bar for bar in bars if bar.figure.n]


def by_style(folder: Folder, asked: Sequence[Entry]) -> tuple[Style, ...]:
    """The head measure of the seen sources together, against each unseen one."""
    seen = [(entry, found) for entry in asked if entry.style == "seen" and (found := folder.of(entry)) is not None]
    unseen = [(entry, found) for entry in asked if entry.style == "unseen" and (found := folder.of(entry)) is not None]
    styles = []
    for first, mine in seen:
        for second, theirs in unseen:
            if head := mine.head if mine.head in theirs.measures else "":
                pair = (title_of(first.sketches), title_of(second.sketches))
                styles.append(Style(head, mine.figure(head), theirs.figure(head), gap(mine, theirs, head), pair))
    return tuple(style for style in styles if style.seen.n and style.unseen.n)


def confusion(answers: Answers) -> Confusion:
    """True counts against those that were said."""
    pairs = [(count_of(record.truth), count_of(record.found)) for record in answers.records]
    most = max((max(pair) for pair in pairs), default=0)
    top = min(most, MOST_COUNTED)
    cells = np.zeros((top + 1, top + 2), np.int64)
    for truth, said in pairs:
        cells[min(truth, top), min(said, top) if said >= 0 else top + 1] += 1
    labels = [str(number) for number in range(top)] + [f"{top}+" if most > top else str(top)]
    return Confusion(tuple(labels), tuple(tuple(int(n) for n in row) for row in cells))


def calibration(answers: Answers) -> Calibration:
    """p(yes) by tenths; answers without one are left out."""
    found = [(p, yes_or_no(r), r.image) for r in answers.records if (p := p_yes(r)) is not None]
    bins = []
    for number in range(BINS):
        mine = [one for one in found if min(int(one[0] * BINS), BINS - 1) == number]
        share = figures([[truth] for _, truth, _ in mine], {"": average(("yes",), "yes")}, [i for _, _, i in mine])[""]
        yes = sum(truth for _, truth, _ in mine)
        mean = sum(p for p, _, _ in mine) / len(mine) if mine else float("nan")
        bins.append(Bin(number / BINS, (number + 1) / BINS, yes, len(mine) - yes, mean, share))
    gaps = [(bar.yes + bar.no) * abs(bar.mean - bar.share.value) for bar in bins if bar.yes + bar.no]
    return Calibration(tuple(bins), sum(gaps) / len(found) if found else float("nan"))


def ranked(answers: Answers) -> Ranked | None:
    """Over queries whose gallery holds something relevant; as far as the shortest stored ranking goes."""
    kept = [(grades(record), count_of(record.truth), record.image) for record in answers.records]
    kept = [(listed, relevant, image) for listed, relevant, image in kept if relevant > 0 and listed]
    if not kept:
        return None
    last = min(MOST_RANKED, *(len(listed) for listed, _, _ in kept))
    places = np.arange(1, last + 1)
    rows = np.stack([np.cumsum([grade > 0 for grade in listed[:last]]) / places for listed, _, _ in kept])
    names = [str(place) for place in places]
    found = figures(rows, {name: average(names, name) for name in names}, [image for _, _, image in kept])
    best = np.mean([np.minimum(relevant, places) / places for _, relevant, _ in kept], 0)
    return Ranked(tuple(found.values()), tuple(float(value) for value in best))


def by_crowd(answers: Answers) -> tuple[Crowd, ...]:
    """All figures by the number of true instances."""

    def name(true: int) -> str:
        return str(true) if true < MOST_TRUE else f"{MOST_TRUE}+"

    groups = answers.by(lambda record: name(len(boxes_of(record.truth))))
    return tuple(
        Crowd(true, len(group.records), figures(group.rows, group.measures, group.images))
        for true, group in sorted(groups.items())
    )


def unread(answers: Answers) -> Unread | None:
    """None where everything could be read."""
    flags = [is_unread(answers.task, record) for record in answers.records]
    if not any(flags):
        return None
    share = figures([[float(flag)] for flag in flags], {"": average(("unread",), "unread")}, answers.images)[""]
    texts = Counter((r.said, r.reason) for r, flag in zip(answers.records, flags, strict=True) if flag)
    common = sorted(texts.items(), key=lambda item: (-item[1], item[0]))[:TEXTS]
    return Unread(share, tuple((said, reason, n) for (said, reason), n in common))
