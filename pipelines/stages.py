"""What `make pretrain` and `make finetune` share: shards that are missing, the warm start, one stage, errors."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pipelines import instructions
from pipelines.exits import clean_exit
from pipelines.judging import judge, save, show
from pipelines.recipes import choose
from sketchgen.shapeworld import CLASSES
from sketchgen.tasks import vocabulary
from sketchlm.bundle import is_bundle
from sketchlm.loop import Stopped, train
from sketchlm.parallel import leave
from sketchlm.prompt import words
from sketchlm.training import TrainConfig, check, warm_start

Recipe = Callable[[], TrainConfig]
POLL_SECONDS = 2.0


def command(recipes: dict[str, Recipe], prog: str, description: str, before: dict[str, Recipe] | None = None) -> None:
    """Parse the recipe's name and its overrides, and run the stage. before: recipes of the stage that comes first."""
    with clean_exit("run the same command to go on from the last checkpoint"):
        config = choose(recipes, prog, description)
        console = Console(highlight=False, quiet=bool(int(os.environ.get("RANK", 0))))
        try:
            ready = after(config, before or {})
            if ready.model.base != config.model.base:
                absent = f"{config.model.base} is not there yet: planned with the shapes of {ready.model.base}"
                console.print(absent, soft_wrap=True)
            run(ready, console)
        except FloatingPointError as error:
            raise ValueError(str(error)) from None
        except Stopped as stopped:
            Console(stderr=True, highlight=False).print(str(stopped))
            sys.exit(stopped.code)
        finally:
            leave()


def after(config: TrainConfig, before: dict[str, Recipe]) -> TrainConfig:
    """The same, where the bundle that it starts from is there. A dry run does not need it: the base that the stage
    before would train has the same shapes.

    Raises ValueError where that stage has to be run first.
    """
    base = config.model.base
    if not before or Path(base).name != "bundle" or is_bundle(base):
        return config
    parts = Path(base).parts[-3:-1]
    stage, recipe = parts if len(parts) == 2 and parts[0] in ("pretrain", "finetune") else ("pretrain", config.recipe)
    first = before.get(recipe)
    if config.dry_run and first:
        return replace(config, model=replace(config.model, base=first().model.base))
    raise ValueError(
        f"model.base: there is no bundle at {base}; run `make {stage} RECIPE={recipe}` first, or name the one to start "
        "from: --model.base FOLDER"
    )


def run(config: TrainConfig, console: Console) -> Path:
    """One stage with what it builds on; returns the bundle."""
    from accelerate.utils import set_seed

    set_seed(config.seed)
    check(config)
    make_missing(config.loader.shards, config, console)
    if config.warm.steps and config.model.base == "tiny":
        before = warm_start(config)
        bundle = Path(before.out) / "bundle"
        if config.dry_run or not is_bundle(str(bundle)):
            train(before, texts(), CLASSES, console)
        if not config.dry_run:
            config = replace(config, model=replace(config.model, base=str(bundle)))
    bundle = train(config, texts(), CLASSES, console)
    if not config.dry_run:
        console.print(f"bundle: [bold]{bundle}[/]")
        if config.unseen and not int(os.environ.get("RANK", 0)):
            judge_unseen(bundle, config, console)
    return bundle


def judge_unseen(bundle: Path, config: TrainConfig, console: Console) -> None:
    """What the bundle answers on shards that training never saw, shown and kept as `unseen.json` beside it."""
    make_missing(config.unseen, config, console)
    blind, tasks = config.processor.blind, config.processor.tasks
    found = judge(bundle, config.unseen, tasks, config.unseen_limit, blind, device=config.device)
    show(found, f"{config.unseen_limit} unseen samples of {config.unseen}", console)
    save(found, bundle.with_name("unseen.json"))


def make_missing(shards: str, config: TrainConfig, console: Console) -> None:
    """Shards of the embedded default where they are missing: the first process of a launch makes them, the others wait
    until they are there.
    """
    for name, place in instructions.places().items():
        if config.dry_run or Path(place).absolute() != Path(shards).absolute():
            continue
        if not int(os.environ.get("RANK", 0)):
            instructions.ensure(name, console)
        while not instructions.is_made(name):
            time.sleep(POLL_SECONDS)


def texts() -> list[str]:
    """What a tokenizer made from nothing has to know: templates, generated answers, class names."""
    return [*words(), *vocabulary(), *CLASSES]
