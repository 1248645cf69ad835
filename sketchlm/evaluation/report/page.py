"""The pages: `report.html`, self-contained, made of templates."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2

from data_manifests.schema import Measured
from sketchlm.evaluation.record import Evaluation
from sketchlm.evaluation.report.breakdown import FEW
from sketchlm.evaluation.report.content import Content, Worth
from sketchlm.evaluation.report.picture import RULES
from sketchlm.evaluation.report.signatures import FAR
from sketchlm.evaluation.report.table import CONTROLS, title_of
from sketchlm.evaluation.report.task import glossary, meaning
from sketchlm.evaluation.report.wording import UNSEEN, counted, interval, number, shown, signed, signed_interval

CLASSES_SHOWN: Final = 32
"""Classes that have a bar; a folded list holds all."""
SCORE_NAMES: Final[dict[Measured, str]] = {
    "bbox": "IoU",
    "boxes": "F1",
    "count": "",
    "vqa": "accuracy",
    "sbir": "p of the truth",
    "retrieval": "average precision",
    "describe": "score",
}
"""What the score of an example is; "" = not told."""


def page(content: Content, comparison: str = "", against: str = "") -> str:
    """report.html. comparison: file beside it that compares with the model `against`; "" = none."""
    return (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            content=content,
            what=what_it_is(content.folder.evaluation),
            asked_text=asked_text(content.folder.evaluation),
            worth_text=worth_text(content.worth),
            facts=facts(content.folder.evaluation),
            folders=missing_folders(content.folder.evaluation),
            comparison=comparison,
            against=against,
        )
    )


@cache
def environment() -> jinja2.Environment:
    """Templates escape what they are given; what a model said goes through `shown` as well."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("sketchlm"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {
        "thousands": "{:,}".format,
        "number": number,
        "interval": interval,
        "signed": signed,
        "signed_interval": signed_interval,
        "shown": shown,
    }
    made.globals |= {
        "title_of": title_of,
        "controls": CONTROLS,
        "shown_classes": CLASSES_SHOWN,
        "few": FEW,
        "score_names": SCORE_NAMES,
        "rules": RULES,
        "meaning": meaning,
        "glossary": glossary,
        "unseen": UNSEEN,
        "far": FAR,
    }
    return made


def what_it_is(evaluation: Evaluation) -> str:
    """The model in a sentence, of the facts that are known."""
    known = evaluation.model.facts
    names = ("stage", "base", "recipe", "steps", "connector")
    told = "; ".join(f"{name} {shown(known[name], 80)}" for name in names if known.get(name))
    return f"{told[:1].upper()}{told[1:]}." if told else ""


def asked_text(evaluation: Evaluation) -> str:
    """How much was asked, when and where."""
    questions = sum(entry.questions for entry in evaluation.entries)
    asked = f"{counted(questions, 'question')} in {counted(len(evaluation.entries), 'entry', 'entries')}"
    commit = evaluation.settings.get("commit") or evaluation.model.facts.get("commit")
    at = f", commit {shown(commit, 40)}" if commit else ""
    return f"{asked}, recipe {evaluation.recipe}, {evaluation.created[:10]}, on {evaluation.device}{at}."


def worth_text(worth: tuple[Worth, ...]) -> str:
    """How far the figures are above the controls, in a sentence."""
    said = []
    for condition, name in CONTROLS.items():
        gains = [
            f"{one.big.task.short} {signed(gain.value, one.big.measure)}"
            for one in worth
            if condition in one.controls and (gain := one.controls[condition][1]) is not None
        ]
        if gains:
            said.append(f"With its sketch instead of {name}: {', '.join(gains)} points.")
    return " ".join(said)


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Labels and values, of the model and of the run."""
    model = evaluation.model
    rows: list[tuple[str, Any]] = [
        ("model", model.name),
        ("folder or id", Path(model.path).name if model.path.startswith("/") else model.path),
        ("fingerprint", model.fingerprint),
        *model.facts.items(),
        ("recipe of the evaluation", evaluation.recipe),
        ("created", evaluation.created),
        ("device", evaluation.device),
        *((f"setting {name}", value) for name, value in evaluation.settings.items()),
        ("seconds of asking", _seconds(evaluation)),
    ]
    return [(str(label), _text(value)) for label, value in rows]


def _seconds(evaluation: Evaluation) -> str:
    """Of all entries, and of how many it is not known."""
    unknown = sum(not entry.seconds for entry in evaluation.entries)
    without = f", and {counted(unknown, 'entry', 'entries')} whose time is not known" if unknown else ""
    return f"{sum(entry.seconds for entry in evaluation.entries):,.0f}{without}"


def missing_folders(evaluation: Evaluation) -> dict[str, str]:
    """What the data folder lacks, each once, with the way to get it."""
    return {name: way for one in evaluation.missing for name, way in one.folders.items()}


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(one) for one in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(one)}" for name, one in value.items()) or "none"
    return "" if value is None else str(value)
