"""Arms: models that are trained alike but for one thing, each once a seed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from rich.console import Console

from pipelines import finetune, instructions, pretrain
from pipelines.experiments.pool import side_by_side
from pipelines.experiments.results import CONTROL
from pipelines.stages import make_missing, texts
from sketchgen.instructions import InstructionsConfig
from sketchgen.shapeworld import CLASSES
from sketchlm.bundle import is_bundle
from sketchlm.loop import Stopped, train
from sketchlm.progress import duration
from sketchlm.training import TrainConfig, read_settings, settings_of, warm_start
from sketchlm.weights import shipped

MINUTES = "minutes"
"""File of a stage's folder: how long it took."""
SHARDS = "shards"
"""Another: what it was trained on."""
PAGES = "docs/experiments"
"""The pages of the project."""


WEIGHTS = ("model.base", "model.tower_weights")
"""Settings that may name a model that comes with the package, wherever that lies."""


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
    pages: str = ""
    """Pages, their results and plots; empty = docs/experiments, or `pages` in `out` for fewer seeds or questions than
    usual, so that a try replaces nothing."""
    page_only: bool = False
    """Write the page from the results that are there."""
    dry_run: bool = False
    """Say what would be trained, and stop."""

    @property
    def pages_folder(self) -> str:
        """Where the pages go."""
        is_try = len(self.seeds) < len(Setting.seeds) or self.number < Setting.number
        return self.pages or (f"{self.out}/pages" if is_try else PAGES)

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds) or not self.seeds:
            raise ValueError(f"seeds are {self.seeds}: name one at least, and none twice")
        if self.number < 1 or self.workers < 1 or self.threads < 1:
            raise ValueError(
                f"number is {self.number}, workers {self.workers}, threads {self.threads}: each must be 1 or more"
            )


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
    return _seeded(_recipe(setting, finetune.RECIPES)(), setting, seed)


def both_stages(setting: Setting, seed: int) -> tuple[TrainConfig, TrainConfig]:
    """Stage I and II."""
    return stage_one(setting, seed), stage_two(setting, seed)


def begun_with(stage: TrainConfig, first: TrainConfig) -> TrainConfig:
    """A later stage as the first one: it begins with what `first` begins with, the warm start included."""
    return replace(stage, model=first.model, warm=first.warm)


def scenes(setting: Setting) -> InstructionsConfig:
    """The scenes of shapeworld that experiments change: those of the recipe, or of `tiny` where it trains on others."""
    return instructions.RECIPES.get(setting.recipe, instructions.tiny)()


def shards_of(setting: Setting, name: str) -> str:
    """The folder of shards that an experiment makes of them."""
    usual = setting.recipe == Setting.recipe
    return f"{setting.out}/shards/{name if usual else f'{setting.recipe}-{name}'}"


def chain(setting: Setting, name: str, *stages: TrainConfig, about: str = "") -> Arm:
    """An arm of these stages. Each lies in a folder that is named after all that decides it, so that arms, and
    experiments, that begin alike share what they begin with; the first keeps its own base. A tower that is made from
    nothing is trained before, as `make pretrain` does: the same one for all arms of a seed but those that are blind."""
    placed: list[TrainConfig] = []
    if stages[0].warm.steps and stages[0].model.base == "tiny":
        one = stage_one(setting, stages[0].seed)
        processor = replace(one.processor, blind=stages[0].processor.blind)
        stages = (warm_start(replace(one, processor=processor)), *stages)
    for stage in stages:
        if placed:
            stage = replace(stage, model=replace(stage.model, base=f"{placed[-1].out}/bundle"))
        placed.append(replace(stage, out=f"{setting.out}/runs/{stage.stage}-{_digest(stage)}"))
    return Arm(name, tuple(placed), about)


def _digest(stage: TrainConfig) -> str:
    """Of its settings (those that are as by default now are left out: a field that comes later renames nothing), its
    threads, its shards, and the weights that come with the package and serve it."""
    usual, own = settings_of(TrainConfig()), settings_of(stage)
    told = {name: value for name, value in own.items() if value != usual[name]}
    told |= {"shards": stage.loader.shards, "threads": stage.threads}
    for name in WEIGHTS:
        folder = shipped_folder(str(own[name]))
        if folder:
            told[name] = _weights_digest(folder)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def shipped_folder(name: str) -> Path | None:
    """The folder of a model that comes with the package, by its name or path; None for others."""
    folder = shipped(name)  # an absolute path stays as it is
    return folder if folder.parent == shipped(".") and is_bundle(str(folder)) else None


