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
from sketchlm.metrics import Figure, differences, figures

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
    """The exam that is compared with, of the same arm; "" = none."""
    values: list[float]
    """One a seed, in the order of the seeds."""
    error: float
    """Standard error that comes from the images of the exam: the same for all seeds."""
    n: int
    """Questions."""

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.values))

    @property
    def reach(self) -> float:
        """Half of the 95 % interval: what other seeds (Student's t) and other images would give, in quadrature."""
        return math.hypot(spread(self.values), stats.norm.ppf(0.975) * self.error)

    @property
    def interval(self) -> Figure:
        """The mean with its interval; `n` counts questions."""
        return Figure(self.mean, self.mean - self.reach, self.mean + self.reach, self.n)

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
        raise ValueError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def spread(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean over seeds; infinite for one seed, which tells nothing of others."""
    if len(values) < 2:
        return math.inf
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))


def seeds_to_settle(outcome: Outcome) -> int:
    """With how many seeds the interval of a difference would leave out 0, were the difference and its spread what they
    seem; 0 where no number would: its images are too few, or the difference too small (MOST_SEEDS)."""
    deviation, size = float(np.std(outcome.values, ddof=1)), abs(outcome.mean)
    fixed = float(stats.norm.ppf(0.975)) * outcome.error
    for number in range(2, MOST_SEEDS + 1):
        if math.hypot(stats.t.ppf(0.975, number - 1) * deviation / math.sqrt(number), fixed) < size:
            return number
    return 0


def outcome_of(answers: Sequence[Answers], figure: str = "", **place: str) -> Outcome:
    """A figure of one arm; answers: one a seed, to the same questions. place: `exam`, `condition`, `arm`."""
    first = answers[0]
    name = figure or FIGURES[first.task]
    measure = measure_of(first.task, name)
    each = [figures(one.rows, measure, one.images)[name] for one in answers]
    error = float(np.mean([(one.high - one.low) / 2 for one in each]) / stats.norm.ppf(0.975))
    values = [one.value for one in each]
    return Outcome(task=first.task, figure=name, values=values, error=error, n=each[0].n, **place)


def effect_of(mine: Sequence[Answers], theirs: Sequence[Answers], figure: str = "", **place: str) -> Outcome:
    """How much higher a figure of one arm is than that of another, seed by seed, on the same questions.

    Raises ValueError for answers to different questions.
    """
    name = figure or FIGURES[mine[0].task]
    measure = measure_of(mine[0].task, name)
    each = []
    for one, other in zip(mine, theirs, strict=True):
        if one.images != other.images:
            raise ValueError(f"{place}: answers to different questions cannot be compared")
        each.append(differences(one.rows, other.rows, measure, one.images)[name])
    error = float(np.mean([(one.high - one.low) / 2 for one in each]) / stats.norm.ppf(0.975))
    return Outcome(
        task=mine[0].task, figure=name, values=[one.value for one in each], error=error, n=each[0].n, **place
    )
