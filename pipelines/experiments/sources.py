"""Can generated sketches stand in for drawn ones? Trained on each and on both, asked with each."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from pipelines import instructions, sketches
from pipelines.experiments.arm import Arm, Setting, both_stages, chain, scenes, shards_of
from pipelines.experiments.distance import distance_table, distances, draw_losses, losses, ranks, ranks_told
from pipelines.experiments.drawings import (
    PEOPLE,
    folders_of,
    hand,
    of_bank,
    of_classes,
    people_exams,
    people_told,
    whole_bank,
)
from pipelines.experiments.exam import Exam, drawn_exam, exam_of
from pipelines.experiments.experiment import Contrast, Experiment
from pipelines.experiments.plots import BLUE, GREEN, RED, bars, beside
from pipelines.experiments.results import Results
from pipelines.experiments.stages import UNSEEN
from pipelines.experiments.stages import prepare as prepare_unseen
from sketchgen.bank import SketchBank
from sketchgen.banks import BankConfig
from sketchgen.config import RunConfig
from sketchgen.instructions import InstructionsConfig
from sketchgen.run import run as run_sketches
from sketchgen.shapeworld import CLASSES, HELD_OUT_STYLE, TRAINING_STYLES

KINDS = ("hand", "generated")
TRAINED = (*KINDS, "mixed")
SCENES = 2400
"""Of which sketches are generated to train on: some 14,000, as many as a training of `tiny` asks with. The hand draws
anew for each question."""
UNSEEN_SCENES = 200
"""Of which those are generated that exams ask with."""


def generated(setting: Setting, split: Literal["train", "val"]) -> RunConfig:
    """Sketches that sketchgen makes of scenes of shapeworld, which no exam shows."""
    base = sketches.shapeworld()
    world = replace(base.source.world, split=split, num_scenes=SCENES if split == "train" else UNSEEN_SCENES, seed=1)
    return replace(
        base, source=replace(base.source, world=world), images_per_shard=50, out=f"{setting.out}/sketches/{split}"
    )


def training(setting: Setting, name: str) -> InstructionsConfig:
    """The scenes of the recipe with drawings of one kind, or of both, half and half."""
    base = scenes(setting)
    if name == "hand":
        return base
    made = BankConfig("sketchvcl", root=generated(setting, "train").out, split="train")
    bank, also = (made, ()) if name == "generated" else (base.bank, (made,))
    return replace(base, bank=bank, also=also, out=shards_of(setting, name))


def prepare(setting: Setting, console: Console) -> None:
    """Sketches, then shards. Raises ValueError where some could not be made."""
    prepare_unseen(setting, console)
    splits: tuple[Literal["train", "val"], ...] = ("train", "val")
    for split in splits:
        config = generated(setting, split)
        if run_sketches(config, console):  # quick where all are there
            raise ValueError(f"{config.out} could not be made whole: run the same command again")
    for name in TRAINED:
        instructions.ensure_run(training(setting, name), name, console)
    bank, _ = banks(setting)["generated"]
    if missing := set(CLASSES) - set(bank.categories):
        raise ValueError(f"no sketch of {', '.join(sorted(missing))} was generated in {generated(setting, 'val').out}")


def arms(setting: Setting, seed: int) -> list[Arm]:
    """One for each kind of drawings."""
    abouts = {"hand": "drawn by hand", "generated": "generated of scenes", "mixed": "half of each"}
    found = []
    for name, about in abouts.items():
        stages = [
            replace(stage, loader=replace(stage.loader, shards=training(setting, name).out))
            for stage in both_stages(setting, seed)
        ]
        found.append(chain(setting, name, *stages, about=f"trained on sketches {about}"))
    return found


def exams(setting: Setting) -> list[Exam]:
    """The same questions of unseen scenes: with the shards' own drawings and the controls, then with drawings of each
    kind; with those of people also the hand's, of the classes that they have."""
    shards = instructions.places()[UNSEEN]
    found = [exam_of("of the shards", shards, ("sbir", "bbox"), setting.number)]
    asked = partial(drawn_exam, shards=shards, number=setting.number)
    kinds = banks(setting)
    for name, (bank, drawings) in kinds.items():
        found.append(asked(name, sketch_of=partial(of_bank, bank=bank), drawings=drawings))
    return found + people_exams(setting, shards, {name: kinds[name] for name in KINDS})


