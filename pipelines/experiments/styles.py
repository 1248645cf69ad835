"""How far from the training styles may a drawing be? By style, by hand, and by how much of it is left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from data_manifests.strokes import rasterise
from pipelines import instructions
from pipelines.experiments.arm import Arm, Setting, both_stages, chain
from pipelines.experiments.distance import distance_table, distances, draw_losses, losses, ranks, ranks_told
from pipelines.experiments.drawings import (
    PEOPLE,
    folders_of,
    hand,
    of_bank,
    of_classes,
    people_exams,
    people_told,
)
from pipelines.experiments.exam import Exam, drawn_exam, exam_of
from pipelines.experiments.experiment import Contrast, Experiment
from pipelines.experiments.plots import BLUE, RED, points
from pipelines.experiments.results import Results
from pipelines.experiments.stages import UNSEEN, prepare
from pipelines.gaps import Sketch
from sketchgen.shapeworld import (
    HELD_OUT_STYLE,
    STYLES,
    TRAINING_STYLES,
    Dice,
    draw_by_hand,
    lines_by_hand,
)
from sketchlm.evaluation.asking import EntryPlan, questions_of_plan
from sketchlm.evaluation.questions import Asked, Samples

HAND = "training styles"
HAND_AGAIN = "training styles, drawn again"
"""Not asked: what distances are measured from."""
LEVELS = {0: "outline", 1: "some detail", 2: "all detail"}
KEPT = (0.75, 0.5, 0.35, 0.2)
"""Shares of a drawing's length that are left, longest lines first."""
SHAKEN = (0.01, 0.02, 0.04, 0.08)
"""How far its points are moved (standard deviation), as a share of its longer side."""


def arms(setting: Setting, seed: int) -> list[Arm]:
    """The usual model alone."""
    about = "stage I, then stage II, on drawings in the training styles"
    return [chain(setting, "model", *both_stages(setting, seed), about=about)]


def exams(setting: Setting) -> list[Exam]:
    """The same questions of unseen scenes with other drawings of the class."""
    shards = instructions.places()[UNSEEN]
    asked = partial(drawn_exam, shards=shards, number=setting.number)
    found = [asked(HAND, sketch_of=_in_styles(TRAINING_STYLES), drawings=TRAINING_STYLES)]
    found += [asked(style, sketch_of=_in_styles((style,))) for style in (*TRAINING_STYLES, HELD_OUT_STYLE)]
    found += [asked(name, sketch_of=partial(_at_level, level=level)) for level, name in LEVELS.items()]
    found += [asked(_kept_name(share), sketch_of=partial(_changed, kept=share)) for share in KEPT]
    found += [asked(_moved_name(by), sketch_of=partial(_changed, moved=by)) for by in SHAKEN]
    found += people_exams(setting, shards, {HAND: (hand(), "")})
    return [exam_of("of the shards", shards, ("sbir", "bbox"), setting.number), *found]


def measures(setting: Setting, results: Results) -> dict[str, Any]:
    """How far the drawings of each exam are from the training styles, beside what each seed loses there against being
    asked in these; the share of the lines that is left, of their length, by exam; the banks that were asked with."""
    there = exams(setting)
    again = drawn_exam(HAND_AGAIN, instructions.places()[UNSEEN], partial(of_bank, bank=hand(), again="again"))
    drawn = {one.name: one.drawings() for one in there if one.drawings and not one.name.startswith(f"{HAND},")}
    apart = distances(again.shown(), list(drawn.values()))
    own: dict[str, str] = {name: of_classes(HAND, name) for name in PEOPLE}
    rows = [
        {
            "exam": name,
            "drawings": len(drawn[name].images),
            "classes": len(set(drawn[name].categories)),
            **far,
            **losses(results, "model", name, own.get(name, HAND)),
        }
        for name, far in zip(drawn, apart, strict=True)
    ]
    shares = {_kept_name(share): mean_left(setting, share) for share in KEPT}
    return {"distances": rows, "ranks": ranks(rows[1:]), "shares": shares, "folders": folders_of(setting)}


def told(results: Results) -> str:
    """The table of distances and losses, their correlation, and what the drawings of people were."""
    rows, kept = results.extra["distances"], results.extra["shares"]
    counts = {row["exam"]: [row["drawings"], row["classes"]] for row in rows}
    lines = [
        "## Distance and loss",
        f"Lost: against the same questions asked with drawings in the training styles (`{HAND}`), of the same classes. "
        "Distances are from other drawings in these styles.",
        distance_table(("asked with", "drawings"), rows, ("exam", "drawings")),
        ranks_told(results.extra["ranks"]),
        "Whole lines are left out, so more is left than is asked for: "
        + ", ".join(f"`{name}` keeps {share:.0%} of the length" for name, share in kept.items())
        + ".",
    ]
    return "\n\n".join([*lines, *people_told(results.extra["folders"], counts)])


