"""Should sketch and photo meet before the language model? Cross-attention against concatenation, of equal size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from pipelines.experiments.arm import Arm, Setting, blind, both_stages, chain
from pipelines.experiments.experiment import Experiment
from pipelines.experiments.plots import forest
from pipelines.experiments.stages import exams, prepare
from pipelines.stages import texts
from sketchlm.estimate import Size, matched_sizes
from sketchlm.model import matched


def arms(setting: Setting, seed: int) -> list[Arm]:
    """Concatenation; a layer of cross-attention in the place of one of the language model, for as many steps; and for
    as much computation, which is more steps, since only the photo's tokens go through that layer."""
    plain = both_stages(setting, seed)
    crossed = [
        replace(stage, model=replace(matched(replace(stage.model, base=plain[0].model.base)), fusion_open=True))
        for stage in plain
    ]
    costs = [_sizes(setting, place) for place in range(len(plain))]
    longer = [
        replace(stage, steps=round(stage.steps * cost["concat"].flops / cost["cross_attention"].flops))
        for stage, cost in zip(crossed, costs, strict=True)
    ]
    words = {name: _cost([cost[name] for cost in costs]) for name in ("concat", "cross_attention")}
    return [
        chain(setting, "concat", *plain, about=f"the paper's; {words['concat']}"),
        chain(setting, "crossed", *crossed, about=f"with cross-attention; {words['cross_attention']}"),
        chain(setting, "crossed-longer", *longer, about="the same for the computation of `concat`"),
        blind(setting, seed),
    ]


@lru_cache
def _sizes(setting: Setting, place: int) -> dict[str, Size]:
    """What both cost in stage I or II."""
    stages = both_stages(setting, 0)
    return matched_sizes(replace(stages[place], model=stages[0].model), texts())


def _cost(sizes: Sequence[Size]) -> str:
    flops = " and ".join(f"{size.flops / 1e9:.2f}" for size in sizes)
    return f"{sizes[0].parameters:,} parameters, {flops} GFLOP a sketch of stage I and II"


FUSION = Experiment(
    name="fusion",
    title="Cross-attention against concatenation",
    question="The paper lays the sketch's tokens before the photo's and leaves it to the language model to compare "
    "them. Does it help retrieval or detection to let the photo's tokens look at the sketch's before they join the "
    "text, where both models cost the same?",
    setup="The same tower, data and recipe. A layer of cross-attention (its MLP included), in which the "
    "photo's tokens look at the sketch's, takes the place of one of the language model's four, so that parameters "
    "match (in both models the sketch stands first, so that the photo's tokens can look at it). Connector, language "
    "model and the new layer begin from nothing. Grounding, a part of the loss that also teaches boxes, reads "
    "the photo's tokens after two layers of four in `concat`, and after the new one and two of three in the others.",
    arms=arms,
    prepare=prepare,
    exams=exams,
    effects=(("crossed", "concat"), ("crossed-longer", "concat")),
    plot=forest,
)
