"""`make instructions`: recipes of instruction shards, each a complete config, and their command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from data_manifests.schema import MIXTURE, mixture_manifest
from pipelines.cards import write_run_card
from pipelines.exits import clean_exit
from pipelines.mixtures import MixtureConfig, part_config, run_mixture
from pipelines.recipes import choose
from sketchgen.banks import BankConfig
from sketchgen.engine import EngineConfig
from sketchgen.instructions import InstructionsConfig, is_complete, run_instructions
from sketchgen.shapeworld import HELD_OUT_STYLE
from sketchgen.source import SourceConfig
from sketchgen.tasks.config import TasksConfig


def tiny() -> InstructionsConfig:
    """The embedded default: 1,500 scenes of shapeworld to train on."""
    manifest = mixture_manifest("tiny")
    return part_config(manifest.parts[0], 0, MixtureConfig("tiny", out="out/instructions/tiny"))


def tiny_val() -> InstructionsConfig:
    """200 scenes that `tiny` never sees, with sketches that it never sees."""
    return _unseen(tiny(), num_scenes=200, out="out/instructions/tiny_val")


def learn() -> InstructionsConfig:
    """16,000 scenes of shapeworld, for the learning check; a box is asked for among four classes at least."""
    base = tiny()
    return replace(
        base,
        source=replace(base.source, world=replace(base.source.world, num_scenes=16_000)),
        tasks=replace(base.tasks, min_singles=4),
        images_per_shard=250,
        out="out/instructions/learn",
    )


def learn_val() -> InstructionsConfig:
    """600 scenes that `learn` never sees, with sketches that it never sees."""
    return _unseen(learn(), num_scenes=600, out="out/instructions/learn_val")


def learn_brush() -> InstructionsConfig:
    """The scenes of `learn_val`, drawn in the style that no training set holds."""
    base = learn_val()
    return replace(base, bank=replace(base.bank, styles=(HELD_OUT_STYLE,)), out="out/instructions/learn_brush")


def coco() -> InstructionsConfig:
    """Photos of COCO with drawings of a bank: --source.root DIR --bank.root DIR (--bank.name quickdraw, sketchy)."""
    return InstructionsConfig(
        source=SourceConfig(name="coco"),
        bank=BankConfig("quickdraw"),
        tasks=TasksConfig(max_boxes=3),
        out="out/instructions/coco",
    )


def coco_val() -> InstructionsConfig:
    """The same of COCO's val2017, with drawings that `coco` never holds; or of a bank that is kept for evaluation
    (--bank.name tu_berlin)."""
    base = coco()
    return replace(
        base,
        source=replace(base.source, split="val"),
        bank=replace(base.bank, split="val"),
        out="out/instructions/coco_val",
    )


def _unseen(base: InstructionsConfig, num_scenes: int, out: str) -> InstructionsConfig:
    """The same kind of scenes and sketches from the other split; few enough to need no Ray."""
    return replace(
        base,
        source=replace(base.source, world=replace(base.source.world, split="val", num_scenes=num_scenes)),
        bank=replace(base.bank, split="val"),
        engine=EngineConfig("local"),
        images_per_shard=100,
        out=out,
    )


def pretrain_600k() -> MixtureConfig:
    """The paper's stage I: descriptions of Objects365 and Open Images, with sketches made of them."""
    return MixtureConfig("pretrain_600k", out="out/instructions/pretrain_600k")


def finetune_215k() -> MixtureConfig:
    """The paper's stage II: detection, counting, questions, retrieval; with drawings of Sketchy, Quick, Draw! and
    sketches made of COCO."""
    return MixtureConfig("finetune_215k", out="out/instructions/finetune_215k")


def crowd() -> MixtureConfig:
    """Scenes of shapeworld with single objects and with crowds, in which all instances are asked for."""
    return MixtureConfig("crowd", out="out/instructions/crowd")


RECIPES = {recipe.__name__: recipe for recipe in (tiny, tiny_val, learn, learn_val, learn_brush, coco, coco_val)}
MIXTURES = {recipe.__name__: recipe for recipe in (pretrain_600k, finetune_215k, crowd)}
GENERATED = ("crowd",)
"""Mixtures that need no data: training makes them where they are missing."""


def places() -> dict[str, str]:
    """Where the shards of each recipe that needs no data lie, as training names them."""
    runs = {name: recipe().out for name, recipe in RECIPES.items()}
    return runs | {name: f"{MIXTURES[name]().out}/{MIXTURE}" for name in GENERATED}


def is_made(recipe: str) -> bool:
    """Whether all shards of a recipe are there. Raises ValueError for a folder that was made with other settings."""
    if recipe in GENERATED:
        return Path(places()[recipe]).is_file()  # written last
    return is_complete(RECIPES[recipe]())


def ensure(recipe: str, console: Console, out: str = "") -> str:
    """The folder of a recipe's shards (the manifest of a mixture), made where they are missing; quick where all are.

    out: the folder, "" for the recipe's own. Raises ValueError for an unknown recipe, a folder that was
    made with other settings, and shards that could not be made.
    """
    if recipe in GENERATED:
        mixture = MIXTURES[recipe]()
        mixture = replace(mixture, out=out or mixture.out)
        if not Path(f"{mixture.out}/{MIXTURE}").is_file():
            _make(lambda: run_mixture(mixture, console), recipe, mixture.out, console)
        return f"{mixture.out}/{MIXTURE}"
    if recipe not in RECIPES:
        raise ValueError(
            f"no recipe of instructions is called {recipe!r}; known are {', '.join((*RECIPES, *GENERATED))}"
        )
    config = RECIPES[recipe]()
    return ensure_run(replace(config, out=out or config.out), recipe, console)


def ensure_run(config: InstructionsConfig, name: str, console: Console) -> str:
    """The folder of a run's shards, made where they are missing; name: of what is made, for a reader.

    Raises ValueError for a folder that was made with other settings, and shards that could not be made.
    """
    if not is_complete(config):
        _make(lambda: run_instructions(config, console), name, config.out, console)
    return config.out


def _make(run: Callable[[], int], recipe: str, out: str, console: Console) -> None:
    console.print(f"instruction shards are missing, making [bold]{recipe}[/] in {escape(out)}", soft_wrap=True)
    if failed := run():
        raise ValueError(f"{failed} shards of {out} could not be made; run the same command again")


def main() -> None:
    """Parse the recipe's name and its overrides, run it, and exit with 1 if anything failed."""
    with clean_exit("finished shards are kept, run the same command to go on"):
        recipes: dict[str, Callable[[], InstructionsConfig | MixtureConfig]] = {**RECIPES, **MIXTURES}
        recipes |= _own(sys.argv[1:])
        config = choose(recipes, "python -m pipelines.instructions", "Pair photos with sketches and ask about both.")
        console = Console(highlight=False)
        if isinstance(config, MixtureConfig):
            failed = run_mixture(config, console)
        else:
            failed = run_instructions(config, console)
            if not config.dry_run:
                write_run_card(config, console)
    sys.exit(1 if failed else 0)


def _own(args: Sequence[str]) -> dict[str, Callable[[], InstructionsConfig | MixtureConfig]]:
    """The recipe of a user's manifest, where the command line names one."""
    if not args or not args[0].endswith((".yaml", ".yml")):
        return {}

    def own() -> MixtureConfig:
        """A mixture of your own."""
        return MixtureConfig(args[0], out=f"out/instructions/{Path(args[0]).stem}")

    return {args[0]: own}


if __name__ == "__main__":
    main()
