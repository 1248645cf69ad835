"""`make bench-learn`: does it learn from the sketch? Trains arms that differ in one thing, judges all on unseen scenes.

    python -m benchmarks.learn --recipe learn                 the model and its blind twin
    python -m benchmarks.learn --recipe learn --experiment stages      stage I on / off, equal compute
    python -m benchmarks.learn --recipe learn --experiment connector   frozen / LoRA / full

Every arm goes on where it was stopped; the tables in benchmarks/learn.md are made from out/learn/*.json.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from pipelines import finetune, instructions, pretrain, stages
from sketchgen.shapeworld import CLASSES
from sketchlm.bundle import load_bundle
from sketchlm.evaluate import collect, constants, evaluate, shuffled, summarise
from sketchlm.loop import pin_threads, train
from sketchlm.model import num_image_tokens, unwrap
from sketchlm.processor import Processor, ProcessorConfig
from sketchlm.shards import read_samples
from sketchlm.training import TrainConfig, warm_start

HERE = Path(__file__).parent
FIGURES = ("SBIR balanced accuracy", "COUNT exact, class present", "BBOX Acc@0.5", "BBOX mean IoU", "VQA exact")


@dataclass(frozen=True)
class Options:
    """What to train and judge."""

    recipe: Literal["tiny", "learn"] = "learn"
    experiment: Literal["main", "stages", "connector"] = "main"
    arms: tuple[str, ...] = ()
    """Only these arms of the experiment; empty = all."""
    out: str = "out/learn"
    seed: int = 0
    threads: int = 2
    limit: int = 600
    """Unseen scenes that all are judged on."""
    judge_only: bool = False
    """Write the tables from what is there."""


@dataclass(frozen=True)
class Arm:
    """One trained model: its stages, in order (each starts from the bundle of the one before)."""

    name: str
    stages: tuple[TrainConfig, ...]
    blind: bool = False


def arms_of(options: Options) -> list[Arm]:
    """The arms of an experiment; all start from the same warm tower but the blind twin, which never saw a sketch."""
    first = replace(pretrain.RECIPES[options.recipe](), seed=options.seed, threads=options.threads)
    second = replace(finetune.RECIPES[options.recipe](), seed=options.seed, threads=options.threads)
    if options.experiment == "main":
        return [chain(options, "sketch", first, second), chain(options, "blind", first, second, blind=True)]
    if options.experiment == "stages":
        long = replace(second, steps=second.steps + first.steps)
        return [chain(options, "sketch", first, second), chain(options, "no-stage-one", None, long)]
    arms = [chain(options, "sketch", first, second)]
    for how in ("lora", "frozen"):
        one, two = (replace(c, model=replace(c.model, connector=how)) for c in (first, second))
        arms.append(chain(options, f"connector-{how}", one, two))
    return arms


def chain(options: Options, name: str, first: TrainConfig | None, second: TrainConfig, blind: bool = False) -> Arm:
    """Warm start, stage I, stage II, each from the one before; the warm start is shared by all that see."""
    begin = pretrain.RECIPES[options.recipe]()
    tower = replace(warm_start(begin), seed=options.seed, threads=options.threads)
    tower = replace(tower, out=f"{options.out}/{'blind' if blind else 'shared'}/tower")
    configs = [tower]
    for config, place in ((first, "pretrain"), (second, "finetune")):
        if config is not None:
            base = f"{configs[-1].out}/bundle"
            model = replace(config.model, base=base)
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


def judge(arm: Arm, options: Options) -> dict[str, dict[str, Any]]:
    """Figures of the arm, of the arm with sketches shuffled between questions, and of the best constant."""
    pin_threads(options.threads)
    bundle = load_bundle(f"{arm.stages[-1].out}/bundle")
    vision = unwrap(bundle.model).config.vision_config
    config = ProcessorConfig(prompt=bundle.info.prompt, tasks=finetune.TASKS, blind=arm.blind)
    processor = Processor(bundle.tokenizer, vision.image_size, num_image_tokens(bundle.model), config)
    asked = collect(islice(read_samples(f"out/instructions/{options.recipe}_val"), options.limit), processor)
    found: dict[str, dict[str, Any]] = {}
    for name in ("as trained",) if arm.blind else ("as trained", "shuffled"):
        questions = asked if name == "as trained" else {task: shuffled(them) for task, them in asked.items()}
        scores = evaluate(bundle.model, processor, questions)
        found[name] = {key: asdict(value) for key, value in summarise(questions, scores).items()}
    found["constant"] = {key: {"value": value} for key, value in constants(asked, processor).items()}
    return found


def main() -> None:
    """Train, judge, write."""
    options = tyro.cli(Options, description=__doc__)
    console = Console(highlight=False)
    for recipe in (options.recipe, f"{options.recipe}_val"):
        instructions.ensure(recipe, console)
    for arm in arms_of(options):
        if options.arms and arm.name not in options.arms:
            continue
        place = Path(options.out) / f"{arm.name}.json"
        if not options.judge_only:
            seconds = train_arm(arm, console)
            figures = judge(arm, options)
            record = {"arm": arm.name, "recipe": options.recipe, "seconds": seconds, "figures": figures}
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(record, indent=1))
        if place.is_file():
            print_figures(json.loads(place.read_text()), console)


def print_figures(record: dict[str, Any], console: Console) -> None:
    """One line for each figure: as trained, and the controls."""
    for control, figures in record["figures"].items():
        for name, figure in figures.items():
            interval = f" ({figure['low']:.3f}-{figure['high']:.3f}, n = {figure['n']})" if "low" in figure else ""
            console.print(f"{record['arm']:16} {control:12} {name:28} {figure['value']:.3f}{interval}")


if __name__ == "__main__":
    main()
