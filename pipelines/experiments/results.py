"""Results of an experiment over its seeds: figures of arms, effects between arms, and what they allow to say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy import stats

from pipelines.experiments.exam import FIGURES, Answers, measure_of
from sketchlm.metrics import Figure, Measure, figures
from sketchlm.metrics.figure import Values, difference

CONTROL: Final = "blind"
"""The arm that never sees a sketch."""
NORMAL: Final = float(stats.norm.ppf(0.975))
MOST_SEEDS: Final = 200
"""More than that would settle nothing that matters."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Outcome(_Record):
    """A figure once a seed: of an arm, or of how much higher one arm is than another."""

    exam: str
    condition: str
    task: str
    figure: str
    arm: str
    against: str = ""
    """The arm that is compared with; "" = none."""
    baseline: str = ""
    """What of the same arm is compared with, in words: another exam, condition or figure; "" = none."""
    values: list[float]
    """One a seed, in the order of the seeds."""
    error: float
    """Standard error of the mean over seeds that comes from the images of the exam."""
    single: float
    """The same of one seed (the mean over seeds): higher by what seeds do not agree on."""
    n: int
    """Questions."""

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.values))

    @property
    def reach(self) -> float:
        """Half of the 95 % interval: what other seeds (Student's t) and other images would give, in quadrature."""
        return math.hypot(spread(self.values), NORMAL * self.error)

    @property
    def interval(self) -> Figure:
        """The mean with its interval, which ends where figures do (0 and 1); `n` counts questions."""
        low, high = self.mean - self.reach, self.mean + self.reach
        if not self.is_effect:
            low, high = max(low, 0.0), min(high, 1.0)
        return Figure(self.mean, low, high, self.n)

    @property
    def is_effect(self) -> bool:
        """Whether it is a difference."""
        return bool(self.against or self.baseline)

    @property
    def is_clear(self) -> bool:
        """Whether the interval of a difference leaves out 0."""
        return abs(self.mean) > self.reach


class ArmFacts(_Record):
    """What an arm was."""

    name: str
    about: str = ""
    stages: list[str]
    """`pretrain 150`, ..."""
    parameters: int = 0
    minutes: float
    """Of one seed, the stages that it shares with others included; the mean."""


class Results(_Record):
    """What a page is made of."""

    name: str
    date: str
    commit: str
    recipe: str
    seeds: list[int]
    number: int
    """Questions of each task that an exam asks at most."""
    threads: int = 1
    """Of each process."""
    minutes: float
    """Of all training and answering, summed over processes; what other experiments had trained is counted as well."""
    arms: list[ArmFacts]
    outcomes: list[Outcome]
    constants: dict[str, dict[str, float]] = {}
    """By exam and task: the best answer that is always the same."""
    extra: dict[str, Any] = {}
    """Of this experiment alone."""

    def find(self, arm: str, exam: str, task: str, figure: str = "", condition: str = "asked") -> Outcome | None:
        """A figure of an arm; figure: "" = that of FIGURES."""
        wanted = (arm, exam, task, figure or FIGURES[task], condition)
        for one in self.outcomes:
            if not one.is_effect and (one.arm, one.exam, one.task, one.figure, one.condition) == wanted:
                return one
        return None

    @property
    def effects(self) -> list[Outcome]:
        """The differences among the outcomes."""
        return [one for one in self.outcomes if one.is_effect]


def read_results(path: Path) -> Results:
    """Raises ValueError for a file that holds none."""
    try:
        return Results.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"there are no results at {path}: run the experiment first") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; run the experiment again to make it anew"
        ) from None


def spread(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean over seeds; infinite for one seed, which tells nothing of others."""
    if len(values) < 2:
        return math.inf
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))


def error_with(outcome: Outcome, number: int) -> float:
    """Standard error of a mean over so many seeds that comes from the images: what is hard for all seeds stays, what
    they do not agree on falls with their number."""
    seeds = len(outcome.values)
    apart = max(0.0, outcome.single**2 - outcome.error**2) * seeds / max(1, seeds - 1)
    shared = max(0.0, outcome.single**2 - apart)
    return math.sqrt(shared + apart / number)


def seeds_to_settle(outcome: Outcome) -> int:
    """With how many seeds the interval of a difference would just leave out 0 (an even chance), were the difference and
    its spread what they seem; 0 where not even MOST_SEEDS would: too few images, or too small a difference."""
    deviation, size = float(np.std(outcome.values, ddof=1)), abs(outcome.mean)
    for number in range(2, MOST_SEEDS + 1):
        seeds = float(stats.t.ppf(0.975, number - 1)) * deviation / math.sqrt(number)
        if math.hypot(seeds, NORMAL * error_with(outcome, number)) < size:
            return number
    return 0


def outcome_of(answers: Sequence[Answers], figure: str = "", **place: str) -> Outcome | None:
    """A figure of one arm; answers: one a seed, to the same questions; None where a seed has none.
    place: `exam`, `condition`, `arm`.

    Raises ValueError for answers to different questions.
    """
    name = figure or FIGURES[answers[0].task]
    return _outcome(answers, measure_of(answers[0].task, name), place | {"task": answers[0].task, "figure": name})


def effect_of(
    mine: Sequence[Answers], theirs: Sequence[Answers], figure: str = "", other: str = "", **place: str
) -> Outcome | None:
    """How much higher a figure is in one set of answers than in another, seed by seed, on the same questions.

    other: the figure of `theirs`, "" = the same. Raises ValueError for answers to different questions.
    """
    task = mine[0].task
    name = figure or FIGURES[task]
    paired = []
    for one, two in zip(mine, theirs, strict=True):
        if one.images != two.images or one.task != two.task:
            raise ValueError(f"{place}: answers to different questions cannot be compared")
        rows = [[*a, *b] for a, b in zip(one.rows, two.rows, strict=True)]
        paired.append(Answers(task, rows, one.images))
    width = len(mine[0].rows[0]) if mine[0].rows else 0
    measure = difference(measure_of(task, name), width, measure_of(task, other or name))
    return _outcome(paired, measure, place | {"task": task, "figure": name})


def _outcome(answers: Sequence[Answers], measure: Measure, place: dict[str, str]) -> Outcome | None:
    if any(one.images != answers[0].images for one in answers):
        raise ValueError(f"{place}: the seeds answered different questions; remove their answers and ask again")
    images = answers[0].images
    each = [figures(one.rows, {"": measure}, images)[""] for one in answers]
    if any(math.isnan(value) for one in each for value in (one.value, one.low, one.high)):
        return None
    together = np.concatenate([np.asarray(one.rows, np.float64) for one in answers], axis=1)
    mean = figures(together, {"": averaged(measure, len(answers))}, images)[""]
    return Outcome(
        values=[one.value for one in each],
        error=_error(mean),
        single=float(np.mean([_error(one) for one in each])),
        n=each[0].n,
        **place,
    )


def _error(found: Figure) -> float:
    return (found.high - found.low) / 2 / NORMAL


def averaged(measure: Measure, number: int) -> Measure:
    """Of rows [n, number * width], the answers of several models side by side: the mean of their figures."""

    def terms(rows: Values) -> Values:
        return np.concatenate([measure.terms(part) for part in np.split(rows, number, axis=1)], axis=1)

    def value(sums: Values) -> Values:
        return np.mean([measure.value(part) for part in np.split(sums, number, axis=-1)], axis=0)

    return Measure(terms, value)
