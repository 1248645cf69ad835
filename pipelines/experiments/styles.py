"""How far from the training styles may a drawing be? By style, by hand, and by how much of it is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_manifests.strokes import rasterise
from data_manifests.vocabulary import vocabulary
from pipelines import instructions
from pipelines.experiments.arm import Arm, Setting, chain, stage_one, stage_two
from pipelines.experiments.exam import Exam, Sketch, drawn_exam
from pipelines.experiments.experiment import Experiment
from pipelines.experiments.results import Results
from pipelines.experiments.stages import UNSEEN, prepare
from sketchgen.banks import BankConfig, build_bank
from sketchgen.banks.matched import MatchedBank
from sketchgen.shapeworld import (
    CLASSES,
    HELD_OUT_STYLE,
    STYLES,
    TRAINING_STYLES,
    Dice,
    HandBank,
    draw_by_hand,
    lines_by_hand,
)
from sketchlm.evaluation.questions import Asked

HAND = "training styles"
LEVELS = {0: "outline", 1: "some detail", 2: "all detail"}
KEPT = (1.0, 0.75, 0.5, 0.35, 0.2)
"""Shares of a drawing's length that are left, longest lines first."""
SHAKEN = (0.01, 0.02, 0.04, 0.08)
"""How far its points are moved (standard deviation), as a share of its longer side."""
PEOPLE: dict[Literal["quickdraw", "openmoji"], str] = {"quickdraw": "Quick, Draw!", "openmoji": "OpenMoji"}


def arms(setting: Setting, seed: int) -> list[Arm]:
    """The usual model alone."""
    about = "stage I, then stage II, on drawings in the training styles"
    return [chain(setting, "model", stage_one(setting, seed), stage_two(setting, seed), about=about)]


def exams(setting: Setting) -> list[Exam]:
    """The same questions of unseen scenes with other drawings of the class."""
    shards = instructions.places()[UNSEEN]
    asked = partial(drawn_exam, shards=shards, number=setting.number)
    found = [asked(HAND, sketch_of=_in_styles(TRAINING_STYLES))]
    found += [asked(style, sketch_of=_in_styles((style,))) for style in (*TRAINING_STYLES, HELD_OUT_STYLE)]
    found += [asked(name, sketch_of=partial(_at_level, level=level)) for level, name in LEVELS.items()]
    found += [asked(f"{share:.0%} kept", sketch_of=partial(_changed, kept=share)) for share in KEPT]
    found += [asked(f"moved by {100 * by:g} %", sketch_of=partial(_changed, moved=by)) for by in SHAKEN]
    for bank, title in PEOPLE.items():
        root = bank_folder(setting, bank)
        if root is not None:
            drawn = _matched(bank, root)
            classes = frozenset(drawn.categories)
            found.append(asked(title, sketch_of=partial(_of_bank, bank=drawn), classes=classes))
            found.append(asked(f"{HAND}, classes of {title}", sketch_of=_in_styles(TRAINING_STYLES), classes=classes))
    return found


def bank_folder(setting: Setting, bank: str) -> Path | None:
    """Where a bank lies among the user's data; None where it does not."""
    root = Path(setting.data or os.environ.get("SKETCH_DATA_DIR") or "data") / bank
    return root if root.is_dir() else None


def plot(results: Results, picture: Any) -> None:
    """Left: by style; middle: the share of a drawing that is left; right: how far its points were moved."""
    by_style, by_share, by_move = picture.subplots(1, 3, width_ratios=(1.5, 1, 1))
    names = [HAND, *TRAINING_STYLES, HELD_OUT_STYLE, *LEVELS.values(), *PEOPLE.values()]
    kept = {share: f"{share:.0%} kept" for share in KEPT}
    moved = {0.0: "100% kept", **{by: f"moved by {100 * by:g} %" for by in SHAKEN}}
    for task, colour, title in (("sbir", "#1f6feb", "SBIR, balanced accuracy"), ("bbox", "#d1622b", "BBOX, Acc@0.5")):
        there = [name for name in names if results.find("model", name, task)]
        _points(by_style, {n: results.find("model", name, task) for n, name in enumerate(reversed(there))}, colour, "y")
        _points(by_share, {x: results.find("model", name, task) for x, name in kept.items()}, colour, "x", title)
        _points(by_move, {x: results.find("model", name, task) for x, name in moved.items()}, colour, "x")
    by_style.set_yticks(range(len(there)), list(reversed(there)), fontsize=9)
    by_style.set(title="style", xlim=(0, 1))
    by_share.set(title="share of the lines that is left", ylim=(0, 1))
    by_share.invert_xaxis()
    by_share.legend(frameon=False, fontsize=8, loc="lower left")
    by_move.set(title="points moved by (share of the side)", ylim=(0, 1))
    for axes in (by_style, by_share, by_move):
        axes.grid(alpha=0.3)