def plot(results: Results, picture: Any) -> None:
    """By style; lost over the distance; over the share of a drawing that is left; over how far its points moved."""
    (by_style, by_distance), (by_share, by_move) = picture.subplots(2, 2)
    picture.set_size_inches(10, 8.5)
    names = [HAND, *TRAINING_STYLES, HELD_OUT_STYLE, *LEVELS.values(), *PEOPLE]
    kept = {1.0: LEVELS[2], **{results.extra["shares"][_kept_name(share)]: _kept_name(share) for share in KEPT}}
    moved = {0.0: LEVELS[2], **{100 * by: _moved_name(by) for by in SHAKEN}}
    there = [name for name in reversed(names) if results.find("model", name, "sbir")]
    for task, colour, title in (("sbir", BLUE, "SBIR, balanced accuracy"), ("bbox", RED, "BBOX, Acc@0.5")):
        points(by_style, {n: results.find("model", name, task) for n, name in enumerate(there)}, False, color=colour)
        for axes, exams_at in ((by_share, kept), (by_move, moved)):
            reached = {x: results.find("model", name, task) for x, name in exams_at.items()}
            points(axes, reached, fmt="o-", color=colour, label=title)
    by_style.set_yticks(range(len(there)), there, fontsize=9)
    by_style.set(title="style", xlim=(0, 1), xlabel="blue: SBIR, balanced accuracy; orange: BBOX, Acc@0.5")
    by_share.set(title="lines left out, the shortest first", xlabel="share of their length that is left", ylim=(0, 1))
    by_share.invert_xaxis()
    by_share.legend(frameon=False, fontsize=8, loc="lower left")
    by_move.set(title="points moved", xlabel="standard deviation, % of the drawing's side", ylim=(0, 1))
    draw_losses(
        by_distance, [(row["exam"], row, BLUE) for row in results.extra["distances"]], "lost, over the distance"
    )
    for axes in (by_style, by_share, by_move, by_distance):
        axes.grid(alpha=0.3)


def _kept_name(share: float) -> str:
    return f"{share:.0%} kept"


def _moved_name(by: float) -> str:
    return f"moved by {100 * by:g} %"


def _dice(asked: Asked) -> Dice:
    """Alike for all changes of a drawing, so that they are of the same drawing."""
    return Dice("experiment", asked.key)


def _in_styles(styles: tuple[str, ...]) -> Callable[[Asked], Sketch]:
    return partial(of_bank, bank=hand(styles))


def _at_level(asked: Asked, level: int) -> Sketch:
    dice = _dice(asked)
    return draw_by_hand(asked.query.category, dice.among(TRAINING_STYLES), level, dice)


def _changed(asked: Asked, kept: float = 1.0, moved: float = 0.0) -> Sketch:
    """A drawing with all its detail, of which the longest lines are left, or whose points are moved."""
    dice = _dice(asked)
    style, lines, margin = _lines(asked, dice)
    width = dice.between(*STYLES[style].width)
    if kept < 1:
        lines = longest(lines, kept)
    if moved:
        noise = dice.array()
        side = max(float(np.ptp(np.concatenate(lines), axis=0).max()), 1e-6)
        lines = [line + side * moved * noise.standard_normal(line.shape).astype(np.float32) for line in lines]
    return rasterise(lines, 256, width, margin)


def _lines(asked: Asked, dice: Dice) -> tuple[str, list[Any], int]:
    """A style, and the lines of a drawing in it with all its detail, and their margin."""
    style = dice.among(TRAINING_STYLES)
    return style, *lines_by_hand(asked.query.category, style, 2, dice)


def mean_left(setting: Setting, share: float) -> float:
    """The share of a drawing's length that `longest` leaves of this share, on average over the questions."""
    samples = Samples(instructions.places()[UNSEEN])
    asked = questions_of_plan(EntryPlan("", "sbir", "", "", "asked", setting.number), samples)
    left = []
    for one in asked:
        _, lines, _ = _lines(one, _dice(one))
        left.append(sum(map(_length, longest(lines, share))) / max(sum(map(_length, lines)), 1e-9))
    return float(np.mean(left))


def _length(line: Any) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def longest(lines: list[Any], share: float) -> list[Any]:
    """The longest lines, in their order, until they have this share of the whole length; one at least."""
    lengths = [_length(line) for line in lines]
    left = share * sum(lengths)
    chosen: set[int] = set()
    for place in sorted(range(len(lines)), key=lambda n: -lengths[n]):
        if left <= 0 and chosen:
            break
        chosen.add(place)
        left -= lengths[place]
    return [line for place, line in enumerate(lines) if place in chosen]


CONTRASTS = (
    *(Contrast(style, HAND) for style in (*TRAINING_STYLES, HELD_OUT_STYLE)),
    *(Contrast(LEVELS[level], LEVELS[2]) for level in (0, 1)),
    *(Contrast(_kept_name(share), LEVELS[2]) for share in KEPT),
    *(Contrast(_moved_name(by), LEVELS[2]) for by in SHAKEN),
    *(Contrast(name, of_classes(HAND, name)) for name in PEOPLE),
)

STYLE = Experiment(
    name="styles",
    title="Drawings unlike those of training",
    question="What happens to the answers where the drawing is of a style that training never saw, by another kind of "
    "hand, less complete, or shakier?",
    setup="One model a seed, trained on four styles of shapeworld's hand; the same questions of the same unseen "
    "scenes, each time with another drawing of the class. `kept`: the longest lines of a drawing with all its detail, "
    "up to that share of its length. `moved`: every point of its lines, by a normal law. Drawings of other sources "
    "(`quickdraw`: of people, or of what learned from them; `openmoji`: icons that people designed) where their "
    "folders lie among your data (`--data`, or SKETCH_DATA_DIR), for the classes that they share with shapeworld. "
    "Distances are those of the tower that comes with the package.",
    arms=arms,
    prepare=prepare,
    exams=exams,
    effects=(),
    contrasts=CONTRASTS,
    plot=plot,
    extra=measures,
    told=told,
)
