"""The page of an experiment, made of its results alone; what people wrote below a mark is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from pipelines.experiments.arm import Setting
from pipelines.experiments.experiment import Experiment
from pipelines.experiments.plots import TASK_WORDS
from pipelines.experiments.results import Outcome, Results, seeds_to_settle
from sketchlm.evaluation.record import write_text

BY_HAND: Final = "<!-- What follows is written by hand; what stands above is made by `make experiments`. -->"
CONDITION_WORDS: Final = {
    "shuffled": "another's sketch",
    "blank": "white page",
    "sketch": "sketch alone",
    "other": "another's colour",
    "text": "words alone",
    "pooled": "untrained search",
    "exhaustive": "every photo asked",
}
UNWRITTEN: Final = "**What it means.** Not written yet.\n\n**What would change our mind.** Not written yet."
METHOD: Final = """Figures are means over the seeds. Intervals (95 %) hold what other seeds would give (Student's t) and
what other images would give (bootstrap), added in quadrature; effects are differences on the same questions, seed by
seed. An effect is *clear* where its interval leaves out 0; else it is within the noise, and the last column says about
how many seeds would settle it, were size and spread what they seem."""


def write_page(experiment: Experiment, results: Results, setting: Setting) -> Path:
    """Write plot and page; returns the page's path."""
    page = Path(setting.pages) / f"{experiment.name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    picture = page.with_suffix(".png")
    draw(experiment, results, picture)
    _, _, by_hand = page.read_text().partition(BY_HAND) if page.is_file() else ("", "", "")
    parts = [
        f"# {experiment.title}",
        experiment.question,
        f"`make experiments NAME={experiment.name}` · {_facts(results)}",
        experiment.setup,
        _arms(results),
        METHOD,
        "## Figures",
        figures_table(results),
        *(["## Effects", effects_table(results)] if results.effects else []),
        f"![{experiment.title}]({picture.name})",
        BY_HAND,
        by_hand.strip() or UNWRITTEN,
    ]
    write_text(page, "\n\n".join(parts) + "\n")
    return page


def draw(experiment: Experiment, results: Results, path: Path) -> None:
    """The experiment's plot."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(9, 4.5), layout="constrained")
    experiment.plot(results, picture)
    picture.savefig(path, dpi=110, metadata={"Software": None})


def figures_table(results: Results) -> str:
    """A line for each figure of each exam: the arms side by side, then the controls of the first and the constant."""
    arms = [arm.name for arm in results.arms]
    conditions = [how for how in CONDITION_WORDS if any(one.condition == how for one in results.outcomes)]
    head = ["exam", "figure", "n", *arms, *(f"{arms[0]}: {CONDITION_WORDS[how]}" for how in conditions), "constant"]
    lines = []
    for exam, task, figure in _places(results):
        cells = [results.find(arm, exam, task, figure) for arm in arms]
        controls = [results.find(arms[0], exam, task, figure, how) for how in conditions]
        constant = results.constants.get(exam, {}).get(task)
        count = next(one.n for one in cells if one)
        lines.append(
            [exam, f"{TASK_WORDS.get(task, task)} {figure}", f"{count:,}"]
            + [f"{one.interval}" if one else "" for one in cells]
            + [f"{one.mean:.3f}" if one else "" for one in controls]
            + [f"{constant:.3f}" if constant is not None else ""]
        )
    return markdown(_without_empty([head, *lines]))


def effects_table(results: Results) -> str:
    """A line for each comparison of two arms."""
    head = ["exam", "figure", "difference", "", "each seed", "verdict"]
    lines = []
    for one in results.effects:
        lines.append(
            [
                one.exam,
                f"{TASK_WORDS.get(one.task, one.task)} {one.figure}",
                f"{one.arm} above {one.against}" if one.against else f"{one.arm}: above {one.baseline}",
                signed(one),
                " ".join(f"{value:+.3f}" for value in one.values),
                verdict(one),
            ]
        )
    return markdown([head, *lines])


def signed(outcome: Outcome) -> str:
    """`+0.012 (-0.010 to +0.034)`."""
    found = outcome.interval
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def verdict(outcome: Outcome) -> str:
    """Whether a difference is clear of the noise, and if not what would settle it."""
    if outcome.is_clear:
        return f"**clear**: {'higher' if outcome.mean > 0 else 'lower'}"
    number = seeds_to_settle(outcome)
    return f"within the noise: {f'some {number} seeds' if number else 'more images, or no number of seeds'}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, its first row the head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def _facts(results: Results) -> str:
    seeds = ", ".join(map(str, results.seeds))
    return (
        f"recipe `{results.recipe}`, seeds {seeds}; {results.minutes:.0f} minutes of one thread in all, what arms and "
        f"experiments share counted each time; {results.date}, commit {results.commit}"
    )


def _arms(results: Results) -> str:
    rows = [["arm", "what it is", "stages: steps x batch", "parameters", "minutes a seed"]]
    for arm in results.arms:
        size = f"{arm.parameters / 1e6:.2f} M"
        rows.append([f"**{arm.name}**", arm.about, ", ".join(arm.stages), size, f"{arm.minutes:.0f}"])
    return markdown(rows)


def _places(results: Results) -> Iterable[tuple[str, str, str]]:
    """Exam, task and figure of all lines, in order."""
    return dict.fromkeys((one.exam, one.task, one.figure) for one in results.outcomes if not one.is_effect)


def _without_empty(rows: list[list[str]]) -> list[list[str]]:
    """Columns in which nothing stands are left out."""
    kept = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
    return [[row[place] for place in kept] for row in rows]
