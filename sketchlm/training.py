"""The settings of one training stage, and what they are built into."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from sketchlm.bundle import BundleInfo, is_bundle, load_bundle, load_tower
from sketchlm.collator import Batch, Collator, check_weights
from sketchlm.loader import Loader, LoaderConfig, check_loader
from sketchlm.loss import LossConfig, Objective
from sketchlm.model import (
    ModelConfig,
    adapt,
    base_options,
    build_tiny,
    check_place,
    load_llava,
    num_image_tokens,
    unwrap,
)
from sketchlm.optimizer import OptimizerConfig
from sketchlm.processor import Processor, ProcessorConfig, check_processor
from sketchlm.tokenizer import build_tokenizer, class_tokens, load_tokenizer, number_tokens


@dataclass(frozen=True)
class WarmStartConfig:
    """What comes before stage I where the tower was made from nothing: it learns what patches and sketches
    show. It stands in for the pretraining of CLIP."""

    steps: int = 0
    """0 = none."""
    batch_size: int = 64
    """(sketch, image) pairs a step."""
    lr: float = 1e-3
    """As optimizer.lr, for these steps."""
    muon_lr: float = 0.02
    """As optimizer.muon_lr, for these steps."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that one stage needs."""

    stage: Literal["tower", "pretrain", "finetune"] = "pretrain"
    """tower: warm start of a tower that was made from nothing; pretrain: stage I; finetune: stage II."""
    recipe: str = "tiny"
    """Name, for the record."""
    model: ModelConfig = field(default_factory=ModelConfig)
    loader: LoaderConfig = field(default_factory=lambda: LoaderConfig(shards=""))
    processor: ProcessorConfig = field(default_factory=ProcessorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    warm: WarmStartConfig = field(default_factory=WarmStartConfig)
    steps: int = 1000
    """Steps of the optimizer. The rate falls over them, so they are set once: a pass over N sketches takes
    N / (batch_size x accumulation x processes)."""
    accumulation: int = 1
    """Batches whose gradients make one step."""
    task_weights: tuple[tuple[str, float], ...] = ()
    """Weight of a task's tokens in the loss; 1 where none is given."""
    precision: Literal["no", "bf16"] = "no"
    """bf16: products in bfloat16, a frozen base held in it; what is trained stays in full precision."""
    sharding: Literal["none", "fsdp", "zero2"] = "none"
    """Where several processes train: each holds all weights (none), its share of them (fsdp), or all weights and
    its share of gradients and moments (zero2: DeepSpeed, untested until a GPU has run it)."""
    compile: bool = False
    """torch.compile the layers of the language model: minutes at the start, faster steps on a GPU."""
    processes: int = 0
    """Processes that the recipe is made for: a dry run reckons with them. 0 = any number."""
    checkpoint_every: int = 500
    """Steps; 0 = only at the end."""
    keep: int = 2
    """Checkpoints that are kept."""
    log_every: int = 10
    trackers: tuple[str, ...] = ("tensorboard",)
    """Names that accelerate knows: tensorboard, wandb, mlflow, trackio, ..."""
    seed: int = 0
    threads: int = 0
    """Threads of torch; 0 = as many as cores. Results depend on it."""
    device: str = ""
    """"" = the best there is; cpu, cuda."""
    out: str = "out/pretrain/tiny"
    unseen: str = ""
    """Shards that training never sees: the bundle answers their questions when it is done; "" = none."""
    unseen_limit: int = 40
    """Samples of those."""
    dry_run: bool = False
    """Print the plan and stop."""


@dataclass
class Parts:
    """What a stage is built of."""

    objective: Objective
    tokenizer: Any
    processor: Processor
    collator: Collator
    info: BundleInfo


def build_parts(config: TrainConfig, texts: Sequence[str], classes: Sequence[str]) -> Parts:
    """Model, tokenizer and processor of a stage.

    texts: what a tokenizer made from nothing knows; classes: of the tower's own loss (both serve
    `tiny` only; a bundle brings its own). Raises ValueError for a base that cannot be loaded.
    """
    heads: dict[str, Any] = {}
    base = ""
    if config.model.base == "tiny":
        tokenizer = build_tokenizer(texts)
        model: Any = build_tiny(config.model.tiny, tokenizer)
        if config.model.tower_weights:
            load_tower(model, config.model.tower_weights)
    elif is_bundle(config.model.base):
        bundle = load_bundle(config.model.base, trainable=True, **base_options(config.model, config.precision))
        model, tokenizer, heads, base = bundle.model, bundle.tokenizer, bundle.heads, bundle.info.base
        classes = bundle.info.classes
    else:
        model = load_llava(config.model.base, **base_options(config.model, config.precision))
        tokenizer = load_tokenizer(config.model.base)
        base = config.model.base
    if config.model.checkpointing:
        unwrap(model).gradient_checkpointing_enable()
    model = adapt(model, config.model, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        names = class_tokens(tokenizer, classes)
        objective = Objective(model, config.loss, number_tokens(tokenizer), len(classes), names)
    objective.load_heads(heads)
    vision = unwrap(model).config.vision_config
    losses = config.loss
    shows = losses.tower > 0 or losses.grounding > 0 or losses.contrastive > 0  # these learn from what a photo shows
    processor = Processor(
        tokenizer,
        vision.image_size,
        num_image_tokens(model),
        config.processor,
        classes if shows else (),
        math.isqrt(num_image_tokens(model)) if shows else 0,
    )
    collator = Collator(
        tokenizer.pad_token_id, num_image_tokens(model), unwrap(model).config.image_token_id, config.task_weights
    )
    info = BundleInfo(config.stage, base, config.processor.prompt, tuple(classes))
    return Parts(objective, tokenizer, processor, collator, info)


def warm_start(config: TrainConfig) -> TrainConfig:
    """The stage before stage I, as a config of its own; its bundle is what stage I begins with."""
    return replace(
        config,
        stage="tower",
        model=replace(config.model, tower="full", connector="frozen", language="frozen", fusion="concat"),
        loader=replace(config.loader, batch_size=config.warm.batch_size, tokens_per_batch=0),
        processor=replace(config.processor, rows=1, branches=1),
        loss=LossConfig(tower=1.0),  # nothing goes through the language model
        optimizer=replace(config.optimizer, lr=config.warm.lr, tower_lr=-1.0, muon_lr=config.warm.muon_lr),
        steps=config.warm.steps,
        out=f"{config.out}/tower",
    )


def build_loader(config: TrainConfig, parts: Parts, rank: int = 0, world: int = 1) -> Loader[Any, Batch]:
    """The stream of batches of one rank."""
    return Loader(config.loader, parts.processor.items, parts.collator, rank, world)


FREE = (
    *("out", "dry_run", "checkpoint_every", "keep", "log_every", "trackers", "device", "threads", "processes"),
    *("unseen", "unseen_limit"),
    *("loader.shards", "loader.workers", "loader.prefetch", "loader.verify", "loader.cache", "model.checkpointing"),
)
"""Fields that a resumed run may change. Shards may move: the loader compares what is in them."""


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """What decides the course of training, flat: `optimizer.lr`, ..."""
    return {name: value for name, value in _flat(asdict(config)).items() if name not in FREE}


def check(config: TrainConfig) -> None:
    """Raise ValueError for settings that cannot be, naming the field and what it may be; looks at no weights."""
    rates, model = config.optimizer, config.model
    limits = (
        *((name, getattr(config, name), 1, math.inf) for name in ("steps", "accumulation", "keep", "log_every")),
        *((name, getattr(config, name), 0, math.inf) for name in ("checkpoint_every", "threads", "processes")),
        ("unseen_limit", config.unseen_limit, 1, math.inf),
        ("warm.steps", config.warm.steps, 0, math.inf),
        ("warm.batch_size", config.warm.batch_size, 1, math.inf),
        ("optimizer.lr", rates.lr, 1e-12, math.inf),
        ("optimizer.warmup", rates.warmup, 0, 0.999),
        ("optimizer.final", rates.final, 0, 1),
        ("optimizer.clip", rates.clip, 0, math.inf),
        ("optimizer.beta2", rates.beta2, 1e-6, 1 - 1e-9),
        ("optimizer.weight_decay", rates.weight_decay, 0, math.inf),
        ("model.lora_rank", model.lora_rank, 1, math.inf),
        ("model.fusion_layers", model.fusion_layers, 1, math.inf),
        ("loss.contrastive", config.loss.contrastive, 0, math.inf),
        ("loss.contrastive_dim", config.loss.contrastive_dim, 1, math.inf),
    )
    for name, value, low, high in limits:
        if not low <= value <= high:
            least = "above 0" if 0 < low < 1e-5 else f"at least {low:g}"
            upto = "" if high == math.inf else f" and at most {high:g}"
            raise ValueError(f"{name} is {value}; it must be {least}{upto}")
    check_loader(config.loader)
    check_processor(config.processor)
    check_weights(config.task_weights)
    if model.four_bit and model.base == "tiny":
        raise ValueError("model.four_bit is for a LLaVA that was trained: the one made from nothing has no 4-bit form")
    if config.stage == "tower" and model.fusion != "concat":
        raise ValueError(f"model.fusion is {model.fusion}, but stage tower trains the tower alone: take concat for it")
    if config.stage == "tower" and config.loss.tower <= 0:
        raise ValueError("stage tower trains by loss.tower alone, which is 0: set it, or leave the stage out")
    if config.stage == "tower" and config.loss.contrastive > 0:
        raise ValueError("stage tower trains by loss.tower alone, and nothing in it by loss.contrastive: set that to 0")
    check_base(model.base)


def check_base(base: str) -> None:
    """Raise ValueError for a base that is a folder without a model, or no folder and no hub id."""
    if base == "tiny" or is_bundle(base):
        return
    check_place(base)
    if Path(base).is_dir() and not (Path(base) / "config.json").is_file():
        raise ValueError(f"model.base: {base} holds no model: it has no config.json, and no bundle.json")


def write_settings(config: TrainConfig, folder: Path) -> None:
    """`settings.json`: the resolved config, beside every output."""
    (folder / "settings.json").write_text(json.dumps(asdict(config), indent=1) + "\n")


def read_settings(folder: Path) -> dict[str, Any]:
    """What `write_settings` wrote, flat as `settings_of` has it, those that may change included."""
    return _flat(json.loads((folder / "settings.json").read_text()))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.loads(json.dumps(value))  # tuples, also in tuples, as a file gives them back
    return flat
