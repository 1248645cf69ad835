"""`make bench-learn`: does it learn from the sketch? Trains a model and its blind twin, judges both on unseen scenes.

Both go on where they were stopped; benchmarks/learn.md is made from out/learn/*.json. What differs between ways to
train is what `make experiments` tells.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from pipelines import finetune, instructions, pretrain, stages
from pipelines.commit import commit
from pipelines.judging import MEASURES, Scores, judge, show
from sketchgen.shapeworld import CLASSES
from sketchlm.loop import train
from sketchlm.metrics import Figure, differences
from sketchlm.threads import pin_threads
from sketchlm.training import TrainConfig, warm_start

HERE = Path(__file__).parent
PAGE, CURVES = HERE / "learn.md", HERE / "learn.png"
BY_HAND = "<!-- What follows is written by hand; what stands above is made by `make bench-learn`. -->"
SMOOTH = 0.97
"""Weight of the past in the curves."""


@dataclass(frozen=True)
class Options:
    """What to train and judge."""

    recipe: Literal["tiny", "learn"] = "learn"
    out: str = "out/learn"
    seed: int = 0
    threads: int = 2
    limit: int = 600
    """Unseen scenes that all are judged on."""
    page_only: bool = False
    """Write the page from the results that are there."""


@dataclass(frozen=True)
class Arm:
    """One trained model: its stages, in order (each starts from the bundle of the one before)."""

    name: str
    stages: tuple[TrainConfig, ...]
    blind: bool = False


def arms_of(options: Options) -> list[Arm]:
    """The model and its blind twin, which never sees a sketch."""
    first = replace(pretrain.RECIPES[options.recipe](), seed=options.seed, threads=options.threads)
    second = replace(finetune.RECIPES[options.recipe](), seed=options.seed, threads=options.threads)
    return [chain(options, "sketch", first, second), chain(options, "blind", first, second, blind=True)]


def chain(options: Options, name: str, first: TrainConfig, second: TrainConfig, blind: bool = False) -> Arm:
    """Warm start (where the recipe has one), stage I, stage II, each from the one before."""
    begin = pretrain.RECIPES[options.recipe]()
    configs: list[TrainConfig] = []
    if begin.warm.steps:
        tower = replace(warm_start(begin), seed=options.seed, threads=options.threads)
        configs.append(replace(tower, out=f"{options.out}/{'blind' if blind else 'shared'}/tower"))
    for config, place in ((first, "pretrain"), (second, "finetune")):
        model = replace(config.model, base=f"{configs[-1].out}/bundle" if configs else begin.model.base)
        configs.append(replace(config, model=model, out=f"{options.out}/{name}/{place}"))
    if blind:
        configs = [replace(c, processor=replace(c.processor, blind=True)) for c in configs]
    return Arm(name, tuple(configs), blind)


def train_arm(arm: Arm, console: Console) -> float:
    """Train what is missing; returns the seconds it took now."""
    began = time.perf_counter()
    for config in arm.stages:
        if not (Path(config.out) / "bundle").is_dir():
            train(config, stages.texts(), CLASSES, console)
    return time.perf_counter() - began


def judge_arm(arm: Arm, options: Options, seconds: float, console: Console) -> dict[str, Any]:
    """Its answers to all questions on unseen scenes, and the controls, as `out/learn/ARM.json` holds them."""
    pin_threads(options.threads)
    shards = f"out/instructions/{options.recipe}_val"
    found = judge(f"{arm.stages[-1].out}/bundle", shards, finetune.TASKS, options.limit, arm.blind)
    show(found, f"{arm.name}: {options.limit} unseen scenes", console)
    steps = {config.stage: config.steps for config in arm.stages}
    brush: dict[str, Any] = {}
    if arm.name == "sketch" and options.recipe == "learn":
        others = instructions.ensure("learn_brush", console)
        found_brush = judge(f"{arm.stages[-1].out}/bundle", others, finetune.TASKS, options.limit, controls=False)
        brush = {name: scores._asdict() for name, scores in found_brush.trained.items()}
    return {
        "arm": arm.name,
        "recipe": options.recipe,
        "threads": options.threads,
        "seed": options.seed,
        "seconds": seconds,
        "steps": steps,
        "logs": [f"{config.out}/log.jsonl" for config in arm.stages],
        "trained": {name: scores._asdict() for name, scores in found.trained.items()},
        "shuffled": {name: scores._asdict() for name, scores in found.shuffled.items()},
        "constant": found.constant,
        "brush": brush,
    }


def main() -> None:
    """Train, judge, write."""
    options = tyro.cli(Options, description=__doc__)
    console = Console(highlight=False)
    arms = [] if options.page_only else arms_of(options)
    for recipe in (options.recipe, f"{options.recipe}_val") if arms else ():
        instructions.ensure(recipe, console)
    code = commit()
    for arm in arms:
        place = Path(options.out) / f"{arm.name}.json"
        before = json.loads(place.read_text())["seconds"] if place.is_file() else 0.0
        seconds = before + train_arm(arm, console)
        place.parent.mkdir(parents=True, exist_ok=True)
        record = judge_arm(arm, options, seconds, console) | {"commit": code, "date": str(date.today())}
        place.write_text(json.dumps(record) + "\n")
    found = [json.loads(path.read_text()) for path in sorted(Path(options.out).glob("*.json"))]
    records = {record["arm"]: record for record in found}
    write_page(records, options)
    console.print(f"written: {PAGE}, {CURVES}")


def write_page(records: dict[str, dict[str, Any]], options: Options) -> None:
    """`learn.md` over what was written by hand, and the curves; where an arm is missing the table stays as it was."""
    parts = [
        "# Does it learn from the sketch?",
        "`make bench-learn` trains a model and its blind twin and judges both on the same unseen scenes with unseen\n"
        "sketches. `python -m benchmarks.learn --help` says how; 95 % intervals are over images drawn anew.",
        f"Recipe `{options.recipe}`.",
    ]
    made, _, by_hand = PAGE.read_text().partition(BY_HAND) if PAGE.is_file() else ("", "", "")
    there = [records[name] for name in ("sketch", "blind") if name in records]
    if len(there) == 2:
        parts += [TITLE, TEXT, table_of(there), costs_of(there)]
        draw_curves(there)
        parts.append(f"![The loss of each task over the steps of stage II]({CURVES.name})")
    elif TITLE in made:
        parts.append(made[made.index(TITLE) :].strip())
    PAGE.write_text("\n\n".join([*parts, BY_HAND, by_hand.strip()]) + "\n")


TITLE = "## The model and its blind twin"
TEXT = (
    "The twin is trained and judged in the same way, but every sketch is a white page. Shuffled: the model gets\n"
    "the sketch of another question. Constant: the best answer that is always the same (for boxes the mean box)."
)


def table_of(records: Sequence[dict[str, Any]]) -> str:
    """A figure a line; the first arm with its controls, the others with how far the first is above them."""
    first, *others = records
    head = ["", first["arm"], "shuffled", "constant"]
    if first["brush"]:
        head.insert(2, "in the held-out style")
    for other in others:
        head += [other["arm"], f"{first['arm']} above {other['arm']}"]
    lines = [head, ["---"] * len(head)]
    for name, stored in first["trained"].items():
        scores = Scores(**stored)
        swapped, constant = first["shuffled"].get(name), first["constant"].get(name)
        line = [
            f"{name} (n = {len(scores.rows)})",
            f"**{scores.figure()}**",
            str(Scores(**swapped).figure()) if swapped else "",
            f"{constant:.3f}" if constant is not None else "",
        ]
        if first["brush"]:
            line.insert(2, str(Scores(**first["brush"][name]).figure()))
        for other in others:
            theirs = Scores(**other["trained"][name])
            line += [str(theirs.figure()), str(above(scores, theirs))]
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def above(mine: Scores, theirs: Scores) -> Figure:
    """How much higher one is than another on the same questions, with the interval of the difference.

    Raises ValueError for answers to different questions.
    """
    if mine.images != theirs.images:
        raise ValueError(f"{len(mine.images)} and {len(theirs.images)} answers to different questions")
    return differences(mine.rows, theirs.rows, {"": MEASURES[mine.measure]}, mine.images)[""]


def costs_of(records: Sequence[dict[str, Any]]) -> str:
    """What each arm cost."""
    return "\n".join(
        f"- {record['arm']}: "
        + ", ".join(f"{count:,} steps of {stage}" for stage, count in record["steps"].items())
        + f"; {record['seconds'] / 60:.0f} minutes here on {record['threads']} thread(s), what it shares with an arm "
        f"before it not counted; {record['date']}, commit {record['commit']}"
        for record in records
    )


def draw_curves(records: Sequence[dict[str, Any]]) -> None:
    """The loss of each task over the steps of stage II."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(9, 5), layout="constrained")
    panels = picture.subplots(2, 2).flat
    for panel, task in zip(panels, finetune.TASKS, strict=True):
        top = 0.0
        for record, style in zip(records, ("-", "--"), strict=False):
            steps, losses = smoothed(Path(record["logs"][-1]), f"loss_{task}")
            panel.plot(steps, losses, style, label=record["arm"], linewidth=1.5)
            top = max(top, losses[len(losses) // 5])
        panel.set(title=task, xlabel="step", ylabel="cross entropy, nats a token", ylim=(0, 1.5 * top))
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    picture.savefig(CURVES, dpi=110)


def smoothed(log: Path, name: str) -> tuple[list[int], list[float]]:
    """Steps, and the running mean of a value of `log.jsonl`."""
    steps: list[int] = []
    values: list[float] = []
    for line in map(json.loads, log.read_text().splitlines()):
        if name in line:
            past = values[-1] if values else line[name]
            weight = min(SMOOTH, len(values) / (len(values) + 1))
            steps.append(line["step"])
            values.append(weight * past + (1 - weight) * line[name])
    return steps, values


if __name__ == "__main__":
    main()
