"""Can generated sketches stand in for drawn ones? Trained on each and on both, asked with each."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console

from data_manifests.vocabulary import vocabulary
from pipelines import instructions, sketches
from pipelines.experiments.arm import Arm, Setting, chain, stage_one, stage_two
from pipelines.experiments.exam import Exam, drawn_exam
from pipelines.experiments.experiment import Experiment
from pipelines.experiments.results import Results
from pipelines.experiments.stages import UNSEEN
from pipelines.experiments.stages import prepare as prepare_unseen
from pipelines.experiments.styles import PEOPLE, bank_folder, matched, of_bank
from sketchgen.banks import BankConfig, build_bank
from sketchgen.banks.matched import MatchedBank
from sketchgen.config import RunConfig
from sketchgen.instructions import InstructionsConfig, is_complete, run_instructions
from sketchgen.run import run as run_sketches
from sketchgen.shapeworld import CLASSES, HELD_OUT_STYLE, TRAINING_STYLES

TRAINED = ("hand", "generated", "mixed")
SCENES = 600
"""Of which sketches are generated: some 3,500 of them."""


def generated(setting: Setting, split: str) -> RunConfig:
    """Sketches that sketchgen makes of scenes of shapeworld, which no exam shows."""
    base = sketches.shapeworld()
    world = replace(base.source.world, split=split, num_scenes=SCENES if split == "train" else SCENES // 3, seed=1)
    return replace(
        base, source=replace(base.source, world=world), images_per_shard=50, out=f"{setting.out}/sketches/{split}"
    )


def training(setting: Setting, name: str) -> InstructionsConfig:
    """The scenes of `tiny` with drawings of one kind, or of both, half and half."""
    base = instructions.tiny()
    made = BankConfig("sketchvcl", root=generated(setting, "train").out, split="train")
    banks = {"hand": (base.bank, ()), "generated": (made, ()), "mixed": (base.bank, (made,))}
    bank, also = banks[name]
    return replace(base, bank=bank, also=also, out=f"{setting.out}/shards/{name}")


def prepare(setting: Setting, console: Console) -> None:
    """Sketches, then shards. Raises ValueError where some could not be made."""
    prepare_unseen(setting, console)
    for split in ("train", "val"):
        config = generated(setting, split)
        if not sketches_are_made(config) and run_sketches(config, console):
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