def banks(setting: Setting) -> dict[str, tuple[SketchBank, Any]]:
    """Of the kinds that all classes are drawn in, and what identifies their drawings. Generated ones are of scenes that
    serve nothing else, so all of them."""
    return {
        "hand": (hand(), TRAINING_STYLES),
        "generated": whole_bank("sketchvcl", Path(generated(setting, "val").out)),
        "brush": (hand((HELD_OUT_STYLE,)), (HELD_OUT_STYLE,)),
    }


def gaps(setting: Setting, results: Results) -> dict[str, Any]:
    """For each kind that is trained on and each other that is asked with: how far they are apart, in shape and in the
    eyes of the demonstration model, beside what each seed loses against being asked with the kind of training (of the
    same classes)."""
    there = {one.name: one for one in exams(setting)}
    names = [name for name in ("hand", "generated", "brush", *PEOPLE) if name in there]
    drawn = {name: there[name].shown() for name in names}
    rows: list[dict[str, Any]] = []
    for mine in KINDS:
        others = [name for name in names if name != mine]
        for name, apart in zip(others, distances(drawn[mine], [drawn[name] for name in others]), strict=True):
            own = of_classes(mine, name) if name in PEOPLE else mine
            rows.append({"trained": mine, "asked": name, **apart, **losses(results, mine, name, own)})
    counts = {name: [len(one.images), len(set(one.categories))] for name, one in drawn.items()}
    return {"gaps": rows, "ranks": ranks(rows), "folders": folders_of(setting), "drawings": counts}


def told(results: Results) -> str:
    """The table of distances and losses, and their correlation."""
    rows = results.extra["gaps"]
    lines = [
        "## Distance and loss",
        distance_table(("trained on", "asked with"), rows, ("trained", "asked")),
        ranks_told(results.extra["ranks"]),
        "`sketchgen gap A B` measures the same of two folders or banks, with intervals and a page to look at.",
    ]
    return "\n\n".join([*lines, *people_told(results.extra["folders"], results.extra["drawings"])])


def plot(results: Results, picture: Any) -> None:
    """Left: what each arm reaches with each kind; right: what is lost over the distance in the tower."""
    left, right = picture.subplots(1, 2, width_ratios=(1.5, 1))
    exams_there = [name for name in ("hand", "generated", "brush", *PEOPLE) if results.find("hand", name, "sbir")]
    colours = {"hand": BLUE, "generated": RED, "mixed": GREEN}
    for series, arm in enumerate(TRAINED):
        found = {beside(n, series): results.find(arm, exam, "sbir") for n, exam in enumerate(exams_there)}
        bars(left, found, colours[arm], arm)
    left.set_xticks(range(len(exams_there)), exams_there)
    left.set(title="SBIR by what is asked with (bars: trained on)", ylabel="balanced accuracy", ylim=(0, 1.12))
    left.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    left.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
    title = "lost, over the distance\n(blue: by hand, orange: by generated)"
    draw_losses(right, [(one["asked"], one, colours[one["trained"]]) for one in results.extra["gaps"]], title)
    for axes in (left, right):
        axes.grid(alpha=0.3)


SOURCES = Experiment(
    name="sources",
    title="Generated sketches against drawn ones",
    question="Does a model that learned from sketches which sketchgen generated of scenes understand drawings by "
    "hand, and the other way round? Does the distance of `sketchgen gap` tell how much is lost?",
    setup="The tower is the same for all, frozen, and has learned from drawings by shapeworld's hand: what differs is "
    "what the connector and the language model learned from. The same scenes and questions; the sketches are drawn by "
    "shapeworld's hand in four styles, or generated (exact masks, Pix2Pix strokes and edges) of other scenes, or half "
    "of each. Asked with unseen drawings of either kind, in the style that no hand of training has (brush), and with "
    "those of people (or of what learned from people) where their folders lie among your data, for the classes that "
    "they share with shapeworld.",
    arms=arms,
    prepare=prepare,
    exams=exams,
    effects=(("generated", "hand"), ("mixed", "hand"), ("mixed", "generated")),
    contrasts=(
        Contrast("generated", "hand"),
        Contrast("brush", "hand"),
        *(Contrast(people, of_classes(kind, people)) for people in PEOPLE for kind in KINDS),
    ),
    plot=plot,
    extra=gaps,
    told=told,
)
