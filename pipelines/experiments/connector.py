"""How much of the connector has to be trained? (Paper: frozen loses 10 points of detection.)"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pipelines.experiments.arm import Arm, Setting, blind, both_stages, chain
from pipelines.experiments.experiment import Experiment
from pipelines.experiments.plots import forest
from pipelines.experiments.stages import exams, prepare

ABOUT = {
    "full": "trained in both stages",
    "lora": "adapters of rank 64 in both stages",
    "frozen": "as it was before stage I",
}


HOW: tuple[Literal["full", "lora", "frozen"], ...] = ("full", "lora", "frozen")


def arms(setting: Setting, seed: int) -> list[Arm]:
    """One for each way."""
    return [*(_arm(setting, seed, how) for how in HOW), blind(setting, seed)]


def _arm(setting: Setting, seed: int, how: Literal["full", "lora", "frozen"]) -> Arm:
    stages = [replace(stage, model=replace(stage.model, connector=how)) for stage in both_stages(setting, seed)]
    return chain(setting, how, *stages, about=ABOUT[how])


CONNECTOR = Experiment(
    name="connector",
    title="The connector: frozen, LoRA, full",
    question="How much does the connector have to learn, where the tower was trained beforehand and is frozen, as in "
    "the paper? There a frozen connector costs about 10 points of detection.",
    setup="Tower, data, steps and language model alike. Before stage I the connector is a random map: nobody trained "
    "one beforehand, as LLaVA's was; and the language model is trained in full, where the paper's is frozen but for "
    "LoRA.",
    arms=arms,
    prepare=prepare,
    exams=exams,
    effects=(("full", "lora"), ("full", "frozen"), ("frozen", "blind")),
    plot=forest,
)
