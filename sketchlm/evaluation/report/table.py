"""The tables of a protocol: rows as published, ours with its controls, columns sketches by measures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from data_manifests import schema
from data_manifests.schema import Condition, Measured, Protocol, protocol_manifest
from sketchlm.evaluation.measures import MEASURES
from sketchlm.evaluation.record import Entry, Evaluation
from sketchlm.evaluation.report.answers import mean_of
from sketchlm.evaluation.report.folder import Folder
from sketchlm.evaluation.report.task import LOWER, NO_SHARES, TASKS
from sketchlm.metrics import Figure

PROTOCOLS: Final = Path(schema.__file__).parent / "protocols"
MOST_COLUMNS: Final = 10
"""Of a table; sketches that do not fit begin another one."""
CONTROLS: Final[dict[Condition, str]] = {
    "shuffled": "another question's sketch",
    "blank": "a white page as sketch",
    "text": "no sketch, class in words",
}
NONE: Final = "none"
"""Of a protocol: questions without sketches."""
SKETCHES: Final = {
    "": "no sketch",
    NONE: "no sketch",
    "sketchy": "Sketchy",
    "quickdraw": "QuickDraw!",
    "tu_berlin": "TU-Berlin",
    "openmoji": "OpenMoji",
    "sketchvcl-coco": "SketchVCL-C",
}
"""As the paper writes them; others by their own names."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value. Published ones have no interval."""

    value: float
    figure: Figure | None = None
    is_best: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """published: of others; ours; control: ours, shown something else; constant: no model at all."""

    name: str
    kind: Literal["published", "ours", "control", "constant"]
    cells: tuple[Cell | None, ...]
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One measure of the questions with the sketches of one source; source "*" is the mean of all."""

    sketches: str
    title: str
    is_unseen: bool
    questions: int
    """Ours; 0 where we asked none."""
    wanted: int
    """Of the protocol; 0 = as many as there are."""
    measure: str

    @property
    def is_share(self) -> bool:
        """Whether it is written in percent."""
        return self.measure not in NO_SHARES


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one source of sketches stand together."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def groups(self) -> list[tuple[Column, int]]:
        """The first column of each source, and how many it has."""
        firsts: dict[str, list[Column]] = {}
        for column in self.columns:
            firsts.setdefault(column.sketches, []).append(column)
        return [(columns[0], len(columns)) for columns in firsts.values()]


def known_protocol(evaluation: Evaluation, name: str) -> Protocol | None:
    """The manifest that the record holds, else the one that comes with the package; None where there is neither.

    Raises ValueError for a manifest that is wrong: its published rows are not left out in silence.
    """
    if found := next((one for one in evaluation.protocols if one.name == name), None):
        return found
    return protocol_manifest(name) if (PROTOCOLS / f"{name}.yaml").is_file() else None


def tables(folder: Folder, protocol: Protocol | None, entries: Sequence[Entry]) -> list[Table]:
    """Of the entries of one protocol and task. protocol: None where it has no manifest, so no published rows."""
    task = entries[0].task
    published = protocol if protocol and protocol.published and _measures(protocol, task) else None
    names = _measures(protocol, task) or _default_measures(task, entries)
    columns = _columns(entries, protocol, published, names)
    if published or len(names) == 1:
        columns += _mean_columns(columns, names)
    rows = [*_published(published, columns, names), *_ours(folder, entries, columns)]
    rows = _marked(columns, rows)
    return [_part(columns, rows, places) for places in _chunks(columns)]


def title_of(sketches: str) -> str:
    """How a source of sketches is called in a table."""
    return SKETCHES.get(sketches, sketches)


def _source(entry: Entry) -> str:
    """As a protocol names it."""
    return entry.sketches or NONE


def _measures(protocol: Protocol | None, task: Measured) -> list[str]:
    """Those that the protocol names, where they are of this task."""
    names = protocol.measures if protocol else []
    return list(names) if names and set(names) <= set(MEASURES[task]) else []


def _default_measures(task: Measured, entries: Iterable[Entry]) -> list[str]:
    there = [name for entry in entries for name in entry.figures]
    return [name for name in TASKS[task].columns if name in there] or list(dict.fromkeys(there))


def _columns(
    entries: Sequence[Entry], protocol: Protocol | None, published: Protocol | None, names: Sequence[str]
) -> list[Column]:
    """Sources in the order of the protocol: those that were asked, and those that others published."""
    asked = {_source(entry) for entry in entries}
    told = {name for row in published.published for name in row.values} if published else set()
    ordered = [name for name in protocol.sketches if name in asked | told] if protocol else []
    ordered += [name for entry in entries if (name := _source(entry)) not in ordered]
    columns = []
    counted = protocol is not None and (protocol.tasks == ["retrieval"] or entries[0].task != "retrieval")
    for name in dict.fromkeys(ordered):
        mine = [entry for entry in entries if _source(entry) == name]
        manifest = protocol.sketches.get(name) if protocol else None
        is_unseen = any(entry.style == "unseen" for entry in mine) or bool(manifest and manifest.unseen)
        questions = next((e.questions for e in sorted(mine, key=lambda e: e.condition != "asked")), 0)
        wanted = manifest.queries if manifest and counted else 0  # among others, fewer galleries are ranked
        columns += [Column(name, title_of(name), is_unseen, questions, wanted, measure) for measure in names]
    return columns


def _mean_columns(columns: Sequence[Column], names: Sequence[str]) -> list[Column]:
    """As the paper has it where there is one measure."""
    if len(names) != 1 or len({column.sketches for column in columns} - {NONE}) < 2:
        return []
    return [Column("*", "mean", False, 0, 0, names[0])]


def _published(protocol: Protocol | None, columns: Sequence[Column], names: Sequence[str]) -> list[Row]:
    rows = []
    for row in protocol.published if protocol else []:
        cells = [
            Cell(row.values[column.sketches][names.index(column.measure)]) if column.sketches in row.values else None
            for column in columns
        ]
        if columns[-1].sketches == "*" and (known := [cell.value for cell in cells[:-1] if cell]):
            cells[-1] = Cell(sum(known) / len(known)) if len(known) == len(columns) - 1 else None
        rows.append(Row(row.model, "published", tuple(cells), row.origin))
    return rows


def _ours(folder: Folder, entries: Sequence[Entry], columns: Sequence[Column]) -> list[Row]:
    """The model as asked, then its controls, then the constant; a protocol of controls alone is ours as it is."""
    name, rows = folder.evaluation.model.name, []
    conditions: list[Condition] = ["asked", *CONTROLS]
    there = [condition for condition in conditions if any(entry.condition == condition for entry in entries)]
    for condition in there:
        mine = {_source(entry): entry for entry in entries if entry.condition == condition}
        cells = [_cell(folder, mine, column, columns) for column in columns]
        label = name if condition == "asked" else f"{name}, {CONTROLS[condition]}" if len(there) == 1 else ""
        kind: Literal["ours", "control"] = "ours" if label else "control"
        rows.append(Row(label or CONTROLS[condition], kind, tuple(cells)))
    constant = {_source(entry): entry.constant for entry in reversed(entries) if entry.constant}
    cells = [_constant(constant.get(column.sketches, {}), column) for column in columns]
    if any(cells):
        rows.append(Row("always the same answer", "constant", tuple(cells)))
    return rows


def _cell(folder: Folder, mine: dict[str, Entry], column: Column, columns: Sequence[Column]) -> Cell | None:
    if column.sketches == "*":
        wanted = [other.sketches for other in columns if other.sketches != "*"]
        parts = [folder.of(mine[name]) for name in wanted if name in mine]
        there = [part for part in parts if part is not None and column.measure in part.measures]
        if len(there) < len(wanted):
            return None
        figure = mean_of(there, column.measure)
        return Cell(figure.value, figure) if figure.value == figure.value else None
    entry = mine.get(column.sketches)
    if entry is None or column.measure not in entry.figures:
        return None
    return Cell(entry.figures[column.measure].value, entry.figures[column.measure])


def _constant(constant: dict[str, float], column: Column) -> Cell | None:
    return Cell(constant[column.measure]) if column.measure in constant else None


def _marked(columns: Sequence[Column], rows: Sequence[Row]) -> list[Row]:
    """The best of each column marked, among models as asked, where there are two at least to choose from."""
    best = []
    for place, column in enumerate(columns):
        values = [r.cells[place].value for r in rows if r.kind in ("published", "ours") and r.cells[place]]  # type: ignore[union-attr]
        choose = min if column.measure in LOWER else max
        best.append(choose(values) if len(values) > 1 else None)
    return [
        replace(row, cells=tuple(_mark(row, cell, value) for cell, value in zip(row.cells, best, strict=True)))
        for row in rows
    ]


def _mark(row: Row, cell: Cell | None, best: float | None) -> Cell | None:
    is_best = cell is not None and cell.value == best and row.kind in ("published", "ours")
    return replace(cell, is_best=True) if cell is not None and is_best else cell


def _chunks(columns: Sequence[Column]) -> list[list[int]]:
    """Places of the columns of each table: sources stay whole."""
    chunks: list[list[int]] = [[]]
    for name in dict.fromkeys(column.sketches for column in columns):
        places = [place for place, column in enumerate(columns) if column.sketches == name]
        if chunks[-1] and len(chunks[-1]) + len(places) > MOST_COLUMNS:
            chunks.append([])
        chunks[-1] += places
    return chunks


def _part(columns: Sequence[Column], rows: Sequence[Row], places: Sequence[int]) -> Table:
    cut = (replace(row, cells=tuple(row.cells[place] for place in places)) for row in rows)
    return Table(tuple(columns[place] for place in places), tuple(row for row in cut if any(row.cells)))
