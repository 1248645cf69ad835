"""`make pretrain`: stage I, sketch alignment: what does the sketch show, and where is it in the image."""

from __future__ import annotations

from dataclasses import replace

from pipelines.stages import command
from sketchlm.loader import LoaderConfig
from sketchlm.loss import LossConfig
from sketchlm.model import ModelConfig, TinyConfig
from sketchlm.optimizer import OptimizerConfig
from sketchlm.processor import ProcessorConfig
from sketchlm.prompt import PromptConfig
from sketchlm.training import TrainConfig, WarmStartConfig


def tiny() -> TrainConfig:
    """A small LLaVA on shapeworld: minutes on a laptop. Its tower comes with the package, as CLIP's does in LLaVA;
    the rest begins from nothing. The embedded default."""
    return TrainConfig(
        stage="pretrain",
        recipe="tiny",
        model=ModelConfig(
            base="tiny",
            tiny=TinyConfig(tower="focal", tower_layers=2),
            tower_weights="learn",
            connector="full",
            language="full",
            fusion_open=True,  # where a run asks for fusion
        ),
        loader=LoaderConfig(shards="out/instructions/tiny", batch_size=32),
        processor=ProcessorConfig(prompt=PromptConfig(system="", short=False), tasks=("describe",), max_length=512),
        loss=LossConfig(box_sigma=2.5, grounding=1.0),
        optimizer=OptimizerConfig(name="muon", lr=1e-3, muon_lr=0.02, beta2=0.95, warmup=0.05, final=0.05),
        steps=150,
        checkpoint_every=100,
        out="out/pretrain/tiny",
    )


def learn() -> TrainConfig:
    """The same model, all of it from nothing, for the better part of an hour with its finetuning: what the tables in
    benchmarks/ show."""
    base = tiny()
    return replace(
        base,
        recipe="learn",
        model=replace(base.model, tower_weights=""),
        loader=replace(base.loader, shards="out/instructions/learn"),
        warm=WarmStartConfig(steps=1000, batch_size=32),
        steps=200,
        out="out/pretrain/learn",
    )


def o3slm_7b() -> TrainConfig:
    """The paper's stage I: LLaVA-1.5-7B, LoRA r = 64, 600K descriptions, batch 24, one epoch, 2 x H100."""
    return TrainConfig(
        stage="pretrain",
        recipe="o3slm_7b",
        model=ModelConfig(base="llava-hf/llava-1.5-7b-hf", connector="full", language="lora", checkpointing=True),
        loader=LoaderConfig(shards="out/instructions/pretrain_600k/mixture.yaml", batch_size=12, workers=4),
        processor=ProcessorConfig(tasks=("describe",), max_length=2048),
        optimizer=OptimizerConfig(lr=2e-5),
        steps=25_000,
        processes=2,
        precision="bf16",
        checkpoint_every=1000,
        out="out/pretrain/o3slm_7b",
    )


def o3slm_13b() -> TrainConfig:
    """The paper's 13B."""
    base = o3slm_7b()
    return replace(
        base,
        recipe="o3slm_13b",
        model=replace(base.model, base="llava-hf/llava-1.5-13b-hf"),
        loader=replace(base.loader, batch_size=6),
        accumulation=2,
        out="out/pretrain/o3slm_13b",
    )


def o3slm_7b_24gb() -> TrainConfig:
    """The 7B on a consumer card: 4-bit base, small batches, the same 24 samples a step. Untested on a GPU."""
    base = o3slm_7b()
    return replace(
        base,
        recipe="o3slm_7b_24gb",
        model=replace(base.model, four_bit=True),
        loader=replace(base.loader, batch_size=2),
        accumulation=12,
        processes=1,
        out="out/pretrain/o3slm_7b_24gb",
    )


RECIPES = {recipe.__name__: recipe for recipe in (tiny, learn, o3slm_7b, o3slm_13b, o3slm_7b_24gb)}


def main() -> None:
    """The command line."""
    command(RECIPES, "python -m pipelines.pretrain", "Stage I: align sketches, images and words.")


if __name__ == "__main__":
    main()
