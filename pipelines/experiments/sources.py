"""Can generated sketches stand in for drawn ones? Trained on each and on both, asked with each."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from scipy import stats

from pipelines import instructions, sketches
from pipelines.experiments.arm import Arm, Setting, chain, stage_one, stage_two
from pipelines.experiments.exam import Exam, drawn_exam
from pipelines.experiments.experiment import Experiment
from pipelines.experiments.plots import BLUE, GREEN, RED, bars
from pipelines.experiments.results import Results
from pipelines.experiments.stages import UNSEEN
from pipelines.experiments.stages import prepare as prepare_unseen
from pipelines.experiments.styles import PEOPLE, bank_folder, data_of, matched, of_bank
from pipelines.gaps import Measure, run_gap
from sketchgen.banks import BankConfig
from sketchgen.banks.matched import MatchedBank
from sketchgen.config import RunConfig
from sketchgen.instructions import InstructionsConfig, is_complete, run_instructions
from sketchgen.run import run as run_sketches
from sketchgen.shapeworld import HELD_OUT_STYLE, TRAINING_STYLES

TRAINED = ("hand", "generated", "mixed")
SCENES = 600
"""Of which sketches are generated: some 3,500 of them."""


def generated(setting: Setting, split: Literal["train", "val"]) -> RunConfig:
    """Sketches that sketchgen makes of scenes of shapeworld, which no exam shows."""
    base = sketches.shapeworld()
    world = replace(base.source.world, split=split, num_scenes=SCENES if split == "train" else SCENES // 3, seed=1)
    return replace(
        base, source=replace(base.source, world=world), images_per_shard=50, out=f"{setting.out}/sketches/{split}"
    )


def training(setting: Setting, name: str) -> InstructionsConfig:
    """The scenes of `tiny` with drawings of one kind, or of both, half and half."""
    base = instructions.tiny()
    if name == "hand":
        return base
    made = BankConfig("sketchvcl", root=generated(setting, "train").out, split="train")
    bank, also = (made, ()) if name == "generated" else (base.bank, (made,))
    return replace(base, bank=bank, also=also, out=f"{setting.out}/shards/{name}")


def prepare(setting: Setting, console: Console) -> None:
    """Sketches, then shards. Raises ValueError where some could not be made."""
    prepare_unseen(setting, console)
    splits: tuple[Literal["train", "val"], ...] = ("train", "val")
    for split in splits:
        config = generated(setting, split)
        if run_sketches(config, console):  # quick where all are there
            raise ValueError(f"{config.out} could not be made whole: run the same command again")
    for name in TRAINED:
        shards = training(setting, name)
        if not is_complete(shards) and run_instructions(shards, console):
            raise ValueError(f"{shards.out} could not be made whole: run the same command again")


def arms(setting: Setting, seed: int) -> list[Arm]:
    """One for each kind of drawings."""
    abouts = {"hand": "drawn by hand", "generated": "generated of scenes", "mixed": "half of each"}
    found = []
    for name, about in abouts.items():
        stages = [
            replace(stage, loader=replace(stage.loader, shards=training(setting, name).out))
            for stage in (stage_one(setting, seed), stage_two(setting, seed))
        ]
        found.append(chain(setting, name, *stages, about=f"trained on sketches {about}"))
    return found


def exams(setting: Setting) -> list[Exam]:
    """The same questions of unseen scenes, with drawings of each kind."""
    asked = partial(drawn_exam, shards=instructions.places()[UNSEEN], number=setting.number)
    found = [asked(name, sketch_of=partial(of_bank, bank=bank)) for name, bank in banks(setting).items() if bank]
    return found + [
        asked(title, sketch_of=partial(of_bank, bank=drawn), classes=frozenset(drawn.categories))
        for name, title in PEOPLE.items()
        if (root := bank_folder(setting, name)) and (drawn := matched(BankConfig(name, root=str(root), split="val")))
    ]


def banks(setting: Setting) -> dict[str, MatchedBank]:
    """Of the kinds that all classes are drawn in."""
    made = BankConfig("sketchvcl", root=generated(setting, "val").out, split="val")
    hands = {"hand": TRAINING_STYLES, "brush": (HELD_OUT_STYLE,)}
    found = {name: matched(BankConfig("shapeworld-hand", split="val", styles=styles)) for name, styles in hands.items()}
    return {"hand": found["hand"], "generated": matched(made), "brush": found["brush"]}


def places(setting: Setting) -> dict[str, str]:
    """The kinds of drawings as `sketchgen gap` names them, by exam."""
    found = {
        "hand": "shapeworld-hand",
        "generated": generated(setting, "val").out,
        "brush": f"shapeworld-{HELD_OUT_STYLE}",
    }
    return found | {title: name for name, title in PEOPLE.items() if bank_folder(setting, name)}


def gaps(setting: Setting, results: Results) -> dict[str, Any]:
    """For each kind that is trained on and each that is asked with: how far they are apart, in shape and in the eyes
    of the demonstration model, beside the accuracy that is lost against being asked with the kind of training."""
    found = []
    kinds = places(setting)
    for mine in ("hand", "generated"):
        for exam, place in kinds.items():
            apart = {"shape": 0.0, "tower": 0.0} if exam == mine else _gap(setting, kinds[mine], place)
            lost = {task: _lost(results, mine, exam, task) for task in ("sbir", "bbox")}
            found.append({"trained": mine, "asked": exam, **apart, **lost})
    ranks = {f"{how} {task}": _ranks(found, how, task) for how in ("shape", "tower") for task in ("sbir", "bbox")}
    return {"gaps": found, "ranks": ranks}


def _gap(setting: Setting, a: str, b: str) -> dict[str, float]:
    path = Path(setting.out) / "gaps" / f"{Path(a).name}-{Path(b).name}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        run_gap(Measure(a, b, data=str(data_of(setting)), json=str(path)), Console(quiet=True))
    apart = json.loads(path.read_text())["apart"]
    return {"shape": apart["shape"]["value"], "tower": apart["tower"]["value"]}


def _lost(results: Results, arm: str, exam: str, task: str) -> float:
    own, other = results.find(arm, arm, task), results.find(arm, exam, task)
    return own.mean - other.mean if own and other else 0.0


def _ranks(found: list[dict[str, Any]], distance: str, task: str) -> float:
    """Spearman's rank correlation of a distance and what is lost."""
    return float(stats.spearmanr([one[distance] for one in found], [one[task] for one in found]).statistic)


