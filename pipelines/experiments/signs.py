"""The paper's failure signatures over the results of all experiments: each seen, or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.experiments.drawings import PEOPLE
from pipelines.experiments.plots import CONTROL, TASK_WORDS
from pipelines.experiments.results import Outcome, Results
from sketchgen.shapeworld import HELD_OUT_STYLE
from sketchlm.evaluation.report.signatures import (
    CROWD,
    HIGH_VQA,
    LOW_DETECTION,
    LOW_SBIR,
    SPURIOUS,
    STYLE_LOSS,
    Verdict,
    above,
    anywhere,
    below,
    everywhere,
)
from sketchlm.metrics import Figure


@dataclass(frozen=True)
class Sign:
    """A signature, whether it is seen, and what it is told from, in words."""

    name: str
    verdict: Verdict
    rule: str
    told: str


def signs(results: Sequence[Results]) -> list[Sign]:
    """All four of PAPER.md, in its order."""
    return [frozen_connector(results), style_overfit(results), words_without_places(results), crowds(results)]


def frozen_connector(results: Sequence[Results]) -> Sign:
    """Low SBIR of an arm whose connector was not trained."""
    found = _asked(_of(results, "connector"), lambda one: one.arm == "frozen" and one.task == "sbir")
    rule = f"balanced accuracy of a model whose connector was never trained is below {LOW_SBIR:g}"
    evidence = [(_says(one), one.interval) for one in found]
    return _sign("Low SBIR with a frozen connector", rule, evidence, LOW_SBIR, below)


def style_overfit(results: Sequence[Results]) -> Sign:
    """Good with drawings as in training, poor with others."""
    others = (HELD_OUT_STYLE, *PEOPLE)
    evidence = [
        (f"`{one.exam}`, {TASK_WORDS[one.task]}: {_lost(one)} lost", _lost(one))
        for one in [one for each in _of(results, "styles") for one in each.effects if one.exam in others]
    ]
    rule = f"with drawings in a style that training never saw, more than {STYLE_LOSS:g} is lost"
    return _sign("Style overfit", rule, evidence, STYLE_LOSS, above)


def words_without_places(results: Sequence[Results]) -> Sign:
    """High VQA and low detection of one arm."""
    name = "High VQA, low detection"
    rule = f"VQA is above {HIGH_VQA:g} and Acc@0.5 of BBOX below {LOW_DETECTION:g} in one arm"
    verdicts: list[Verdict] = []
    able: list[tuple[str, Figure]] = []
    for each in results:
        for vqa in _asked([each], lambda one: one.task == "vqa" and one.arm != CONTROL):
            bbox = each.find(vqa.arm, vqa.exam, "bbox")
            if bbox is None:
                continue
            sides = above(vqa.interval, HIGH_VQA), below(bbox.interval, LOW_DETECTION)
            verdicts.append(everywhere(sides))
            if sides[0] == "seen":
                able.append((f"`{vqa.arm}` of {each.name}", bbox.interval))
    if not verdicts:
        return Sign(name, "cannot be told", rule, "no results yet")
    told = f"{len(verdicts)} arms, {len(able)} with high VQA"
    if able:
        worst = min(able, key=lambda one: one[1].value)
        told += f"; the lowest detection of these is {worst[1]} ({worst[0]})"
    return Sign(name, anywhere(verdicts), rule, told)


def crowds(results: Sequence[Results]) -> Sign:
    """Boxes that show nothing true where there are many instances."""
    figures = ("hallucinated", "hallucinated, suppressed")
    found = _asked(
        _of(results, "crowds"),
        lambda one: one.figure in figures and one.exam.split(" ")[0] in "345" and "," not in one.exam,
    )
    rule = f"more than {SPURIOUS:g} of the boxes found where a class has {CROWD} and more instances show nothing true"
    evidence = [(f"{one.exam}{one.figure.removeprefix(figures[0])}: {one.interval}", one.interval) for one in found]
    return _sign("Hallucinated boxes in crowds", rule, evidence, SPURIOUS, above)


def _of(results: Sequence[Results], name: str) -> list[Results]:
    return [one for one in results if one.name == name]


def _asked(results: Sequence[Results], keep: Callable[[Outcome], bool]) -> list[Outcome]:
    """The figures of arms as they are asked that are kept."""
    every = [one for each in results for one in each.outcomes]
    return [one for one in every if one.condition == "asked" and not one.is_effect and keep(one)]


def _says(outcome: Outcome) -> str:
    return f"`{outcome.arm}`, {outcome.exam}: {outcome.interval}"


def _lost(outcome: Outcome) -> Figure:
    """A difference the other way round."""
    one = outcome.interval
    return Figure(-one.value, -one.high, -one.low, one.n)


def _sign(
    name: str,
    rule: str,
    evidence: Sequence[tuple[str, Figure]],
    limit: float,
    judge: Callable[[Figure, float], Verdict],
) -> Sign:
    """Seen where it is seen anywhere."""
    if not evidence:
        return Sign(name, "cannot be told", rule, "no results yet")
    return Sign(name, anywhere(judge(figure, limit) for _, figure in evidence), rule, "; ".join(w for w, _ in evidence))
