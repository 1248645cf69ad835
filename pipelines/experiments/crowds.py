"""What goes wrong where many instances are to be named? By their number and their overlap, suppressed or not."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console

from pipelines import instructions
from pipelines.experiments.arm import Arm, Setting, chain, stage_two
from pipelines.experiments.exam import Exam, exam_of
from pipelines.experiments.experiment import Contrast, Experiment
from pipelines.experiments.plots import BLUE, GREEN, PURPLE, RED, points
from pipelines.experiments.results import Results
from sketchgen.instructions import InstructionsConfig
from sketchlm.evaluation.questions import Asked
from sketchlm.evaluation.report.signatures import CROWD
from sketchlm.metrics.box import overlaps
from sketchlm.weights import shipped

NUMBERS = (1, 2, 3, 4, 5)
"""Instances of the class."""
OVERLAPS = {"apart": (0.0, 0.0), "touching": (1e-9, 0.15), "overlapping": (0.15, 1.0)}
"""Of classes of two and more, the greatest IoU of two of their boxes: above the first (0: none at all), up to the
second."""
CROSSED = (2, 4)
"""Numbers of instances that overlap is looked at for alone: more of them overlap more."""
MANY = f"{CROWD} and more"
"""The exam that tells whether boxes are made up in crowds."""
STEPS = 150
SERIES = (
    ("recall", 0, BLUE, -0.025),
    ("duplicates", 1, RED, -0.15),
    ("hallucinated", 1, PURPLE, -0.025),
    ("loose", 1, GREEN, 0.1),
)
"""Figures of the plot: row, colour, and how far beside the others."""
FIGURES = ("precision", "recall", "duplicates", "hallucinated", "loose", "F1")


def arms(setting: Setting, seed: int) -> list[Arm]:
    """The demonstration model, trained on for some steps with another seed each time."""
    two = stage_two(setting, seed)
    crowds = replace(
        two,
        model=replace(two.model, base=str(shipped("learn"))),
        loader=replace(two.loader, shards=training(setting).out),
        optimizer=replace(two.optimizer, lr=two.optimizer.lr / 4, muon_lr=two.optimizer.muon_lr / 4),
        steps=STEPS,
    )
    return [chain(setting, "model", crowds, about=f"the model that comes with the package, {STEPS} steps further")]


def training(setting: Setting) -> InstructionsConfig:
    """Crowds to train on."""
    base = instructions.learn()
    world = replace(base.source.world, kinds=(1.0, 0.0, 0.0), num_scenes=1500)
    return replace(
        base,
        source=replace(base.source, world=world),
        tasks=replace(base.tasks, min_singles=2, max_boxes=5),
        images_per_shard=125,
        out=f"{setting.out}/shards/crowds",
    )


def unseen(setting: Setting) -> InstructionsConfig:
    """Crowds that no training holds."""
    base, world = instructions.learn_val(), training(setting).source.world
    return replace(
        base,
        source=replace(base.source, world=replace(world, split="val", num_scenes=800)),
        tasks=replace(base.tasks, names=("bbox",), min_singles=1, max_boxes=5),
        out=f"{setting.out}/shards/crowds_val",
    )


def make(setting: Setting, console: Console) -> None:
    """The shards of both, where they are missing. Raises ValueError where some could not be made."""
    instructions.ensure_run(training(setting), "crowds", console)
    instructions.ensure_run(unseen(setting), "unseen crowds", console)


def exams(setting: Setting) -> list[Exam]:
    """All boxes of a class, by how many there are and how far two of them overlap."""
    asked = partial(exam_of, shards=unseen(setting).out, tasks=("boxes",), conditions=("asked",), number=0)
    found = [exam_of("all", unseen(setting).out, ("boxes",), setting.number)]
    found += [asked(_counted(number), keep=partial(_has, least=number, most=number)) for number in NUMBERS]
    found.append(asked(MANY, keep=partial(_has, least=CROWD, most=max(NUMBERS))))
    for name, (low, high) in OVERLAPS.items():
        found.append(asked(name, keep=partial(_lies, low=low, high=high)))
        found += [asked(_crossed(n, name), keep=partial(_lies, low=low, high=high, number=n)) for n in CROSSED]
    return found


def plot(results: Results, picture: Any) -> None:
    """Recall above, what is wrong among the found below, over the number of instances and over overlap; dashed where
    duplicates are suppressed."""
    picture.set_size_inches(10, 7)
    panels = picture.subplots(2, 2, width_ratios=(1.6, 1), sharey="row", sharex="col")
    for column, names in enumerate(([_counted(n) for n in NUMBERS], list(OVERLAPS))):
        for figure, row, colour, shift in SERIES:
            axes = panels[row, column]
            for suffix, line, beside in (("", "o-", shift), (", suppressed", "s--", shift + 0.05)):
                found = {
                    n + beside: results.find("model", name, "boxes", figure + suffix) for n, name in enumerate(names)
                }
                points(axes, found, fmt=line, color=colour, label=figure + suffix)
            axes.set_xticks(range(len(names)), [name.split(" ")[0] for name in names])
            axes.grid(alpha=0.3)
    panels[0, 0].set(ylabel="of the true boxes (from a half)", ylim=(0.5, 1))
    panels[1, 0].set(ylabel="of the found boxes", ylim=(0, None), xlabel="instances of the class")
    panels[1, 1].set(xlabel="the two that overlap most")
    for row in (0, 1):
        panels[row, 1].legend(frameon=False, fontsize=8)


def _counted(number: int) -> str:
    return f"{number} instance{'s' * (number > 1)}"


def _crossed(number: int, overlap: str) -> str:
    return f"{_counted(number)}, {overlap}"


def _has(asked: Asked, least: int, most: int) -> bool:
    return least <= len(asked.query.boxes) <= most


def _lies(asked: Asked, low: float, high: float, number: int = 0) -> bool:
    """Whether the two of its boxes that overlap most do so within these bounds; never for a single one. number: of its
    boxes, 0 = any."""
    boxes = asked.query.boxes
    if len(boxes) < 2 or (number and len(boxes) != number):
        return False
    most = float(np.triu(overlaps(boxes, boxes), 1).max())
    return most <= high and (most > low or high == 0)


CROWDS = Experiment(
    name="crowds",
    title="Crowds: duplicates, false boxes and misses",
    question="Where a class has many instances, does the model name all, name some twice, or name what is not there? "
    "How does that grow with their number and overlap, and what does non-maximum suppression (IoU 0.4) mend?",
    setup="The demonstration model, trained on for some steps with three seeds, on crowds of up to five of a class; "
    "all boxes of a class asked for in unseen scenes, matched at IoU 0.5 as COCO does. Overlap: of the two boxes of "
    "the class that overlap most (touching: IoU up to 0.15). The seeds are three continuations of one model, not three "
    "models; it is the same whatever the recipe, which decides optimizer and batch.",
    arms=arms,
    prepare=make,
    exams=exams,
    effects=(),
    contrasts=tuple(
        Contrast(exam, figure=f"{figure}, suppressed", minus=figure, words="without suppression")
        for exam in ("all", MANY, *(_counted(n) for n in NUMBERS[1:]), *OVERLAPS)
        for figure in FIGURES[1:]  # precision says no more than the three kinds of wrong boxes
    ),
    figures={"boxes": tuple(name + suffix for name in FIGURES for suffix in ("", ", suppressed"))},
    plot=plot,
)
