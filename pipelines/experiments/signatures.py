"""The paper's failure signatures over the results of all experiments: each seen, or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines.experiments.crowds import MANY
from pipelines.experiments.drawings import PEOPLE
from pipelines.experiments.plots import TASK_WORDS, signed
from pipelines.experiments.results import CONTROL, Outcome, Results
from sketchgen.shapeworld import HELD_OUT_STYLE
from sketchlm.evaluation.report.signatures import (
    CROWD,
    HIGH_VQA,
    LEAST,
    LOW_DETECTION,
    LOW_SBIR,
    SPURIOUS,
    STYLE_LOSS,
    Signature,
    Verdict,
    above,
    anywhere,
    below,
    everywhere,
)
from sketchlm.metrics import Figure

HAND_TRAINED = ("model", "hand")
"""The arms of `styles` and `sources` that were trained on drawings by hand."""
AS_TRAINED = ("training styles", "hand")
"""Their exams with such drawings, of all classes or of some."""


def signatures(results: Sequence[Results]) -> list[Signature]:
    """All four."""
    return [frozen_connector(results), style_overfit(results), words_without_places(results), crowds(results)]


def frozen_connector(results: Sequence[Results]) -> Signature:
    """Low SBIR of an arm whose connector was not trained."""
    found = _asked(_of(results, "connector"), lambda one: one.arm == "frozen" and one.task == "sbir")
    rule = f"balanced accuracy of a model whose connector was never trained is below {LOW_SBIR:g}"
    evidence = [(_says(one), one.interval) for one in found]
    return _sign("Low SBIR with a frozen connector", rule, evidence, LOW_SBIR, below)


def style_overfit(results: Sequence[Results]) -> Signature:
    """Good with drawings as in training, poor with others."""
    others = (HELD_OUT_STYLE, *PEOPLE)
    evidence = dict.fromkeys(  # both experiments ask the same model
        (f"`{one.exam}`, {TASK_WORDS[one.task]}: {signed(_lost(one))} lost", _lost(one))
        for each in (*_of(results, "styles"), *_of(results, "sources"))
        for one in each.effects
        if one.exam in others and one.baseline.partition(",")[0] in AS_TRAINED and one.arm in HAND_TRAINED
    )
    rule = f"with drawings in a style that training never saw, more than {STYLE_LOSS:g} is lost"
    return _sign("Style overfit", rule, list(evidence), STYLE_LOSS, above)


def words_without_places(results: Sequence[Results]) -> Signature:
    """High VQA and low detection of one arm."""
    name = "High VQA, low detection"
    rule = f"VQA is above {HIGH_VQA:g} and Acc@0.5 of BBOX below {LOW_DETECTION:g} in one arm"
    verdicts: list[Verdict] = []
    able: list[tuple[str, Figure]] = []
    told: list[str] = []
    known: list[list[float]] = []
    for each in results:
        for vqa in _asked([each], lambda one: one.task == "vqa" and one.arm != CONTROL):
            bbox = each.find(vqa.arm, vqa.exam, "bbox")
            if bbox is None or bbox.values in known:
                continue  # one model may stand in several experiments
            known.append(bbox.values)
            sides = above(vqa.interval, HIGH_VQA), below(bbox.interval, LOW_DETECTION)
            verdict, arm = everywhere(sides), f"`{vqa.arm}` of {each.name}"
            verdicts.append(verdict)
            if sides[0] == "seen":
                able.append((arm, bbox.interval))
            if verdict != "not seen":
                told.append(f"{arm}, {verdict}: VQA {vqa.interval}, BBOX {bbox.interval}")
    if not verdicts:
        return Signature(name, "cannot be told", rule, "no results yet")
    if able:
        worst = min(able, key=lambda one: one[1].value)
        told.insert(0, f"the lowest detection of these is {worst[1]} ({worst[0]})")
    told.insert(0, f"{len(verdicts)} arms, {len(able)} with high VQA")
    return Signature(name, anywhere(verdicts), rule, "; ".join(told))


def crowds(results: Sequence[Results]) -> Signature:
    """Boxes that show nothing true where there are many instances."""
    figures = ("hallucinated", "hallucinated, suppressed")
    found = _asked(_of(results, "crowds"), lambda one: one.figure in figures and one.exam == MANY)
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
) -> Signature:
    """Seen where it is seen anywhere."""
    if not evidence:
        return Signature(name, "cannot be told", rule, "no results yet")
    evidence = [one for one in evidence if one[1].n >= LEAST] or evidence
    return Signature(
        name, anywhere(judge(figure, limit) for _, figure in evidence), rule, "; ".join(w for w, _ in evidence)
    )
