"""Two models side by side: figures, differences on the questions that both were asked, and where they part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sketchlm.evaluation.record import Entry, write_text
from sketchlm.evaluation.report.answers import paired
from sketchlm.evaluation.report.folder import Folder, read_folder
from sketchlm.evaluation.report.page import asked_text, environment, what_it_is
from sketchlm.evaluation.report.parting import Parting, partings
from sketchlm.evaluation.report.table import CONTROLS, title_of
from sketchlm.evaluation.report.task import LOWER, NEITHER, NO_SHARES, TASKS
from sketchlm.evaluation.report.wording import interval, markdown, markdown_table, number, signed, signed_interval
from sketchlm.metrics import Figure

COMPARISON: Final = "comparison"


@dataclass(frozen=True, slots=True)
class Line:
    """One measure of both models."""

    measure: str
    a: Figure
    b: Figure
    difference: Figure | None
    """How much higher that of A is on the questions that pair up; None where answers are missing."""

    @property
    def better(self) -> Literal["A", "B", ""]:
        """Who is better, where the interval of the difference excludes 0."""
        is_told = self.difference is not None and (self.difference.low > 0 or self.difference.high < 0)
        if self.difference is None or not is_told or self.measure in NEITHER:
            return ""
        return "A" if (self.difference.low > 0) != (self.measure in LOWER) else "B"


@dataclass(frozen=True, slots=True)
class Pair:
    """An entry that both have."""

    a: Entry
    b: Entry
    lines: tuple[Line, ...]
    pairs: int
    """Questions that both were asked."""

    @property
    def head(self) -> Line | None:
        """The measure that says most of the task."""
        return next((line for name in TASKS[self.a.task].head for line in self.lines if line.measure == name), None)

    @property
    def title(self) -> str:
        """Protocol, task, sketches, and the condition where it is a control."""
        condition = "" if self.a.condition == "asked" else f", {CONTROLS[self.a.condition]}"
        dagger = "†" if self.a.style == "unseen" else ""
        return f"{self.a.protocol}, {TASKS[self.a.task].title}, {title_of(self.a.sketches)}{dagger}{condition}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of it."""

    a: Folder
    b: Folder
    pairs: tuple[Pair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    settings: tuple[tuple[str, str, str], ...]
    """Those that differ, and the value of each."""
    partings: tuple[tuple[str, tuple[Parting, ...]], ...]
    """By who is right."""
    unkeyed: int
    """Examples that do not say which question they are: of old records."""


def write_comparison(folder_a: str | Path, folder_b: str | Path, out: str | Path) -> Path:
    """Write comparison.md and comparison.html of two evaluations into a folder; returns the path of the page.

    Raises ValueError where they have no entry in common, and as `read_folder` does.
    """
    found = compare(read_folder(folder_a), read_folder(folder_b))
    path = Path(out).expanduser() / f"{COMPARISON}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path.with_suffix(".md"), _document(found))
    told = [folder.evaluation for folder in (found.a, found.b)]
    models = [(evaluation.model, what_it_is(evaluation), asked_text(evaluation)) for evaluation in told]
    html = environment().get_template("comparison.html.j2").render(found=found, models=models, span=span(found.pairs))
    write_text(path, html)
    return path


def compare(a: Folder, b: Folder) -> Comparison:
    """Raises ValueError where they have no entry in common."""
    mine, theirs = ({entry.name: entry for entry in folder.evaluation.entries} for folder in (a, b))
    both = [name for name in mine if name in theirs]
    if not both:
        raise ValueError(
            f"{a.path} and {b.path} have no entry in common ({_some(mine)}; {_some(theirs)}): evaluate both with "
            "the same protocols"
        )
    parted, unkeyed = partings(a, b, [(mine[name], theirs[name]) for name in both])
    return Comparison(
        a=a,
        b=b,
        pairs=tuple(_pair(a, b, mine[name], theirs[name]) for name in both),
        only_a=tuple(name for name in mine if name not in theirs),
        only_b=tuple(name for name in theirs if name not in mine),
        settings=tuple(_differing(a, b)),
        partings=parted,
        unkeyed=unkeyed,
    )


def _some(entries: dict[str, Entry]) -> str:
    return ", ".join([*entries][:3]) or "none"


def _pair(a: Folder, b: Folder, mine: Entry, theirs: Entry) -> Pair:
    answers = a.of(mine), b.of(theirs)
    found = paired(answers[0], answers[1]) if answers[0] and answers[1] else None
    differences = found.differences() if found else {}
    columns = TASKS[mine.task].columns
    lines = []
    for name in dict.fromkeys((*columns, *mine.figures)):
        if name in mine.figures and name in theirs.figures:
            known = differences.get(name)
            there = known if known is not None and known.value == known.value else None
            lines.append(Line(name, mine.figures[name], theirs.figures[name], there))
    return Pair(mine, theirs, tuple(lines), len(found.mine.records) if found else 0)


def _differing(a: Folder, b: Folder) -> Iterator[tuple[str, str, str]]:
    mine, theirs = ({"recipe": f.evaluation.recipe, **f.evaluation.settings} for f in (a, b))
    for name in dict.fromkeys((*mine, *theirs)):
        if mine.get(name) != theirs.get(name):
            yield name, str(mine.get(name, "not set")), str(theirs.get(name, "not set"))


def _document(found: Comparison) -> str:
    """comparison.md."""
    names = [markdown(folder.evaluation.model.name) for folder in (found.a, found.b)]
    lines = [f"# {names[0]} (A) and {names[1]} (B)", ""]
    for letter, folder in (("A", found.a), ("B", found.b)):
        told = f"{what_it_is(folder.evaluation)} {asked_text(folder.evaluation)}"
        lines.append(f"- {letter}: {markdown(folder.evaluation.model.name)}. {markdown(told, 600)}")
    lines += [
        "",
        "Percent. A − B on the questions that both were asked, in points, with its 95 % interval over images,",
        "bold where that excludes 0. † a style that the protocol keeps out of training.",
        "",
    ]
    rows = [_row(pair, line) for pair in found.pairs for line in pair.lines]
    lines += [*markdown_table(["entry", "measure", "A", "B", "A − B", "better", "n paired"], rows, 2), ""]
    lines += _unlike(found)
    return "\n".join(lines)


def _row(pair: Pair, line: Line) -> list[str]:
    name, difference = line.measure, "–"
    if line.difference is not None:
        difference = f"{signed(line.difference.value, name)} ({signed_interval(line.difference, name)})"
    values = [f"{number(figure.value, name)} ({interval(figure, name)})" for figure in (line.a, line.b)]
    strong = f"**{difference}**" if line.better else difference
    return [markdown(pair.title), markdown(name), *values, strong, line.better, _paired(pair)]


def _paired(pair: Pair) -> str:
    asked = max(pair.a.questions, pair.b.questions)
    return (
        f"{pair.pairs:,}" if pair.pairs == asked else f"{pair.pairs:,} of {pair.a.questions:,} and {pair.b.questions:,}"
    )


def _unlike(found: Comparison) -> list[str]:
    lines = []
    if found.settings:
        rows = [[markdown(one, 200) for one in setting] for setting in found.settings]
        lines += ["## Settings that differ", "", *markdown_table(["setting", "A", "B"], rows, 3), ""]
    for letter, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            lines += [f"Only of {letter}: {markdown(', '.join(names), 2000)}.", ""]
    return lines


def span(pairs: Sequence[Pair]) -> float:
    """The largest end of an interval of a difference of shares, for an axis."""
    ends: list[Any] = [
        abs(end)
        for pair in pairs
        for line in pair.lines
        if line.difference is not None and line.measure not in NO_SHARES
        for end in (line.difference.low, line.difference.high)
        if end == end
    ]
    return max([0.05, *ends])
