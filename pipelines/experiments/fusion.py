"""Should sketch and photo meet before the language model? Cross-attention against concatenation, of equal size."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from pipelines.experiments.arm import Arm, Setting, chain, stage_one, stage_two
from pipelines.experiments.experiment import Experiment
from pipelines.experiments.plots import forest
from pipelines.experiments.stages import exams, prepare
from pipelines.stages import texts
from sketchlm.estimate import Size, matched_sizes
from sketchlm.model import matched


def arms(setting: Setting, seed: int) -> list[Arm]:
    """Concatenation; and a layer of cross-attention in the place of one of the language model."""
    one, two = stage_one(setting, seed), stage_two(setting, seed)
    crossed = [
        replace(stage, model=replace(matched(replace(stage.model, base=one.model.base)), fusion_open=True))
        for stage in (one, two)
    ]
    sizes = _sizes(setting)
    return [
        chain(setting, "concat", one, two, about=f"the paper's: {_cost(sizes['concat'])}"),
        chain(
            setting,
            "cross-attention",
            *crossed,
            about="photo tokens look at the sketch's in a layer of their own, in the place of one of the language "
            f"model: {_cost(sizes['cross_attention'])}",
        ),
    ]


@lru_cache
def _sizes(setting: Setting) -> dict[str, Size]:
    return matched_sizes(stage_one(setting, 0), texts())


def _cost(size: Size) -> str:
    return f"{size.parameters / 1e6:.3f} M parameters, {size.flops / 1e9:.2f} GFLOP a row of training"


FUSION = Experiment(
    name="fusion",
    title="Cross-attention against concatenation",
    question="The paper lays the sketch's tokens before the photo's and leaves it to the language model to compare "
    "them. Does it help retrieval or detection to let the photo's tokens look at the sketch's before they join the "
    "text, where both models cost the same?",
    setup="The same tower, data, steps and recipe; a layer of cross-attention (its MLP included) takes the place of one "
    "of the language model's layers, so that parameters match. Both begin from nothing.",
    arms=arms,
    prepare=prepare,
    exams=exams,
    effects=(("cross-attention", "concat"),),
    plot=forest,
)
