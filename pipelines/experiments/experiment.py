"""One experiment: its arms are trained and answer its exams, seed by seed; its results and page are written."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

from data_manifests.schema import Measured
from pipelines.commit import commit
from pipelines.experiments.arm import Arm, Setting, minutes, train_all
from pipelines.experiments.exam import FIGURES, Answers, Exam
from pipelines.experiments.results import ArmFacts, Outcome, Results, effect_of, outcome_of, read_results
from sketchlm.evaluation.record import write_text
from sketchlm.loading import open_model, processor_of
from sketchlm.threads import pin_threads

Plot = Callable[[Results, Any], None]
"""Draws the results into a matplotlib figure."""


@dataclass(frozen=True)
class Experiment:
    """A question, what is trained and asked to answer it, and how its page shows the answer."""

    name: str
    title: str
    question: str
    setup: str
    """What differs and what does not, for the page."""
    arms: Callable[[Setting, int], list[Arm]]
    exams: Callable[[Setting], list[Exam]]
    """Made anew in every process: they hold functions."""
    effects: tuple[tuple[str, str], ...]
    """Pairs of arms: how much higher is the first than the second?"""
    plot: Plot
    contrasts: tuple[tuple[str, str], ...] = ()
    """Pairs of exams of the same questions: how much higher does each arm reach in the first than in the second?"""
    prepare: Callable[[Setting, Console], None] = lambda setting, console: None
    """Makes the shards that neither recipe of training makes, where they are missing."""
    figures: dict[str, tuple[str, ...]] = field(default_factory=lambda: {t: (f,) for t, f in FIGURES.items()})
    """Of each task, those that are worked out."""
    extra: Callable[[Setting, Results], dict[str, Any]] = lambda setting, results: {}
    """What else the page needs, worked out once all is answered."""


def run(experiment: Experiment, setting: Setting, console: Console) -> Results:
    """Train and ask what is missing; returns the results, which are written beside the page.

    Raises ValueError for settings or data that cannot work, KeyboardInterrupt where it was asked to stop: the same
    command goes on from there.
    """
    arms = {seed: experiment.arms(setting, seed) for seed in setting.seeds}
    everyone = [arm for of_seed in arms.values() for arm in of_seed]
    experiment.prepare(setting, console)
    train_all(everyone, setting, console)
    _answer_all(experiment, arms, setting, console)
    results = gather(experiment, arms, setting)
    path = results_file(setting, experiment.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, results.model_dump_json(indent=1) + "\n")
    return results


def results_file(setting: Setting, name: str) -> Path:
    """Where the results of an experiment lie, beside its page."""
    return Path(setting.pages) / f"{name}.json"


def old_results(setting: Setting, name: str) -> Results:
    """Those of an earlier run. Raises ValueError where there are none."""
    return read_results(results_file(setting, name))


def gather(experiment: Experiment, arms: dict[int, list[Arm]], setting: Setting) -> Results:
    """The results of answers that are all there."""
    names = [arm.name for arm in arms[setting.seeds[0]]]
    answered = {
        arm.name: [read_answers(answers_file(setting, experiment.name, arms[seed][place])) for seed in setting.seeds]
        for place, arm in enumerate(arms[setting.seeds[0]])
    }
    exams = experiment.exams(setting)
    outcomes: list[Outcome] = []
    for name in names:
        for exam, condition, task in answered[name][0].answers:
            mine = [one.answers[exam, condition, task] for one in answered[name]]
            for figure in experiment.figures[mine[0].task]:
                outcomes.append(outcome_of(mine, figure, exam=exam, condition=condition, arm=name))
    outcomes += _effects(experiment, answered)
    facts = [_facts(arm, [answered[arm.name][n] for n in range(len(setting.seeds))]) for arm in arms[setting.seeds[0]]]
    results = Results(
        name=experiment.name,
        date=str(date.today()),
        commit=commit(),
        recipe=setting.recipe,
        seeds=list(setting.seeds),
        minutes=sum(fact.minutes for fact in facts) * len(setting.seeds),
        arms=facts,
        outcomes=outcomes,
        constants={exam.name: {str(t): v for t, v in found.items()} for exam in exams if (found := exam.constant())},
    )
    return results.model_copy(update={"extra": experiment.extra(setting, results)})


def _effects(experiment: Experiment, answered: dict[str, list[Answered]]) -> list[Outcome]:
    """Of arms on each exam, then of exams for each arm."""
    found: list[Outcome] = []
    for first, second in experiment.effects:
        for place in answered[first][0].answers:
            if place[1] == "asked" and place in answered[second][0].answers:
                mine, theirs = ([one.answers[place] for one in answered[name]] for name in (first, second))
                named = {"exam": place[0], "condition": "asked", "arm": first, "against": second}
                found += [effect_of(mine, theirs, figure, **named) for figure in experiment.figures[mine[0].task]]
    for first, second in experiment.contrasts:
        for arm, each in answered.items():
            for exam, condition, task in each[0].answers:
                if (exam, condition) == (first, "asked") and (second, condition, task) in each[0].answers:
                    mine, theirs = ([one.answers[name, condition, task] for one in each] for name in (first, second))
                    named = {"exam": first, "condition": condition, "arm": arm, "baseline": second}
                    found += [effect_of(mine, theirs, figure, **named) for figure in experiment.figures[mine[0].task]]
    return found


@dataclass(frozen=True)
class Answered:
    """What one bundle answered. answers: by exam, condition and task."""

    answers: dict[tuple[str, str, str], Answers]
    minutes: float
    parameters: int


def answers_file(setting: Setting, experiment: str, arm: Arm) -> Path:
    """Where the answers of a bundle lie; another bundle, or another number of questions, has another file."""
    return Path(setting.out) / experiment / f"{arm.name}-{Path(arm.stages[-1].out).name}-{setting.number}.json"


def read_answers(path: Path) -> Answered:
    """What `_answer` wrote."""
    stored = json.loads(path.read_text())
    answers = {tuple(place.split("\t")): Answers(*one) for place, one in stored["answers"].items()}
    return Answered(answers, stored["minutes"], stored["parameters"])


def _answer_all(experiment: Experiment, arms: dict[int, list[Arm]], setting: Setting, console: Console) -> None:
    todo = [arm for of_seed in arms.values() for arm in of_seed]
    todo = [arm for arm in todo if not answers_file(setting, experiment.name, arm).is_file()]
    if not todo:
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(setting.workers, len(todo)), mp_context=spawn) as pool:
        under_way = {pool.submit(_answer, experiment.name, arm, setting): arm for arm in todo}
        for number, done in enumerate(as_completed(under_way), 1):
            took, name = done.result(), under_way[done].name
            console.print(f"{name} has answered ({took:.1f} minutes); {number} of {len(todo)}", style="dim")


def _answer(name: str, arm: Arm, setting: Setting) -> float:
    """In a process of its own: one bundle answers all exams of an experiment; the minutes that it took."""
    from pipelines.experiments import EXPERIMENTS

    pin_threads(setting.threads)
    began = time.monotonic()
    loaded = open_model(arm.bundle, "")
    tasks: tuple[Measured, ...] = ("describe", "bbox", "count", "vqa", "sbir")
    processor = processor_of(loaded, tasks, arm.stages[-1].processor.blind)
    answers = {
        f"{exam.name}\t{condition}\t{task}": found
        for exam in EXPERIMENTS[name].exams(setting)
        for (task, condition), found in exam.answers(loaded, processor).items()
    }
    took = (time.monotonic() - began) / 60
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    path = answers_file(setting, name, arm)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"answers": answers, "minutes": took, "parameters": parameters}) + "\n")
    return took


def _facts(arm: Arm, answered: Sequence[Answered]) -> ArmFacts:
    return ArmFacts(
        name=arm.name,
        about=arm.about,
        stages=[f"{stage.stage} {stage.steps:,} x {stage.loader.batch_size}" for stage in arm.stages],
        parameters=answered[0].parameters,
        minutes=sum(map(minutes, arm.stages)) + sum(one.minutes for one in answered) / len(answered),
    )
