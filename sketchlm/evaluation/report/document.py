"""The same as Markdown: tables and words, for a code host or a terminal."""

from __future__ import annotations

from sketchlm.evaluation.record import Evaluation
from sketchlm.evaluation.report.breakdown import Breakdown
from sketchlm.evaluation.report.content import Content, Part, Section
from sketchlm.evaluation.report.page import asked_text, facts, missing_folders, what_it_is, worth_text
from sketchlm.evaluation.report.signatures import Signature
from sketchlm.evaluation.report.table import CONTROLS, Table, title_of
from sketchlm.evaluation.report.wording import (
    UNSEEN,
    interval,
    markdown,
    markdown_table,
    number,
    signed,
    signed_interval,
)
from sketchlm.metrics import Figure

FEW_CLASSES = 5
"""Classes that are named at either end."""


def document(content: Content) -> str:
    """report.md."""
    evaluation = content.folder.evaluation
    lines = [f"# Evaluation of {markdown(evaluation.model.name)}", ""]
    lines += [f"{markdown(what_it_is(evaluation), 600)} {markdown(asked_text(evaluation), 600)}".strip(), ""]
    lines += _bigs(content)
    lines += _worth(content)
    lines += signature_lines(content.signatures)
    for section in content.sections:
        lines += _section(section)
    if evaluation.missing:
        lines += _missing(evaluation)
    lines += ["## What was run", ""]
    lines += markdown_table(["", ""], [[markdown(name), markdown(value, 400)] for name, value in facts(evaluation)], 2)
    return "\n".join(lines) + "\n"


def _missing(evaluation: Evaluation) -> list[str]:
    rows = [[markdown(m.protocol), markdown(title_of(m.sketches)), markdown(m.what, 600)] for m in evaluation.missing]
    lines = ["## Missing data", "", "Not evaluated, because the data are not here.", ""]
    lines += [*markdown_table(["protocol", "sketches", "what"], rows, 3), ""]
    if folders := missing_folders(evaluation):
        ways = [[markdown(f"{name}/"), markdown(way, 600)] for name, way in folders.items()]
        lines += [*markdown_table(["folder", "how to get it"], ways, 2), ""]
    return lines


def _bigs(content: Content) -> list[str]:
    rows = [
        [
            f"{big.task.short} {big.measure}",
            f"**{number(big.figure.value, big.measure)}** ({interval(big.figure, big.measure)})",
            f"{big.figure.n:,}",
            f"{number(big.unseen[1].value, big.measure)} ({interval(big.unseen[1], big.measure)})"
            if big.unseen
            else "",
            markdown(f"{big.entry.protocol}, {title_of(big.entry.sketches)}"),
        ]
        for big in content.bigs
    ]
    if not rows:
        return []
    table = markdown_table(["", "value", "n", "unseen style†", "of"], rows)
    return [*table, "", f"Percent, with 95 % intervals over images. † {UNSEEN}.", ""]


def _worth(content: Content) -> list[str]:
    if not content.worth:
        return []
    rows = []
    for one in content.worth:
        name, cells = one.big.measure, [f"{one.big.task.short} {one.big.measure}"]
        cells.append(f"**{number(one.big.figure.value, name)}**")
        for condition in content.controls:
            figure, gain = one.controls.get(condition, (None, None))
            cells.append(number(figure.value, name) if figure else "–")
            cells.append(f"{signed(gain.value, name)} ({signed_interval(gain, name)})" if gain else "–")
        rows.append(cells)
    head = ["", "with the sketch"] + [text for name in content.controls for text in (CONTROLS[name], "gain over it")]
    return ["## What the sketch is worth", "", worth_text(content.worth), "", *markdown_table(head, rows), ""]


def signature_lines(signatures: tuple[Signature, ...]) -> list[str]:
    """A table of them."""
    rows = []
    for one in signatures:
        verdict = f"**{one.verdict}**" if one.verdict == "seen" else one.verdict
        rows.append([verdict, one.name, markdown(one.told, 400), markdown(one.rule, 400)])
    return ["## Failure signatures", "", *markdown_table(["", "signature", "found", "rule"], rows, 4), ""]


