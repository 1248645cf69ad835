"""`make finetune`: stage II, the four tasks: BBOX, COUNT, VQA, SBIR."""

from __future__ import annotations

from dataclasses import replace

from pipelines import pretrain
from pipelines.stages import command
from sketchlm.training import TrainConfig, WarmStartConfig

TASKS = ("bbox", "count", "vqa", "sbir")


def from_stage_one(base: TrainConfig) -> TrainConfig:
    """Stage II of a recipe of stage I: starts from its bundle, asks the four tasks."""
    return replace(
        base,
        stage="finetune",
        model=replace(base.model, base=f"{base.out}/bundle"),
        processor=replace(base.processor, tasks=TASKS),
        unseen=f"{base.loader.shards}_val" if base.model.base == "tiny" else "",
        warm=WarmStartConfig(),
        out=base.out.replace("pretrain", "finetune", 1),
    )


def tiny() -> TrainConfig:
    """The small model on shapeworld: minutes on a laptop. The embedded default."""
    return replace(from_stage_one(pretrain.tiny()), steps=250, task_weights=(("bbox", 2.0),))


def learn() -> TrainConfig:
    """The small model for the better part of an hour."""
    return replace(from_stage_one(pretrain.learn()), steps=1200, task_weights=(("bbox", 2.0),))


def crowd() -> TrainConfig:
    """The model of `learn` taught to name all instances, and classes in words: a third stage, on single objects and
    crowds. Some minutes of a GPU, or a night here; the model that comes with the package."""
    base = learn()
    return replace(
        base,
        recipe="crowd",
        model=replace(base.model, base=f"{base.out}/bundle", tower="full"),
        loader=replace(base.loader, shards="out/instructions/crowd/mixture.yaml", batch_size=128),
        processor=replace(base.processor, words=0.15),
        loss=replace(base.loss, tower=0.2),
        optimizer=replace(base.optimizer, tower_lr=2e-4),
        task_weights=(("bbox", 2.0), ("count", 4.0), ("sbir", 2.0)),
        steps=2500,
        out="out/finetune/crowd",
    )


def o3slm_7b() -> TrainConfig:
    """The paper's stage II: 215K queries, one epoch."""
    base = from_stage_one(pretrain.o3slm_7b())
    return replace(base, loader=replace(base.loader, shards="out/instructions/finetune_215k/mixture.yaml"), steps=8_960)


def o3slm_13b() -> TrainConfig:
    """The paper's 13B."""
    base = from_stage_one(pretrain.o3slm_13b())
    return replace(base, loader=replace(base.loader, shards="out/instructions/finetune_215k/mixture.yaml"), steps=8_960)


def o3slm_7b_24gb() -> TrainConfig:
    """The 7B on a consumer card. Untested on a GPU."""
    base = from_stage_one(pretrain.o3slm_7b_24gb())
    return replace(base, loader=replace(base.loader, shards="out/instructions/finetune_215k/mixture.yaml"), steps=8_960)


RECIPES = {recipe.__name__: recipe for recipe in (tiny, learn, crowd, o3slm_7b, o3slm_13b, o3slm_7b_24gb)}


def main() -> None:
    """The command line."""
    command(
        RECIPES,
        "python -m pipelines.finetune",
        "Stage II: detection, counting, questions, retrieval.",
        pretrain.RECIPES,
    )


if __name__ == "__main__":
    main()
