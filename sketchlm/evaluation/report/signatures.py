"""Failure signatures: what goes wrong with models of this kind, each looked for by a rule and told with its numbers.

A signature is seen, or not seen, only where a 95 % interval of questions enough says so; else it cannot be told, and
the report says about how many would do. Several places are looked at for most: one where it is seen is enough.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

from data_manifests.schema import Measured
from sketchlm.evaluation.record import Entry, Evaluation, write_text
from sketchlm.evaluation.report.answers import Answers, gap
from sketchlm.evaluation.report.folder import Folder, read_folder
from sketchlm.evaluation.report.table import CONTROLS, title_of
from sketchlm.evaluation.report.task import TASKS
from sketchlm.evaluation.report.values import boxes_of, is_unread
from sketchlm.evaluation.report.wording import counted
from sketchlm.metrics import Figure, average, figures

SIGNATURES: Final = "signatures.json"

LOW_SBIR: Final = 0.75
"""Balanced accuracy, half way from guessing (0.5) to always right."""
LOW_RETRIEVAL: Final = 0.39
"""Precision@1: O3SLM-7B's 0.65, less the 40 % that it loses without sketch alignment."""
STYLE_LOSS: Final = 0.05
"""What a model may lose in a style that it never saw: O3SLM-7B's own largest loss, COCO counting, 35.6 to 30.2 %."""
HIGH_VQA: Final = 0.6
"""LLaVA-1.5 answers 80.0 % of VQAv2 and O3SLM 76.6 %: clearly able, if below them."""
LOW_DETECTION: Final = 0.15
"""Acc@0.5, between LLaVA-1.5-7B, which grounds little (9.7 % at most), and O3SLM-7B (21.5 % at least)."""
CROWD: Final = 3
"""True instances from which an image is crowded: one box more or less is no longer most of the answer."""
SPURIOUS: Final = 0.1
"""Share of the boxes of crowds that may show nothing true, or what another box has: one in ten."""
LEAST_GAIN: Final = 0.05
"""What its own sketch has to add over a wrong or a white one, for the model to be said to look at it."""
UNREADABLE: Final = 0.05
"""Share of answers that may hold nothing to read: one in twenty."""
LEAST: Final = 60
"""Questions below which nothing is told: what was never met among n may still be 3 in n (the rule of three), which is
then more than the smallest limit; and intervals of few questions are too narrow."""

FAR: Final = 1_000_000
"""Questions that nobody asks: a figure that would need more lies on its limit."""