def _section(section: Section) -> list[str]:
    lines = [f"## {markdown(section.title)}", "", markdown(section.description, 600), ""]
    for part in section.parts:
        lines += [f"### {part.task.title}", ""]
        for table in part.tables:
            lines += [*_table(table), ""]
        lines += [_legend(section, part), ""]
        if part.unanswered:
            lines += [f"No answers are kept of {markdown(', '.join(part.unanswered), 600)}: figures alone.", ""]
        if part.breakdown:
            lines += _breakdown(part.breakdown)
    return lines


def _table(table: Table) -> list[str]:
    head = ["model"]
    for column in table.columns:
        asked = f" (n = {column.questions:,})" if column.questions else ""
        head.append(f"{markdown(column.title)}{'†' * column.is_unseen}{asked} {markdown(column.measure)}")
    rows = []
    for row in table.rows:
        name = markdown(row.name)
        cells = [{"published": name, "ours": f"**{name}**"}.get(row.kind, f"*{name}*")]
        for cell, column in zip(row.cells, table.columns, strict=True):
            text = number(cell.value, column.measure) if cell else "–"
            if cell and row.kind == "ours":
                text = f"**{text}**" + (f" ({interval(cell.figure, column.measure)})" if cell.figure else "")
            cells.append(text + " ★" * bool(cell and cell.is_best))
        rows.append(cells)
    return markdown_table(head, rows)


def _legend(section: Section, part: Part) -> str:
    said = [
        f"Percent{'' if part.is_percent else ', but for MAE'}; ours in bold with 95 % intervals; in italics controls."
    ]
    if part.has_published:
        said.append(f"The others as published ({markdown('; '.join(section.origins))}). ★ the best of a column.")
    if part.has_unseen:
        said.append("† a style that the protocol keeps out of training.")
    return " ".join(said)


def _breakdown(found: Breakdown) -> list[str]:
    lines = []
    for style in found.styles:
        lines.append(
            f"- {markdown(style.sources[0])} − {markdown(style.sources[1])}† (seen − unseen style), {style.measure}: "
            f"{signed(style.gap.value, style.measure)} ({signed_interval(style.gap, style.measure)})"
        )
    for name, bars in found.sizes:
        sizes = "; ".join(f"{bar.name} {number(bar.figure.value)} (n = {bar.figure.n:,})" for bar in bars)
        lines.append(f"- {found.head} by size of the true box, {markdown(name)}: {sizes}")
    if len(found.classes) > 1:
        named = [
            f"{markdown(bar.name, 40)} {number(bar.figure.value, found.head)} (n = {bar.figure.n:,})"
            for bar in found.classes
        ]
        ends = named if len(named) <= 2 * FEW_CLASSES else [*named[:FEW_CLASSES], "…", *named[-FEW_CLASSES:]]
        lines.append(f"- {found.head} by class, {len(named)} in all, best first: {', '.join(ends)}")
    if found.calibration:
        lines.append(f"- p(yes) is {number(found.calibration.error)} points from the share of yes, on average")
    if found.unread:
        texts = ", ".join(f"“{markdown(said, 40)}” {n} ×" for said, _, n in found.unread.texts[:3])
        lines.append(f"- unreadable: {number(found.unread.share.value)} % ({interval(found.unread.share)}), {texts}")
    for crowd in found.crowds:
        lines.append(f"- {crowd.true} true instances (n = {crowd.questions:,}): {_crowd(crowd.figures)}")
    if found.confusion:
        labels = found.confusion.labels
        rows = [[label, *(str(n) for n in row)] for label, row in zip(labels, found.confusion.cells, strict=True)]
        lines += ["", *markdown_table(["true \\ said", *labels, "unreadable"], rows)]
    return [*lines, ""] if lines else []


def _crowd(figures: dict[str, Figure]) -> str:
    names = ("recall", "precision", "duplicates", "hallucinated")
    return ", ".join(
        f"{name} {number(figures[name].value)} → {number(figures[f'{name}, suppressed'].value)}"
        for name in names
        if figures[name].n
    ) + (" (→ after non-maximum suppression)")
