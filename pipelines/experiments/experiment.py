"""One experiment: its arms are trained and answer its exams, seed by seed; its results are written beside its page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from data_manifests.schema import Measured
from pipelines.commit import commit
from pipelines.experiments.arm import Arm, Setting, minutes, train_all
from pipelines.experiments.exam import FIGURES, Answers, Exam, Place
from pipelines.experiments.pool import side_by_side
from pipelines.experiments.results import CONTROL, ArmFacts, Outcome, Results, effect_of, outcome_of, read_results
from sketchlm.evaluation.measures import FIELDS
from sketchlm.evaluation.record import write_text
from sketchlm.loading import open_model, processor_of
from sketchlm.threads import pin_threads

Plot = Callable[[Results, Any], None]
"""Draws the results into a matplotlib figure."""


@dataclass(frozen=True)
class Contrast:
    """Two figures of the same arm on the same questions: how much higher is the first than the second?"""

    exam: str
    against: str = ""
    """The exam of the second; "" = the same."""
    condition: str = "asked"
    other: str = ""
    """The condition of the second; "" = the same."""
    figure: str = ""
    """"" = those that the experiment looks at."""
    minus: str = ""
    """The figure of the second; "" = the same."""
    words: str = ""
    """What the second is, for the page; "" = the exam's name."""


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
    """Pairs of arms: how much higher is the first than the second, as asked?"""
    plot: Plot
    contrasts: tuple[Contrast, ...] = ()
    prepare: Callable[[Setting, Console], None] = lambda setting, console: None
    """Makes the shards that neither recipe of training makes, where they are missing."""
    own_scale: tuple[str, ...] = ()
    """Tasks whose figures are measured against the arm's own answers: not compared between arms."""
    figures: dict[str, tuple[str, ...]] = field(default_factory=lambda: {t: (f,) for t, f in FIGURES.items()})
    """Of each task, those that are worked out."""
    extra: Callable[[Setting, Results], dict[str, Any]] = lambda setting, results: {}
    """What else the page needs, worked out once all is answered."""
    told: Callable[[Results], str] = lambda results: ""
    """What it says of that, in Markdown."""


@dataclass(frozen=True)
class Answered:
    """What one bundle answered. answers: by exam, then task and condition."""

    answers: dict[str, dict[Place, Answers]]
    minutes: float
    parameters: int


def run(experiment: Experiment, setting: Setting, console: Console) -> Results:
    """Train and ask what is missing; returns the results, which are written beside the page.

    Raises ValueError for settings or data that cannot work, KeyboardInterrupt where it was asked to stop: the same
    command goes on from there.
    """
    arms = {seed: experiment.arms(setting, seed) for seed in setting.seeds}
    everyone = [arm for of_seed in arms.values() for arm in of_seed]
    experiment.prepare(setting, console)
    train_all(everyone, setting, console)
    exams = experiment.exams(setting)
    todo = [arm for arm in everyone if not all(answers_file(setting, exam, arm).is_file() for exam in exams)]
    work = partial(_answer, name=experiment.name, setting=setting)
    for number, (arm, took) in enumerate(side_by_side(work, todo, setting.workers), 1):
        console.print(f"{arm.name} has answered ({took:.1f} minutes); {number} of {len(todo)}", style="dim")
    results = gather(experiment, exams, arms, setting)
    path = results_file(setting, experiment.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, results.model_dump_json(indent=1) + "\n")
    return results


def page_name(setting: Setting, name: str) -> str:
    """Of an experiment's page: that of the small setting has its name, others that of their recipe as well."""
    return name if setting.recipe == Setting().recipe else f"{name}-{setting.recipe}"


def results_file(setting: Setting, name: str) -> Path:
    """Where the results of an experiment lie, beside its page."""
    return Path(setting.pages_folder) / f"{page_name(setting, name)}.json"


def old_results(setting: Setting, name: str) -> Results:
    """Those of an earlier run. Raises ValueError where there are none."""
    return read_results(results_file(setting, name))


def all_results(names: Iterable[str], pages: str) -> dict[str, Results]:
    """The results that lie in a folder, by the name of their page: of each experiment those of the small setting, then
    those of other recipes. Raises ValueError for a file that holds none."""
    found = {}
    for name in names:
        for path in [Path(pages) / f"{name}.json", *sorted(Path(pages).glob(f"{name}-*.json"))]:
            if path.is_file():
                found[path.stem] = read_results(path)
    return found


def gather(experiment: Experiment, exams: Sequence[Exam], arms: dict[int, list[Arm]], setting: Setting) -> Results:
    """The results of answers that are all there."""
    first = arms[setting.seeds[0]]
    answered = {
        arm.name: [read_answers(setting, exams, arms[seed][place]) for seed in setting.seeds]
        for place, arm in enumerate(first)
    }
    facts = [
        _facts([arms[seed][place] for seed in setting.seeds], answered[arm.name]) for place, arm in enumerate(first)
    ]
    outcomes = [*_figures(experiment, answered), *_effects(experiment, answered), *_contrasts(experiment, answered)]
    results = Results(
        name=experiment.name,
        date=str(date.today()),
        commit=commit(),
        recipe=setting.recipe,
        seeds=list(setting.seeds),
        threads=setting.threads,
        number=setting.number,
        minutes=sum(fact.minutes for fact in facts) * len(setting.seeds),
        arms=facts,
        outcomes=[one for one in outcomes if one is not None],
        constants={exam.name: found for exam in exams if (found := exam.constant())},
    )
    return results.model_copy(update={"extra": experiment.extra(setting, results)})


