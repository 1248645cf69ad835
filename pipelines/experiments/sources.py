"""Can generated sketches stand in for drawn ones? Trained on each and on both, asked with each."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from scipy import stats

from pipelines import instructions, sketches
from pipelines.experiments.arm import Arm, Setting, both_stages, chain
from pipelines.experiments.exam import Exam, drawn_exam, exam_of
from pipelines.experiments.experiment import Experiment
from pipelines.experiments.plots import BLUE, GREEN, RED, bars, markdown
from pipelines.experiments.results import Results
from pipelines.experiments.stages import UNSEEN
from pipelines.experiments.stages import prepare as prepare_unseen
from pipelines.experiments.styles import PEOPLE, bank_folder, data_of, matched, of_bank, people
from pipelines.gaps import Measure, run_gap
from sketchgen.banks import BankConfig, bank_settings
from sketchgen.banks.matched import MatchedBank
from sketchgen.config import RunConfig
from sketchgen.instructions import InstructionsConfig
from sketchgen.run import run as run_sketches
from sketchgen.shapeworld import HELD_OUT_STYLE, TRAINING_STYLES

KINDS = ("hand", "generated")
TRAINED = (*KINDS, "mixed")
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
        instructions.ensure_run(training(setting, name), name, console)


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
    for name, (config, bank) in banks(setting).items():
        found.append(asked(name, sketch_of=partial(of_bank, bank=bank), drawings=bank_settings(config)))
    for title, (config, bank) in people(setting).items():
        classes = frozenset(bank.categories)
        drawings = bank_settings(config)
        found.append(asked(title, sketch_of=partial(of_bank, bank=bank), classes=classes, drawings=drawings))
        for name, (_, kind) in banks(setting).items():
            if name in KINDS:
                found.append(asked(of_classes(name, title), sketch_of=partial(of_bank, bank=kind), classes=classes))
    return found


def of_classes(kind: str, title: str) -> str:
    """The exam with drawings of a kind, of the classes alone that another source has."""
    return f"{kind}, classes of {title}"


def banks(setting: Setting) -> dict[str, tuple[BankConfig, MatchedBank]]:
    """Of the kinds that all classes are drawn in."""
    configs = {
        "hand": BankConfig("shapeworld-hand", split="val", styles=TRAINING_STYLES),
        "generated": BankConfig("sketchvcl", root=generated(setting, "val").out, split="val"),
        "brush": BankConfig("shapeworld-hand", split="val", styles=(HELD_OUT_STYLE,)),
    }
    return {name: (config, matched(config)) for name, config in configs.items()}


def places(setting: Setting) -> dict[str, str]:
    """The kinds of drawings as `sketchgen gap` names them, by exam."""
    found = {
        "hand": "shapeworld-hand",
        "generated": generated(setting, "val").out,
        "brush": f"shapeworld-{HELD_OUT_STYLE}",
    }
    return found | {title: name for name, title in PEOPLE.items() if bank_folder(setting, name)}


def gaps(setting: Setting, results: Results) -> dict[str, Any]:
    """For each kind that is trained on and each other that is asked with: how far they are apart, in shape and in the
    eyes of the demonstration model, beside what each seed loses against being asked with the kind of training (of the
    same classes); and what could not be measured, with the reason."""
    found, left_out = [], []
    kinds = places(setting)
    for mine in KINDS:
        for exam, place in kinds.items():
            if exam == mine:
                continue
            try:
                apart = _gap(setting, kinds[mine], place)
            except ValueError as error:
                left_out.append(f"{mine} and {exam}: {error}")
                continue
            lost = {task: _lost(results, mine, exam, task) for task in ("sbir", "bbox")}
            found.append({"trained": mine, "asked": exam, **apart, **lost})
    ranks = {f"{how} {task}": _ranks(found, how, task) for how in ("shape", "tower") for task in ("sbir", "bbox")}
    return {"gaps": found, "ranks": ranks, "left_out": left_out}


def _gap(setting: Setting, a: str, b: str) -> dict[str, float]:
    """As `sketchgen gap` measures it. Raises ValueError where it cannot."""
    path = Path(setting.out) / "gaps.json"
    run_gap(Measure(a, b, data=str(data_of(setting)), json=str(path)), Console(quiet=True))
    apart = json.loads(path.read_text())["apart"]
    return {"shape": apart["shape"]["value"], "tower": apart["tower"]["value"]}


def _lost(results: Results, arm: str, exam: str, task: str) -> list[float]:
    """One a seed; none where it was not asked."""
    own = results.find(arm, of_classes(arm, exam), task) or results.find(arm, arm, task)
    other = results.find(arm, exam, task)
    return [a - b for a, b in zip(own.values, other.values, strict=True)] if own and other else []


def _ranks(found: list[dict[str, Any]], distance: str, task: str) -> float | None:
    """Spearman's rank correlation of a distance and the mean of what is lost; None for fewer than four pairs."""
    pairs = [(one[distance], np.mean(one[task])) for one in found if one[task]]
    return float(stats.spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 3 else None


def told(results: Results) -> str:
    """The table of distances and losses, and their correlation."""
    rows = [["trained on", "asked with", "apart in shape", "apart in the tower (MMD²)", "SBIR lost", "BBOX lost"]]
    for one in results.extra["gaps"]:
        lost = [f"{np.mean(one[task]):+.3f}" if one[task] else "" for task in ("sbir", "bbox")]
        rows.append([one["trained"], one["asked"], f"{one['shape']:.2f}", f"{one['tower']:.3f}", *lost])
    number = len(results.extra["gaps"])
    ranks = ", ".join(f"{name} {value:+.2f}" for name, value in results.extra["ranks"].items() if value is not None)
    lines = ["## Distance and loss", markdown(rows)]
    lines.append(
        f"Rank correlation (Spearman) over {number} pairs: {ranks or 'not worked out'}. With so few pairs one between "
        f"-0.8 and +0.8 may be chance."
    )
    lines += [f"Left out: {reason}." for reason in results.extra["left_out"]]
    return "\n\n".join(lines)


def plot(results: Results, picture: Any) -> None:
    """Left: what each arm reaches with each kind; right: what is lost over the distance in the tower."""
    left, right = picture.subplots(1, 2, width_ratios=(1.5, 1))
    exams_there = [
        name for name in ("hand", "generated", "brush", *PEOPLE.values()) if results.find("hand", name, "sbir")
    ]
    colours = {"hand": BLUE, "generated": RED, "mixed": GREEN}
    for shift, arm in enumerate(TRAINED):
        found = {n + 0.27 * (shift - 1): results.find(arm, exam, "sbir") for n, exam in enumerate(exams_there)}
        bars(left, found, 0.25, colours[arm], arm)
    left.set_xticks(range(len(exams_there)), exams_there)
    left.set(title="SBIR by what is asked with (bars: trained on)", ylabel="balanced accuracy", ylim=(0, 1))
    left.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    left.legend(frameon=False, fontsize=8, ncols=3)
    for one in results.extra["gaps"]:
        if one["sbir"]:
            place = one["tower"], float(np.mean(one["sbir"]))
            right.plot(*place, "o", color=colours[one["trained"]])
            right.annotate(f" {one['asked']}", place, fontsize=8)
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
    told=told,
)
