"""Is stage I worth its steps? (Paper: without it, retrieval falls by about 40 %.)"""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from pipelines import instructions
from pipelines.experiments.arm import Arm, Setting, begun_with, blind, both_stages, chain
from pipelines.experiments.exam import Exam, exam_of
from pipelines.experiments.experiment import Experiment
from pipelines.experiments.plots import forest
from sketchlm.training import TrainConfig

UNSEEN = "learn_val"
"""Recipe of the instruction shards that all experiments ask: scenes, and sketches, that no training holds."""


def arms(setting: Setting, seed: int) -> list[Arm]:
    """Both stages; stage II alone, as much longer; the same two where stage II does no grounding, so that stage I alone
    aligns; and both stages without a sight of any sketch."""
    one, two = both_stages(setting, seed)
    questions = replace(two, loss=replace(two.loss, grounding=0.0))

    def longer(stage: TrainConfig) -> TrainConfig:
        return replace(begun_with(stage, one), steps=one.steps + two.steps)

    return [
        chain(setting, "both", one, two, about="stage I, then stage II, with grounding in both"),
        chain(setting, "two-alone", longer(two), about="stage II alone, for the steps of both"),
        chain(setting, "aligned", one, questions, about="stage I with grounding, then stage II without"),
        chain(setting, "unaligned", longer(questions), about="stage II alone without grounding, likewise"),
        blind(setting, seed),
    ]


def prepare(setting: Setting, console: Console) -> None:
    """The shards of the exam."""
    instructions.ensure(UNSEEN, console)


def exams(setting: Setting) -> list[Exam]:
    """The four tasks on unseen scenes."""
    return [exam_of("unseen", instructions.places()[UNSEEN], number=setting.number)]


STAGES = Experiment(
    name="stages",
    title="Stage I and II against stage II alone",
    question="Does a model that first learns what sketches show (stage I) answer better than one that spends the same "
    "steps on the four tasks? The paper loses about 40 % of retrieval without stage I.",
    setup="The same tower, data, batch and optimizer; connector and language model begin from nothing. Equal numbers "
    "of steps and of rows; a row of stage I holds a description in place of questions. The tower knows sketches and "
    "what photos show (see below), and grounding (which patches show what the sketch shows, and the box of what each "
    "patch shows) is usually a part of the loss in both stages: much of what stage I is for in the paper is taught in "
    "`two-alone` as well. `aligned` and `unaligned` therefore leave grounding out of stage II: only stage I aligns.",
    arms=arms,
    prepare=prepare,
    exams=exams,
    effects=(("both", "two-alone"), ("aligned", "unaligned"), ("two-alone", "unaligned"), ("both", "blind")),
    plot=forest,
)