Verdict = Literal["seen", "not seen", "cannot be told"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One number that a signature is told from, with what it says by itself."""

    what: str
    figure: Figure
    limit: float
    verdict: Verdict
    needed: int = 0
    """Questions with which it would tell, should the figure stay; 0 = it tells as it is."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to fail, and whether it is seen."""

    name: str
    verdict: Verdict
    rule: str
    """In words, with its limits."""
    told: str
    """What was found, or what is lacking, in words."""
    evidence: tuple[Evidence, ...] = ()


def signatures(evaluation: Evaluation, folder: str | Path | Folder) -> list[Signature]:
    """All of them, in the order of a report.

    folder: that of the evaluation, whose answers they are told from. Raises ValueError as `read_folder` does.
    """
    found = folder if isinstance(folder, Folder) else read_folder(folder)
    found = Folder(found.path, evaluation, found.answers)
    return [
        sketch_ignored(found),
        style_overfit(found),
        frozen_connector(found),
        words_without_places(found),
        crowds(found, "hallucinated", "Hallucinated boxes in crowds", "show nothing true (IoU below 0.1 with any)"),
        crowds(found, "duplicates", "Duplicate boxes in crowds", "show what a better box has taken"),
        answers_unreadable(found),
    ]


def write_signatures(path: Path, found: Sequence[Signature]) -> None:
    """As JSON; a figure that no question enters has no numbers."""
    told = [asdict(signature) for signature in found]
    for one in told:
        for item in one["evidence"]:
            item["figure"] = {name: value for name, value in item["figure"].items() if value == value}
    write_text(path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def sketch_ignored(folder: Folder) -> Signature:
    """Asked no better than with a wrong sketch, or a white page."""
    evidence = []
    for entry in _asked(folder):
        for condition in ("shuffled", "blank"):
            control = _control(folder, entry, condition)
            mine, theirs = folder.of(entry), folder.of(control) if control else None
            if mine is None or theirs is None or not mine.head or mine.head not in theirs.measures:
                continue
            what = f"{_where(entry)}: {mine.head} above {CONTROLS[condition]}"
            evidence.append(_gain(what, _gap(mine, theirs)))
    return _signature(
        "Sketch ignored",
        f"Seen where the answers are less than {_points(LEAST_GAIN)} better with the sketch than with another "
        "question's, or with a white page; not seen where they are better at all.",
        evidence,
        "needs the conditions shuffled or blank, with their answers",
    )


def style_overfit(folder: Folder) -> Signature:
    """Good with drawings as in training, poor with others."""
    evidence = []
    entries = _asked(folder)
    for unseen in (entry for entry in entries if entry.style == "unseen"):
        for seen in (e for e in entries if e.style == "seen" and _what(e) == _what(unseen)):
            mine, theirs = folder.of(seen), folder.of(unseen)
            if mine is None or theirs is None or not mine.head or mine.head not in theirs.measures:
                continue
            figure = _gap(mine, theirs)
            what = f"{_where(seen)}: {mine.head} above that with {title_of(unseen.sketches)}"
            evidence.append(_evidence(what, figure, STYLE_LOSS, above))
    return _signature(
        "Style overfit",
        f"Seen where a source of sketches whose style the protocol leaves to training is more than "
        f"{_points(STYLE_LOSS)} better than one whose style it keeps out of it.",
        evidence,
        "needs sketches of a seen and of an unseen style in one protocol",
    )


def frozen_connector(folder: Folder) -> Signature:
    """Low SBIR of a model whose connector was not trained."""
    evidence = []
    for entry in _asked(folder):
        limit = {"sbir": LOW_SBIR, "retrieval": LOW_RETRIEVAL}.get(entry.task)
        answers = folder.of(entry)
        if limit is not None and answers is not None and answers.head:
            figure = answers.figure(answers.head)
            evidence.append(_evidence(f"{_where(entry)}: {answers.head}", figure, limit, below))
    connector = str(folder.evaluation.model.facts.get("connector", ""))
    found = _signature(
        "Low SBIR with a frozen connector",
        f"Seen where the connector was frozen and SBIR is low: balanced accuracy below {_percent(LOW_SBIR)}, or "
        f"precision@1 of a gallery below {_percent(LOW_RETRIEVAL)}.",
        evidence,
        "needs sbir or retrieval",
    )
    if connector == "frozen" or not evidence or found.verdict == "not seen":
        return found
    if connector:
        low = " SBIR is low all the same: look at the sketches and the training first." * (found.verdict == "seen")
        return _told(found, "not seen", f"The connector was trained ({connector}).{low}")
    return _told(found, "cannot be told", f"Whether the connector was frozen is not in the model's facts. {found.told}")


def words_without_places(folder: Folder) -> Signature:
    """High VQA and low detection: what, without where."""
    high = _evidence_of(folder, "vqa", HIGH_VQA, above)
    low = _evidence_of(folder, "bbox", LOW_DETECTION, below)
    rule = (
        f"Seen where VQA is above {_percent(HIGH_VQA)} and a single box's Acc@0.5 below {_percent(LOW_DETECTION)}: "
        "the model knows what, and not where."
    )
    name, evidence = "High VQA, low detection", tuple(high + low)
    if not high or not low:
        lacks = " and ".join(task for task, part in (("vqa", high), ("bbox", low)) if not part)
        return Signature(name, "cannot be told", rule, f"Needs answers of {lacks}.", evidence)
    sides = [anywhere(one.verdict for one in part) for part in (high, low)]
    verdict = everywhere(sides)
    open_ = [one for one in evidence if one.verdict == "cannot be told"]
    told = {"seen": "VQA is high and detection low.", "cannot be told": f"Not every figure tells: {_more(open_)}."}
    both = f"VQA is {_words(sides[0], 'high')}, detection {_words(sides[1], 'low')}."
    return Signature(name, verdict, rule, told.get(verdict, both), evidence)


def crowds(folder: Folder, measure: str, name: str, what: str) -> Signature:
    """Boxes too many where there are many instances."""
    evidence = []
    for entry in _asked(folder):
        answers = folder.of(entry)
        if entry.task != "boxes" or answers is None:
            continue
        crowd = answers.where(lambda record: len(boxes_of(record.truth)) >= CROWD)
        figure = crowd.figure(measure)
        if figure.n:
            said = f"{_where(entry)}: {measure} of {CROWD} and more"
            evidence.append(_evidence(said, figure, SPURIOUS, above))
    return _signature(
        name,
        f"Seen where more than {_percent(SPURIOUS)} of the boxes found in images of {CROWD} and more instances {what}.",
        evidence,
        f"needs boxes in images of {CROWD} and more instances",
    )


def answers_unreadable(folder: Folder) -> Signature:
    """Answers that hold no number or box."""
    evidence = []
    for entry in _asked(folder):
        answers = folder.of(entry)
        if answers is None or not TASKS[entry.task].reads or not answers.records:
            continue
        flags = [[float(is_unread(entry.task, record))] for record in answers.records]
        figure = figures(flags, {"": average(("unread",), "unread")}, answers.images)[""]
        evidence.append(_evidence(f"{_where(entry)}: unreadable", figure, UNREADABLE, above))
    return _signature(
        "Answers unreadable",
        f"Seen where more than {_percent(UNREADABLE)} of the answers hold no number or box.",
        evidence,
        "needs count, bbox or boxes",
    )


def _asked(folder: Folder) -> list[Entry]:
    return [entry for entry in folder.evaluation.entries if entry.condition == "asked"]


def _what(entry: Entry) -> tuple[str, Measured]:
    return entry.protocol, entry.task


def _where(entry: Entry) -> str:
    sketches = f", {title_of(entry.sketches)}" if entry.sketches else ""
    return f"{entry.protocol}, {TASKS[entry.task].short}{sketches}"


def _control(folder: Folder, entry: Entry, condition: str) -> Entry | None:
    """The same questions under a condition."""
    for other in folder.evaluation.entries:
        if _what(other) == _what(entry) and other.sketches == entry.sketches and other.condition == condition:
            return other
    return None


def _evidence_of(
    folder: Folder, task: Measured, limit: float, judge: Callable[[Figure, float], Verdict]
) -> list[Evidence]:
    evidence = []
    for entry in _asked(folder):
        answers: Answers | None = folder.of(entry)
        if entry.task == task and answers is not None and answers.head:
            figure = answers.figure(answers.head)
            evidence.append(_evidence(f"{_where(entry)}: {answers.head}", figure, limit, judge))
    return evidence


def _evidence(what: str, figure: Figure, limit: float, judge: Callable[[Figure, float], Verdict]) -> Evidence:
    verdict = judge(figure, limit)
    return Evidence(what, figure, limit, verdict, needed(figure, limit) if verdict == "cannot be told" else 0)


def _gain(what: str, figure: Figure) -> Evidence:
    """Of the answers over a control: below the limit it is seen; above nothing, be it how little, it is not."""
    found = _evidence(what, figure, LEAST_GAIN, below)
    if found.verdict != "cannot be told":
        return found
    if figure.low > 0 and figure.n >= LEAST:
        return replace(found, verdict="not seen", needed=0)
    return replace(found, needed=min(found.needed, needed(figure, 0.0))) if figure.value > 0 else found


def needed(figure: Figure, limit: float) -> int:
    """Questions with which the interval would leave out the limit, should the figure stay: it narrows with the root of
    their number. Two digits, rounded up; LEAST at least, FAR at most."""
    apart = abs(figure.value - limit)
    half = figure.value - figure.low if figure.value > limit else figure.high - figure.value
    if not apart or not math.isfinite(half):
        return FAR
    questions = max(figure.n * (half / apart) ** 2, LEAST)
    digit = 10 ** max(0, math.floor(math.log10(questions)) - 1)
    return min(math.ceil(questions / digit) * digit, FAR)


def _gap(mine: Answers, theirs: Answers) -> Figure:
    """Of the head measure; n: the questions of the side that has fewer."""
    return replace(gap(mine, theirs, mine.head), n=min(len(mine.records), len(theirs.records)))


def below(figure: Figure, limit: float) -> Verdict:
    """Seen where the whole interval lies below a limit, not seen where none of it does."""
    if figure.n < LEAST:
        return "cannot be told"
    return "seen" if figure.high < limit else "not seen" if figure.low >= limit else "cannot be told"


def above(figure: Figure, limit: float) -> Verdict:
    """The other way round."""
    if figure.n < LEAST:
        return "cannot be told"
    return "seen" if figure.low > limit else "not seen" if figure.high <= limit else "cannot be told"


def anywhere(verdicts: Iterable[Verdict]) -> Verdict:
    """Seen where it is seen anywhere; not seen where it is nowhere, for sure."""
    there = set(verdicts)
    return "seen" if "seen" in there else "cannot be told" if "cannot be told" in there else "not seen"


def everywhere(verdicts: Iterable[Verdict]) -> Verdict:
    """Seen where all are; not seen where one is not, for sure."""
    there = set(verdicts)
    return "not seen" if "not seen" in there else "cannot be told" if "cannot be told" in there else "seen"


def _signature(name: str, rule: str, evidence: Sequence[Evidence], lacks: str) -> Signature:
    if not evidence:
        return Signature(name, "cannot be told", rule, f"{lacks[:1].upper()}{lacks[1:]}.")
    enough = [one for one in evidence if one.figure.n >= LEAST]
    verdict = anywhere(one.verdict for one in enough or evidence)
    mine = [one for one in enough if one.verdict == verdict]
    aside = len(evidence) - len(enough)
    few = f" Left aside, of fewer than {LEAST} questions: {aside} more." if aside else ""
    told = {
        "seen": f"In {len(mine)} of {counted(len(enough), 'figure')}.{few}",
        "not seen": f"In none of {counted(len(enough), 'figure')}.{few}",
        "cannot be told": f"Open in {len(mine)} of {counted(len(enough), 'figure')}: {_more(mine)}.{few}",
    }[verdict]
    if not enough:
        told = f"Of fewer than {LEAST} questions, all of {counted(len(evidence), 'figure')}: {_more(evidence)}."
    return Signature(name, verdict, rule, told, tuple(evidence))


def _more(evidence: Sequence[Evidence]) -> str:
    """How many questions would do for all."""
    most = max((one.needed for one in evidence), default=0)
    if most >= FAR:
        return "one of them lies on its limit, where no number of questions tells"
    return f"about {most:,} questions of each would tell, should they stay as they are"


def _told(signature: Signature, verdict: Verdict, told: str) -> Signature:
    return Signature(signature.name, verdict, signature.rule, told, signature.evidence)


def _words(verdict: Verdict, word: str) -> str:
    return {"seen": word, "not seen": f"not {word}", "cannot be told": f"perhaps {word}"}[verdict]


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _points(share: float) -> str:
    return f"{100 * share:g} points"
