"""Arms: models that are trained alike but for one thing, each once a seed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from pipelines import finetune, pretrain
from pipelines.stages import make_missing, texts
from sketchgen.shapeworld import CLASSES
from sketchlm.bundle import is_bundle
from sketchlm.loop import Stopped, train
from sketchlm.training import TrainConfig, settings_of


@dataclass(frozen=True)
class Setting:
    """How large an experiment is, and where it keeps what it made."""

    recipe: str = "tiny"
    """Of `make pretrain` and `make finetune`: what all arms are made of."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each arm is trained once with each: first weights, order of the data, wording of questions."""
    number: int = 500
    """Questions that a test asks of each task."""
    workers: int = 2
    """Arms that are trained, and bundles that are tested, at once."""
    threads: int = 1
    """Threads of each; results depend on it."""
    data: str = ""
    """Folder with drawings by people, each bank in a folder of its name (quickdraw, openmoji), which some experiments
    ask with; empty = $SKETCH_DATA_DIR, else data. Those that are missing are left out."""
    out: str = "out/experiments"
    """Bundles and answers, which are used again where they are there."""
    pages: str = "docs/experiments"
    """Pages, their results and plots."""
    page_only: bool = False
    """Write the page from the results that are there."""
    dry_run: bool = False
    """Say what would be trained, and stop."""


@dataclass(frozen=True)
class Arm:
    """One way to train. stages: in order, each begins with the bundle of the one before (see `chain`)."""

    name: str
    stages: tuple[TrainConfig, ...]
    about: str = ""
    """What is different about it, for the page."""

    @property
    def bundle(self) -> str:
        """What is tested."""
        return f"{self.stages[-1].out}/bundle"


def stage_one(setting: Setting, seed: int) -> TrainConfig:
    """Stage I of the setting's recipe. Raises ValueError for a recipe that there is not."""
    return _seeded(_recipe(setting, pretrain.RECIPES)(), setting, seed)


def stage_two(setting: Setting, seed: int) -> TrainConfig:
    """Stage II of the setting's recipe."""
    return replace(_seeded(_recipe(setting, finetune.RECIPES)(), setting, seed), unseen="")


def chain(setting: Setting, name: str, *stages: TrainConfig, about: str = "") -> Arm:
    """An arm of these stages. Each lies in a folder that is named after all that decides it, so that arms, and
    experiments, that begin alike share what they begin with; the first keeps its own base."""
    placed: list[TrainConfig] = []
    for stage in stages:
        if placed:
            stage = replace(stage, model=replace(stage.model, base=f"{placed[-1].out}/bundle"))
        placed.append(replace(stage, out=f"{setting.out}/runs/{stage.stage}-{_digest(stage)}"))
    return Arm(name, tuple(placed), about)


def _digest(stage: TrainConfig) -> str:
    """Of what is set otherwise than by default: a field that comes later changes the name of nothing."""
    usual, own = settings_of(TrainConfig()), settings_of(stage)
    told = {name: value for name, value in own.items() if value != usual[name]} | {"shards": stage.loader.shards}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def train_all(arms: Sequence[Arm], setting: Setting, console: Console) -> dict[str, float]:
    """Train every stage that is not there yet, `setting.workers` at once; one that was stopped goes on from its last
    checkpoint. Returns the minutes that each stage took in all its runs, by its folder.

    Raises ValueError for settings or data that cannot work, `Stopped` where it was asked to stop.
    """
    depth = max((len(arm.stages) for arm in arms), default=0)
    for level in range(depth):
        configs = {arm.stages[level].out: arm.stages[level] for arm in arms if len(arm.stages) > level}
        todo = [config for place, config in configs.items() if not is_bundle(f"{place}/bundle")]
        for config in todo:
            make_missing(config.loader.shards, config, console)
        _train_side_by_side(todo, setting, console)
    return {stage.out: minutes(stage) for arm in arms for stage in arm.stages}


def minutes(stage: TrainConfig) -> float:
    """That its training took, by what it noted when it was done; 0 where it noted nothing."""
    note = Path(stage.out) / "minutes"
    return float(note.read_text()) if note.is_file() else 0.0


def _train_side_by_side(configs: Sequence[TrainConfig], setting: Setting, console: Console) -> None:
    if not configs:
        return
    began = time.monotonic()
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(min(setting.workers, len(configs)), mp_context=spawn) as pool:
        under_way = {pool.submit(_train, config): config for config in configs}
        for number, done in enumerate(as_completed(under_way), 1):
            _tell(done, under_way[done], console)
            left = (time.monotonic() - began) / number * (len(configs) - number)
            if left:
                console.print(f"{number} of {len(configs)} trained, about {left / 60:.0f} minutes left", style="dim")


def _tell(done: Future[float], config: TrainConfig, console: Console) -> None:
    """One line for a finished stage; what went wrong in its process is raised here."""
    took = done.result()
    console.print(f"{config.stage} {Path(config.out).name}: {config.steps:,} steps, {took:.1f} minutes")


def _train(config: TrainConfig) -> float:
    """In a process of its own: train one stage; the minutes that it took."""
    began = time.monotonic()
    try:
        train(config, texts(), CLASSES, Console(quiet=True))
    except Stopped as stopped:
        raise KeyboardInterrupt(str(stopped)) from None
    took = (time.monotonic() - began) / 60
    (Path(config.out) / "minutes").write_text(f"{took:.3f}\n")
    return took


def _recipe(setting: Setting, recipes: dict[str, Callable[[], TrainConfig]]) -> Callable[[], TrainConfig]:
    if setting.recipe not in recipes:
        raise ValueError(f"recipe is {setting.recipe!r}; there are {', '.join(recipes)}")
    return recipes[setting.recipe]


def _seeded(config: TrainConfig, setting: Setting, seed: int) -> TrainConfig:
    """The same with another seed wherever chance decides."""
    return replace(
        config,
        model=replace(config.model, tiny=replace(config.model.tiny, seed=seed)),
        loader=replace(config.loader, seed=seed),
        seed=seed,
        threads=setting.threads,
        trackers=(),
        unseen="",
    )