def plot(results: Results, picture: Any) -> None:
    """Left: what each arm reaches with each kind; right: what is lost over the distance in the tower."""
    left, right = picture.subplots(1, 2, width_ratios=(1.5, 1))
    exams_there = list(dict.fromkeys(one.exam for one in results.outcomes))
    colours = {"hand": BLUE, "generated": RED, "mixed": GREEN}
    for shift, arm in enumerate(TRAINED):
        found = {n + 0.27 * (shift - 1): results.find(arm, exam, "sbir") for n, exam in enumerate(exams_there)}
        bars(left, found, 0.25, colours[arm], arm)
    left.set_xticks(range(len(exams_there)), exams_there)
    left.set(title="SBIR by what is asked with (bars: trained on)", ylabel="balanced accuracy", ylim=(0.4, 1))
    left.legend(frameon=False, fontsize=8, ncols=3)
    for one in results.extra["gaps"]:
        right.plot(one["tower"], one["sbir"], "o", color=colours[one["trained"]])
        right.annotate(f" {one['asked']}", (one["tower"], one["sbir"]), fontsize=8)
    right.set(title="lost, over the distance", xlabel="MMD² in the tower, from what was trained on", ylabel="SBIR lost")
    for axes in (left, right):
        axes.grid(alpha=0.3)


SOURCES = Experiment(
    name="sources",
    title="Generated sketches against drawn ones",
    question="Does a model that learned from sketches which sketchgen generated of scenes understand drawings by "
    "hand, and the other way round? Does the distance of `sketchgen gap` tell how much is lost?",
    setup="The same scenes and questions; the sketches are drawn by shapeworld's hand in four styles, or generated "
    "(exact masks, Pix2Pix strokes and edges) of other scenes, or half of each. Asked with unseen drawings of either "
    "kind, in the style that no hand of training has (brush), and with those of people (or of what learned from "
    "people) where their folders lie among your data, for the classes that they share with shapeworld.",
    arms=arms,
    prepare=prepare,
    exams=exams,
    effects=(("generated", "hand"), ("mixed", "hand"), ("mixed", "generated")),
    plot=plot,
    extra=gaps,
)
