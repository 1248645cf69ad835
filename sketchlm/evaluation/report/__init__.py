"""The report of an evaluation: what its record says, as Markdown and as a self-contained page.

folder.py      the record and its answers, read and checked
task.py        the tasks and their measures
values.py      what an answer holds
answers.py     answers as rows of scores; parts and differences of them
table.py       the tables of a protocol, published rows beside ours
breakdown.py   where a model is right and wrong
signatures.py  failure signatures, each a rule
picture.py     examples as pictures
content.py     all of it, worked out once
document.py    `report.md`
page.py        `report.html`
comparison.py  two models side by side: `comparison.md` and `comparison.html`
parting.py     where they part
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sketchlm.evaluation.record import write_text
from sketchlm.evaluation.report.comparison import COMPARISON, write_comparison
from sketchlm.evaluation.report.content import content
from sketchlm.evaluation.report.document import document
from sketchlm.evaluation.report.folder import read_folder
from sketchlm.evaluation.report.page import page
from sketchlm.evaluation.report.signatures import SIGNATURES, Evidence, Signature, signatures, write_signatures

__all__ = ["COMPARISON", "REPORT", "Evidence", "Signature", "signatures", "write_comparison", "write_report"]

REPORT: Final = "report"


def write_report(folder: str | Path, against: str | Path | None = None) -> Path:
    """Write report.md, report.html and signatures.json into the folder of an evaluation; the same record, the same
    bytes. Returns the path of the page.

    against: the folder of another model's evaluation; comparison.md and .html then lie beside the report.
    Raises ValueError, naming the file and the remedy, for a record or answers that are damaged or of another version.
    """
    read = read_folder(folder)
    found = content(read)
    name = ""
    if against is not None:
        write_comparison(read.path, against, read.path)
        name = read_folder(against).evaluation.model.name
    path = read.path / f"{REPORT}.html"
    write_signatures(read.path / SIGNATURES, found.signatures)
    write_text(path.with_suffix(".md"), document(found))
    write_text(path, page(found, f"{COMPARISON}.html" if against is not None else "", name))
    return path