@lru_cache
def _weights_digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12]


def train_all(arms: Sequence[Arm], setting: Setting, console: Console) -> None:
    """Train every stage that is not there yet, `setting.workers` at once; one that was stopped goes on from its last
    checkpoint.

    Raises ValueError for settings or data that cannot work, and for a loss that is no number any more;
    KeyboardInterrupt where it was asked to stop.
    """
    places = {stage.out: stage for arm in arms for stage in arm.stages}
    for stage in {stage.loader.shards: stage for stage in places.values()}.values():
        make_missing(stage.loader.shards, stage, console)
    todo = [stage for stage in places.values() if not _is_made(stage)]
    made_by = {f"{stage.out}/bundle": number for number, stage in enumerate(todo)}
    after = {number: made_by[one.model.base] for number, one in enumerate(todo) if one.model.base in made_by}
    began = time.monotonic()
    for number, (stage, took) in enumerate(side_by_side(_train, todo, setting.workers, after), 1):
        left = (time.monotonic() - began) / number * (len(todo) - number)
        console.print(
            f"{stage.stage} {Path(stage.out).name}: {stage.steps:,} steps, {took:.1f} minutes; {number} of "
            f"{len(todo)}" + (f", about {duration(left)} left" if number < len(todo) else ""),
            soft_wrap=True,
        )


def _is_made(stage: TrainConfig) -> bool:
    """Whether its bundle is there. Raises ValueError where it was made with other settings, or of other shards."""
    if not is_bundle(f"{stage.out}/bundle"):
        return False
    place = Path(stage.out)
    there, here = read_settings(place), settings_of(stage)
    moved = {name for name in WEIGHTS if shipped_folder(str(here[name]))}  # the folder's name knows which they are
    if differ := [name for name, value in here.items() if there.get(name, value) != value and name not in moved]:
        raise ValueError(f"{place} was trained with another {differ[0]}: remove it to train it again")
    if (place / SHARDS).is_file() and (place / SHARDS).read_text() != _shards_digest(stage):
        raise ValueError(f"{place} was trained on other shards than lie in {stage.loader.shards}: remove it")
    return True


def _shards_digest(stage: TrainConfig) -> str:
    """Of what the shards were made with."""
    place = Path(stage.loader.shards)
    file = place if place.is_file() else place / "settings.json"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else ""


def minutes(stage: TrainConfig) -> float:
    """That its training took in all its runs."""
    note = Path(stage.out) / MINUTES
    return float(note.read_text()) if note.is_file() else 0.0


def _train(config: TrainConfig) -> float:
    """In a process of its own: train one stage; the minutes that it took, in all its runs."""
    began, before = time.monotonic(), minutes(config)
    try:
        train(config, texts(), CLASSES, Console(quiet=True))
    except Stopped as stopped:
        raise KeyboardInterrupt(str(stopped)) from None
    except FloatingPointError as error:
        raise ValueError(f"{config.out}: {error}") from None
    finally:
        took = before + (time.monotonic() - began) / 60
        Path(config.out).mkdir(parents=True, exist_ok=True)
        (Path(config.out) / MINUTES).write_text(f"{took:.3f}\n")
        (Path(config.out) / SHARDS).write_text(_shards_digest(config))
    return took


def _recipe(setting: Setting, recipes: dict[str, Callable[[], TrainConfig]]) -> Callable[[], TrainConfig]:
    if setting.recipe not in recipes:
        raise ValueError(f"recipe is {setting.recipe!r}; there are {', '.join(recipes)}")
    return recipes[setting.recipe]


def blind(setting: Setting, seed: int) -> Arm:
    """The control of all experiments: both stages without a sight of any sketch."""
    stages = [replace(stage, processor=replace(stage.processor, blind=True)) for stage in both_stages(setting, seed)]
    return chain(setting, CONTROL, *stages, about="control: every sketch a white page, in training and exam")


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