def _points(axes: Any, outcomes: dict[Any, Any], colour: str, along: str, label: str = "") -> None:
    """Means with their intervals at the keys; along: the axis that the keys lie on."""
    there = {place: one.interval for place, one in outcomes.items() if one}
    places, values = list(there), [found.value for found in there.values()]
    reach = [[found.value - found.low for found in there.values()], [found.high - found.value for found in there.values()]]
    if along == "x":
        axes.errorbar(places, values, yerr=reach, fmt="o-", color=colour, capsize=3, markersize=4, label=label)
    else:
        axes.errorbar(values, places, xerr=reach, fmt="o", color=colour, capsize=3, markersize=4)


def _dice(asked: Asked) -> Dice:
    """Alike for all changes of a drawing, so that they are of the same drawing."""
    return Dice("experiment", asked.key)


def _in_styles(styles: tuple[str, ...]) -> Callable[[Asked], Sketch]:
    bank = HandBank("val", styles)
    return lambda asked: bank.draw(asked.query.category, asked.sample).image


def _at_level(asked: Asked, level: int) -> Sketch:
    dice = _dice(asked)
    return draw_by_hand(asked.query.category, dice.among(TRAINING_STYLES), level, dice)


def _changed(asked: Asked, kept: float = 1.0, moved: float = 0.0) -> Sketch:
    """A drawing with all its detail, of which the longest lines are left, or whose points are moved."""
    dice = _dice(asked)
    style = dice.among(TRAINING_STYLES)
    lines, margin = lines_by_hand(asked.query.category, style, 2, dice)
    width = dice.between(*STYLES[style].width)
    if kept < 1:
        lines = longest(lines, kept)
    if moved:
        noise = dice.array()
        side = max(float(np.ptp(np.concatenate(lines), axis=0).max()), 1e-6)
        lines = [line + side * moved * noise.standard_normal(line.shape).astype(np.float32) for line in lines]
    return rasterise(lines, 256, width, margin)


def longest(lines: list[Any], share: float) -> list[Any]:
    """The longest lines, in their order, until they have this share of the whole length; one at least."""
    lengths = [float(np.hypot(*np.diff(line, axis=0).T).sum()) for line in lines]
    left, chosen = share * sum(lengths), set()
    for place in sorted(range(len(lines)), key=lambda n: -lengths[n]):
        if left <= 0 and chosen:
            break
        chosen.add(place)
        left -= lengths[place]
    return [line for place, line in enumerate(lines) if place in chosen]


def _matched(name: Literal["quickdraw", "openmoji"], root: Path) -> MatchedBank:
    bank = build_bank(BankConfig(name, root=str(root), split="val"))
    return MatchedBank(bank, vocabulary().match(list(CLASSES), bank.categories, "", name))


def _of_bank(asked: Asked, bank: MatchedBank) -> Sketch:
    return bank.draw(asked.query.category, asked.sample).image


CONTRASTS = (
    *((style, HAND) for style in (*TRAINING_STYLES, HELD_OUT_STYLE)),
    *((f"{share:.0%} kept", "100% kept") for share in KEPT[1:]),
    *((f"moved by {100 * by:g} %", "100% kept") for by in SHAKEN),
    *((title, f"{HAND}, classes of {title}") for title in PEOPLE.values()),
)

STYLE = Experiment(
    name="styles",
    title="Drawings unlike those of training",
    question="What happens to the answers where the drawing is of a style that training never saw, by another kind of "
    "hand, less complete, or shakier?",
    setup="One model a seed, trained on four styles of shapeworld's hand; the same questions of the same unseen scenes, "
    "each time with another drawing of the class. `kept`: the longest lines of a drawing with all its detail, up to that "
    "share of its length. `moved`: every point of its lines, by a normal law. Quick, Draw! and OpenMoji where their "
    "folders lie among your data (`--data`, or SKETCH_DATA_DIR), for the classes that they share with shapeworld.",
    arms=arms,
    prepare=prepare,
    exams=exams,
    effects=(),
    contrasts=CONTRASTS,
    plot=plot,
)