def _figures(experiment: Experiment, answered: Mapping[str, Sequence[Answered]]) -> list[Outcome | None]:
    """Of every arm, exam and condition."""
    return [
        outcome_of([one.answers[exam][place] for one in each], figure, exam=exam, condition=place[1], arm=arm)
        for arm, each in answered.items()
        for exam, places in each[0].answers.items()
        for place in places
        for figure in experiment.figures.get(place[0], ())
    ]


def _effects(experiment: Experiment, answered: Mapping[str, Sequence[Answered]]) -> list[Outcome | None]:
    """Of one arm above another, on each exam as it is asked."""
    found = []
    for first, second in experiment.effects:
        for exam, places in answered[first][0].answers.items():
            for task, condition in places:
                if condition == "asked" and task not in experiment.own_scale:
                    mine, theirs = (
                        [one.answers[exam][task, condition] for one in answered[name]] for name in (first, second)
                    )
                    named = {"exam": exam, "condition": condition, "arm": first, "against": second}
                    found += [effect_of(mine, theirs, figure, **named) for figure in experiment.figures.get(task, ())]
    return found


def _contrasts(experiment: Experiment, answered: Mapping[str, Sequence[Answered]]) -> list[Outcome | None]:
    """Of one figure of an arm above another of the same."""
    found = []
    for one in experiment.contrasts:
        second = one.against or one.exam
        for arm, each in answered.items():
            if arm == CONTROL or one.exam not in each[0].answers or second not in each[0].answers:
                continue
            for task, condition in each[0].answers[one.exam]:
                there = (task, one.other or condition)
                if condition != one.condition or there not in each[0].answers[second]:
                    continue
                mine = [seed.answers[one.exam][task, condition] for seed in each]
                theirs = [seed.answers[second][there] for seed in each]
                if mine == theirs and not one.minus:
                    continue  # one thing under two names
                named = {"exam": one.exam, "condition": condition, "arm": arm, "baseline": one.words or second}
                figures = (one.figure,) if one.figure else experiment.figures.get(task, ())
                found += [effect_of(mine, theirs, figure, one.minus, **named) for figure in figures]
    return found


def answers_file(setting: Setting, exam: Exam, arm: Arm) -> Path:
    """Where the answers of a bundle to an exam lie, for all experiments: another bundle, or exam, has another file."""
    return Path(setting.out) / "answers" / f"{exam.fingerprint}-{Path(arm.stages[-1].out).name}.json"


def read_answers(setting: Setting, exams: Sequence[Exam], arm: Arm) -> Answered:
    """What `_answer` wrote. Raises ValueError for answers whose columns are not today's."""
    stored = {exam.name: json.loads(answers_file(setting, exam, arm).read_text()) for exam in exams}
    for exam in exams:
        if any(list(FIELDS[task]) != there for task, there in stored[exam.name].get("fields", {}).items()):
            raise ValueError(f"{answers_file(setting, exam, arm)} is of an older version: remove it to ask again")
    answers = {
        name: {(found["task"], found["condition"]): Answers(*found["answers"]) for found in one["answers"]}
        for name, one in stored.items()
    }
    parameters = max(one["parameters"] for one in stored.values())
    return Answered(answers, sum(one["minutes"] for one in stored.values()), parameters)


def _answer(arm: Arm, name: str, setting: Setting) -> float:
    """In a process of its own: one bundle answers what it has not answered of an experiment's exams; the minutes that
    it took."""
    from pipelines.experiments import EXPERIMENTS

    pin_threads(setting.threads)
    began = time.monotonic()
    bundle = open_model(arm.bundle)
    tasks: tuple[Measured, ...] = ("describe", "bbox", "count", "vqa", "sbir")
    processor = processor_of(bundle, tasks, arm.stages[-1].processor.blind)
    parameters = sum(parameter.numel() for parameter in bundle.model.parameters())
    for exam in EXPERIMENTS[name].exams(setting):
        path = answers_file(setting, exam, arm)
        if path.is_file():
            continue
        start = time.monotonic()
        found = exam.answers(bundle, processor)
        given = [{"task": task, "condition": how, "answers": rows} for (task, how), rows in found.items()]
        record = {
            "exam": exam.name,
            "facts": dict(exam.facts),
            "fields": {task: list(FIELDS[task]) for task, _ in found if task in FIELDS},
            "answers": given,
            "minutes": (time.monotonic() - start) / 60,
            "parameters": parameters,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(record) + "\n")
    return (time.monotonic() - began) / 60


def _facts(of_seeds: Sequence[Arm], answered: Sequence[Answered]) -> ArmFacts:
    """Of an arm, over its seeds."""
    arm, seeds = of_seeds[0], len(of_seeds)
    trained = sum(minutes(stage) for one in of_seeds for stage in one.stages)
    return ArmFacts(
        name=arm.name,
        about=arm.about,
        stages=[f"{stage.stage} {stage.steps:,} x {stage.loader.batch_size}" for stage in arm.stages],
        parameters=answered[0].parameters,
        minutes=(trained + sum(one.minutes for one in answered)) / seeds,
    )
