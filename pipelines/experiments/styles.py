"""How far from the training styles may a drawing be? By style, by hand, and by how much of it is left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_manifests.strokes import rasterise
from data_manifests.vocabulary import vocabulary
from pipelines import instructions
from pipelines.experiments.arm import Arm, Setting, both_stages, chain
from pipelines.experiments.exam import Exam, Sketch, drawn_exam, exam_of
from pipelines.experiments.experiment import Contrast, Experiment
from pipelines.experiments.plots import BLUE, RED, points
from pipelines.experiments.results import Results
from pipelines.experiments.stages import UNSEEN, prepare
from pipelines.mixtures import MixtureConfig, data_folder
from sketchgen.banks import BankConfig, bank_settings, build_bank
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
    return [chain(setting, "model", *both_stages(setting, seed), about=about)]


def exams(setting: Setting) -> list[Exam]:
    """The same questions of unseen scenes with other drawings of the class."""
    shards = instructions.places()[UNSEEN]
    asked = partial(drawn_exam, shards=shards, number=setting.number)
    found = [asked(HAND, sketch_of=_in_styles(TRAINING_STYLES))]
    found += [asked(style, sketch_of=_in_styles((style,))) for style in (*TRAINING_STYLES, HELD_OUT_STYLE)]
    found += [asked(name, sketch_of=partial(_at_level, level=level)) for level, name in LEVELS.items()]
    found += [asked(f"{share:.0%} kept", sketch_of=partial(_changed, kept=share)) for share in KEPT]
    found += [asked(f"moved by {100 * by:g} %", sketch_of=partial(_changed, moved=by)) for by in SHAKEN]
    for title, (config, bank) in people(setting).items():
        classes = frozenset(bank.categories)
        drawings = bank_settings(config)
        found.append(asked(title, sketch_of=partial(of_bank, bank=bank), classes=classes, drawings=drawings))
        found.append(asked(f"{HAND}, classes of {title}", sketch_of=_in_styles(TRAINING_STYLES), classes=classes))
    return [exam_of("of the shards", shards, ("sbir", "bbox"), setting.number), *found]


def people(setting: Setting) -> dict[str, tuple[BankConfig, MatchedBank]]:
    """The banks of drawings by people that are there, by title."""
    roots = {name: bank_folder(setting, name) for name in PEOPLE}
    configs = {name: BankConfig(name, root=str(root), split="val") for name, root in roots.items() if root}
    return {PEOPLE[name]: (config, matched(config)) for name, config in configs.items()}


def data_of(setting: Setting) -> Path:
    """Where the user's data lie."""
    return Path(data_folder(MixtureConfig("", data=setting.data)))


def bank_folder(setting: Setting, bank: str) -> Path | None:
    """Where a bank lies among them; None where it does not."""
    root = data_of(setting) / bank
    return root if root.is_dir() else None


def plot(results: Results, picture: Any) -> None:
    """Left: by style; middle: the share of a drawing that is left; right: how far its points were moved."""
    by_style, by_share, by_move = picture.subplots(1, 3, width_ratios=(1.5, 1, 1))
    names = [HAND, *TRAINING_STYLES, HELD_OUT_STYLE, *LEVELS.values(), *PEOPLE.values()]
    kept = {share: f"{share:.0%} kept" for share in KEPT}
    moved = {0.0: "100% kept", **{by: f"moved by {100 * by:g} %" for by in SHAKEN}}
    there = [name for name in reversed(names) if results.find("model", name, "sbir")]
    for task, colour, title in (("sbir", BLUE, "SBIR, balanced accuracy"), ("bbox", RED, "BBOX, Acc@0.5")):
        points(by_style, {n: results.find("model", name, task) for n, name in enumerate(there)}, False, color=colour)
        for axes, exams_at in ((by_share, kept), (by_move, moved)):
            reached = {x: results.find("model", name, task) for x, name in exams_at.items()}
            points(axes, reached, fmt="o-", color=colour, label=title)
    by_style.set_yticks(range(len(there)), there, fontsize=9)
    by_style.set(title="style", xlim=(0, 1))
    by_share.set(title="share of the lines that is left", ylim=(0, 1))
    by_share.invert_xaxis()
    by_share.legend(frameon=False, fontsize=8, loc="lower left")
    by_move.set(title="points moved by (share of the side)", ylim=(0, 1))
    for axes in (by_style, by_share, by_move):
        axes.grid(alpha=0.3)


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
    left = share * sum(lengths)
    chosen: set[int] = set()
    for place in sorted(range(len(lines)), key=lambda n: -lengths[n]):
        if left <= 0 and chosen:
            break
        chosen.add(place)
        left -= lengths[place]
    return [line for place, line in enumerate(lines) if place in chosen]


def matched(config: BankConfig) -> MatchedBank:
    """A bank under the names of shapeworld's classes."""
    bank = build_bank(config)
    return MatchedBank(bank, vocabulary().match(list(CLASSES), bank.categories, "", config.name))


def of_bank(asked: Asked, bank: MatchedBank) -> Sketch:
    """Its drawing for a question."""
    return bank.draw(asked.query.category, asked.sample).image


CONTRASTS = (
    *(Contrast(style, HAND) for style in (*TRAINING_STYLES, HELD_OUT_STYLE)),
    *(Contrast(LEVELS[level], LEVELS[2]) for level in (0, 1)),
    *(Contrast(f"{share:.0%} kept", "100% kept") for share in KEPT[1:]),
    *(Contrast(f"moved by {100 * by:g} %", "100% kept") for by in SHAKEN),
    *(Contrast(title, f"{HAND}, classes of {title}") for title in PEOPLE.values()),
)

STYLE = Experiment(
    name="styles",
    title="Drawings unlike those of training",
    question="What happens to the answers where the drawing is of a style that training never saw, by another kind of "
    "hand, less complete, or shakier?",
    setup="One model a seed, trained on four styles of shapeworld's hand; the same questions of the same unseen "
    "scenes, each time with another drawing of the class. `kept`: the longest lines of a drawing with all its detail, "
    "up to that share of its length. `moved`: every point of its lines, by a normal law. Quick, Draw! and OpenMoji "
    "where their folders lie among your data (`--data`, or SKETCH_DATA_DIR), for the classes that they share with "
    "shapeworld.",
    arms=arms,
    prepare=prepare,
    exams=exams,
    effects=(),
    contrasts=CONTRASTS,
    plot=plot,
)
