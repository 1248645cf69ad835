"""The page of an experiment, made of its results alone; what people wrote below a mark is kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from data_manifests.schema import Measured
from pipelines.experiments.arm import Setting
from pipelines.experiments.exam import COARSE, FIGURES
from pipelines.experiments.experiment import Experiment, page_name
from pipelines.experiments.plots import TASK_WORDS, exam_words, forest, markdown, signed
from pipelines.experiments.results import CONTROL, Outcome, Results, seeds_to_settle
from pipelines.experiments.signatures import signatures
from sketchlm.evaluation.record import write_text
from sketchlm.evaluation.report import Signature
from sketchlm.evaluation.report.task import glossary

MARK: Final = re.compile(r"<!-- What follows is written by hand, of the figures (\w+); what stands above is made. -->")
EARLIER: Final = "*Written of the figures of an earlier run, before those above.*"
UNWRITTEN: Final = "**What it means.** Not written yet.\n\n**What would change our mind.** Not written yet."
METHOD: Final = """Figures are means over the seeds. Intervals (95 %) hold what other seeds would give (Student's t) and
what other images would give, of galleries other sketches (bootstrap of the mean over seeds), in quadrature; the scenes
of training are the same for all seeds. Effects are differences on the same questions, seed by seed. One is *clear*
where its interval leaves out 0; else it is within the noise, and the verdict says with how many seeds there would be an
even chance to settle it, were size and spread what they seem. `constant`: the best answer that is always the same.

The tower is the same for all seeds where the recipe has one that comes with the package, as `tiny` has: that of the
demonstration model, frozen. It was trained on shapeworld in these very tasks, grounding included, and to name drawings
and patches of photos alike: unlike CLIP it knows both. Parameters are those of the whole model, frozen ones included;
minutes are of a machine that did other things as well, so that they compare nothing."""


SIGNATURES: Final = """Four ways to fail that the project's notes on the paper tell to watch for, looked for by the
limits of the evaluation reports: the first in `connector`, the second in `styles` and `sources`, the third in every
experiment that asks both in one exam, the last in `crowds`. One is seen, or not, only where the interval says so. What
`quickdraw` and `openmoji` were is said on the page of `styles`."""
INDEX: Final = """The paper's claims and its open questions, at a scale that a laptop trains: shapeworld and a LLaVA of
2.6 million parameters. `make experiments NAME=...` makes a page anew, and this list; what stands below the figures of a
page was written by hand."""


def write_page(experiment: Experiment, results: Results, setting: Setting) -> Path:
    """Write plot and page; returns the page's path. What people wrote below the mark stays, and says so where it was
    written of other figures."""
    page = Path(setting.pages_folder) / f"{page_name(setting, experiment.name)}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    picture = page.with_suffix(".png")
    draw(experiment, results, picture)
    this = digest_of(results)
    written_of, by_hand = read_by_hand(page.read_text() if page.is_file() else "", this)
    parts = [
        f"# {experiment.title}",
        experiment.question,
        f"`{command_of(results)}` · {_facts(results)}",
        experiment.setup,
        _arms(results),
        METHOD,
        "## Figures",
        figures_table(results),
        figures_told(results),
        *(["## Effects", effects_table(results), by_chance(results)] if results.effects else []),
        *([told] if (told := experiment.told(results)) else []),
        f"![{experiment.title}]({picture.name})",
        f"<!-- What follows is written by hand, of the figures {written_of}; what stands above is made. -->",
        *([EARLIER] if written_of != this else []),
        by_hand or UNWRITTEN,
    ]
    write_text(page, "\n\n".join(parts) + "\n")
    return page


def digest_of(results: Results) -> str:
    """Of the figures, to three places: the same where they are, whenever and by whatever code they were worked out."""
    told = [[*one.model_dump(exclude={"values", "error", "single"}).values(), *(f"{v:.3f}" for v in one.values)]
            for one in results.outcomes]  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]


def read_by_hand(text: str, this: str) -> tuple[str, str]:
    """Of which figures the text below the mark was written, and the text; of `this` where nobody has written anything.
    To renew the text for other figures, its mark is given their digest (see `digest_of`)."""
    mark = MARK.search(text)
    by_hand = text[mark.end() :].strip() if mark else ""
    if not mark or not by_hand or by_hand == UNWRITTEN:
        return this, ""
    return mark[1], by_hand.removeprefix(EARLIER).strip()


def command_of(results: Results) -> str:
    """The command that makes the page."""
    usual = Setting()
    own = []
    if results.recipe != usual.recipe:
        own.append(f"--recipe {results.recipe}")
    if tuple(results.seeds) != usual.seeds:
        own.append("--seeds " + " ".join(map(str, results.seeds)))
    if results.number != usual.number:
        own.append(f"--number {results.number}")
    if results.threads != usual.threads:
        own.append(f"--threads {results.threads}")
    if results.extra.get("folders"):
        own.append("--data DIR")
    given = f' ARGS="{" ".join(own)}"' if own else ""
    return f"make experiments NAME={results.name}{given}"


def by_chance(results: Results) -> str:
    """How many effects would be clear of themselves."""
    clear, number = clear_of(results)
    beside = " (those against the blind control left out)" if number < len(results.effects) else ""
    chance = f"were there none at all, {0.05 * number:.1f} would be, by chance"
    return f"Of {number} effects{beside} {clear} are clear; {chance}."


def clear_of(results: Results) -> tuple[int, int]:
    """How many effects are clear, and of how many. That a model beats the blind control only says that it works."""
    told = [one.is_clear for one in results.effects if one.against != CONTROL]
    return sum(told), len(told)


def draw(experiment: Experiment, results: Results, path: Path) -> None:
    """The experiment's plot."""
    from matplotlib.figure import Figure

    rows = len(results.effects) if experiment.plot is forest else 0
    picture = Figure(figsize=(9, max(4.5, 0.55 * rows + 0.8)), layout="constrained")
    experiment.plot(results, picture)
    picture.savefig(path, dpi=110, metadata={"Software": None})


def figures_table(results: Results) -> str:
    """A line for each figure of each exam and condition: the arms side by side, and the constant."""
    arms = [arm.name for arm in results.arms]
    lines = []
    for exam, condition, task, figure in dict.fromkeys(
        (one.exam, one.condition, one.task, one.figure) for one in results.outcomes if not one.is_effect
    ):
        cells = [results.find(arm, exam, task, figure, condition) for arm in arms]
        constant = results.constants.get(exam, {}).get(task) if condition not in ("shuffled", "blank") else None
        lines.append(
            [exam_words(exam, condition), f"{TASK_WORDS.get(task, task)} {figure}"]
            + [f"{next(one.n for one in cells if one):,}"]
            + [f"{one.interval}" if one else "" for one in cells]
            + [f"{constant:.3f}" if constant is not None and figure == FIGURES.get(task) else ""]
        )
    return markdown(_without_empty([["exam", "figure", "n", *arms, "constant"], *lines]))


def figures_told(results: Results) -> str:
    """What the figures say, each once."""
    there: dict[str, list[str]] = {}
    for one in results.outcomes:
        there.setdefault(one.task, []).append(one.figure)
    said = {name: what for task, names in there.items() for name, what in _meanings(task, names)}
    return "; ".join(f"{name}: {what}" for name, what in said.items()) + "."


def _meanings(task: str, names: Sequence[str]) -> list[tuple[str, str]]:
    if task == COARSE:
        return [("kept", "of what the model ranks first, the share that a coarse search keeps")]
    return [one for one in glossary(names, cast(Measured, task)) if one[0] != "own"]  # which object, the setup says


def effects_table(results: Results) -> str:
    """A line for each comparison of two arms."""
    head = ["exam", "figure", "difference", "", "each seed", "verdict"]
    lines = []
    for one in results.effects:
        lines.append(
            [
                exam_words(one.exam, one.condition),
                f"{TASK_WORDS.get(one.task, one.task)} {one.figure}",
                f"{one.arm} above {one.against}" if one.against else f"{one.arm}: above {one.baseline}",
                signed(one.interval),
                " ".join(f"{value:+.3f}" for value in one.values),
                verdict(one),
            ]
        )
    return markdown([head, *lines])


def verdict(outcome: Outcome) -> str:
    """Whether a difference is clear of the noise, and if not what would settle it."""
    if len(outcome.values) < 2:
        return "one seed tells nothing of others"
    if outcome.is_clear:
        return f"**clear**: {'higher' if outcome.mean > 0 else 'lower'}"
    number = seeds_to_settle(outcome)
    return f"within the noise: {f'some {number} seeds' if number else 'too small, or too few images'}"


def _facts(results: Results) -> str:
    seeds = ", ".join(map(str, results.seeds))
    threads = "one thread" if results.threads == 1 else f"{results.threads} threads"
    return (
        f"recipe `{results.recipe}`, seeds {seeds}; {results.minutes:.0f} minutes of {threads} in all, what arms and "
        f"experiments share counted each time; {results.date}, commit {results.commit}"
    )


def _arms(results: Results) -> str:
    rows = [["arm", "what it is", "stages: steps x batch", "parameters", "minutes a seed"]]
    for arm in results.arms:
        size = f"{arm.parameters / 1e6:.2f} M"
        rows.append([f"**{arm.name}**", arm.about, ", ".join(arm.stages), size, f"{arm.minutes:.0f}"])
    return markdown(rows)


def _without_empty(rows: list[list[str]]) -> list[list[str]]:
    """Columns in which nothing stands are left out."""
    kept = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
    return [[row[place] for place in kept] for row in rows]


def write_index(experiments: Mapping[str, Experiment], results: Mapping[str, Results], setting: Setting) -> Path:
    """`README.md` beside the pages: a line for each experiment, its effects that are clear counted, and whether the
    paper's failure signatures are seen in any. results: as `all_results` finds them."""
    rows = [["experiment", "question", "results", "effects: clear, of all", "what it means"]]
    for name, experiment in experiments.items():
        there = {page: one for page, one in results.items() if one.name == name}
        rows += [_index_row(Path(setting.pages_folder) / f"{page}.md", experiment, one) for page, one in there.items()]
        rows += [] if there else [[name, experiment.title, "none yet", "", ""]]
    parts = ["# Experiments", INDEX, markdown(rows), "## The paper's failure signatures", SIGNATURES]
    index = Path(setting.pages_folder) / "README.md"
    write_text(index, "\n\n".join([*parts, signatures_table(signatures(list(results.values())))]) + "\n")
    return index


def _index_row(page: Path, experiment: Experiment, results: Results) -> list[str]:
    clear, number = clear_of(results)
    small = results.recipe == Setting.recipe
    run = f"{results.date}, {len(results.seeds)} seeds" + ("" if small else f", recipe `{results.recipe}`")
    means = headline(page.read_text()) if page.is_file() else ""
    return [f"[{page.stem}]({page.name})", experiment.title, run, f"{clear} of {number}", means]


def headline(text: str) -> str:
    """The first sentence of what people wrote that the results mean; "" where they wrote nothing."""
    _, by_hand = read_by_hand(text, "")
    found = re.search(r"\*\*What it means\.\*\* (.+?[.?!])(\s|$)", by_hand, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def signatures_table(found: Sequence[Signature]) -> str:
    """A line for each signature."""
    head = ["signature", "", "rule", "numbers (95 %)"]
    return markdown([head, *([one.name, f"**{one.verdict}**", one.rule, one.told] for one in found)])
