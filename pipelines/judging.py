"""A bundle judged on shards that training never saw, beside its controls: the figures that training ends with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from data_manifests.schema import Measured
from sketchlm.evaluation.asking import EntryPlan, ask
from sketchlm.evaluation.questions import Asked, Samples, collect, under
from sketchlm.evaluation.record import write_text
from sketchlm.evaluation.scoring import constants
from sketchlm.loading import open_model, processor_of
from sketchlm.metrics import Figure, Measure, balanced_accuracy, bootstrap, mean
from sketchlm.processor import Processor

CONTROLS = "shuffled: with the sketch of another question; constant: the best answer that is always the same"
MIN_CHOICES = 4
"""Single-instance classes of an image from which boxes are counted: with fewer, guessing pays."""
MEASURES: dict[str, Measure] = {"mean": mean, "balanced accuracy": balanced_accuracy}


@dataclass(frozen=True, slots=True)
class Headline:
    """A figure of a table: of which questions, from which of their scores."""

    task: Measured
    scores: tuple[str, ...]
    """Of `sketchlm.evaluation.measures.FIELDS`; of the balanced accuracy two: right, and the true class."""
    figure: str
    """Its name in `sketchlm.evaluation.measures.MEASURES`."""
    measure: str = "mean"


HEADLINES = {
    "SBIR balanced accuracy": Headline("sbir", ("right", "truth"), "balanced accuracy", "balanced accuracy"),
    "COUNT exact, class present": Headline("count", ("exact",), "exact, present"),
    "BBOX Acc@0.5": Headline("bbox", ("half",), "Acc@0.5"),
    "BBOX mean IoU": Headline("bbox", ("iou",), "mean IoU"),
    "VQA exact": Headline("vqa", ("exact",), "exact"),
    "DESCRIBE class named": Headline("describe", ("named",), "class named"),
    "DESCRIBE box Acc@0.5": Headline("describe", ("half",), "Acc@0.5"),
}


class Scores(NamedTuple):
    """What one figure is worked out from: rows [n, k], the image of each, and the measure's name."""

    rows: list[list[float]]
    images: list[str]
    measure: str = "mean"

    def figure(self) -> Figure:
        """The value with its interval."""
        return bootstrap(self.rows, MEASURES[self.measure], self.images)


class Judgement(NamedTuple):
    """Figures by name, each beside what no sight of the sketch would give."""

    trained: dict[str, Scores]
    shuffled: dict[str, Scores]
    """The same model, each question with the sketch of another; empty where that was not asked for."""
    constant: dict[str, float]
    """The best answer that is always the same."""


def judge(
    bundle: str | Path,
    shards: str,
    tasks: Sequence[str],
    limit: int,
    blind: bool = False,
    controls: bool = True,
    device: str = "",
) -> Judgement:
    """Ask the questions of the first `limit` samples.

    blind: the sketches are hidden, as in training; device: "" = the best there is.
    Raises ValueError for a bundle or shards that cannot be read.
    """
    loaded = open_model(bundle, device)
    processor = processor_of(loaded, tuple(tasks), blind)
    samples = Samples(shards, limit)
    asked = {task: questions for task in MEASURED if task in tasks and (questions := _judged(samples, task))}

    def answered(condition: Any) -> dict[str, Scores]:
        return _answered(asked, condition, samples, loaded.model, processor)

    trained = answered("asked")
    swapped = answered("shuffled") if controls and not blind else {}
    constant = {task: constants(task, questions, processor.config.prompt.frame) for task, questions in asked.items()}
    found = {
        name: constant[line.task][line.figure]
        for name, line in HEADLINES.items()
        if line.figure in constant.get(line.task, {})
    }
    return Judgement(trained, swapped, found)


MEASURED: tuple[Measured, ...] = ("sbir", "count", "bbox", "vqa", "describe")


def _judged(samples: Samples, task: Measured) -> list[Asked]:
    """The questions that the headlines are made of: counts of what is there, boxes with enough to choose from."""
    asked = collect(samples.records, task)
    if task == "count":
        return [one for one in asked if one.query.count > 0]
    return [one for one in asked if one.choices >= MIN_CHOICES] if task == "bbox" else asked


def _answered(
    asked: dict[Measured, list[Asked]], condition: Any, samples: Samples, model: Any, processor: Processor
) -> dict[str, Scores]:
    records = {
        task: ask(EntryPlan("", task, "", ""), under(them, condition), samples, model, processor)
        for task, them in asked.items()
    }
    return {
        name: Scores(
            [[record.row[score] for score in line.scores] for record in records[line.task]],
            [record.image for record in records[line.task]],
            line.measure,
        )
        for name, line in HEADLINES.items()
        if line.task in records
    }


def show(judgement: Judgement, title: str, console: Console) -> None:
    """A table: one line a figure."""
    table = Table(title=title, title_justify="left", caption=CONTROLS, caption_justify="left", box=None, pad_edge=False)
    for name in ("", "as trained (95 %)", "shuffled", "constant", "n"):
        table.add_column(name, justify="left" if not name else "right")
    for name, scores in judgement.trained.items():
        figure, swapped = scores.figure(), judgement.shuffled.get(name)
        constant = judgement.constant.get(name)
        table.add_row(
            name,
            str(figure),
            f"{swapped.figure().value:.3f}" if swapped else "",
            "" if constant is None else f"{constant:.3f}",
            str(figure.n),
        )
    console.print(table)


def save(judgement: Judgement, path: Path) -> None:
    """The figures as JSON: by name those of the trained model and of each control."""
    figures: dict[str, dict[str, object]] = {}
    for name, scores in judgement.trained.items():
        figures[name] = {"trained": asdict(scores.figure())}
        if name in judgement.shuffled:
            figures[name]["shuffled"] = asdict(judgement.shuffled[name].figure())
        if name in judgement.constant:
            figures[name]["constant"] = judgement.constant[name]
    write_text(path, json.dumps(figures, indent=1) + "\n")
