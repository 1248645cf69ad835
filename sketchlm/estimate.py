"""What a run costs: operations, memory and hours, before it starts; and the share of a device that it uses."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sketchlm.fusion import Fusion, attach, fusion_of
from sketchlm.loss import LossConfig, Objective
from sketchlm.model import adapt, check_place, matched, num_image_tokens, tiny_llava_config, unwrap
from sketchlm.tokenizer import build_tokenizer, first_line

if TYPE_CHECKING:
    from transformers import LlavaConfig

    from sketchlm.training import TrainConfig

PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10G": 70e12, "L4": 121e12, "4090": 165e12}
"""Dense bf16 operations a second, from the makers' data sheets, by a part of the device's name."""
PUBLISHED_SHARE = 0.41
"""Of the peak: LoRA of an 8B model on one H100, as published (402 of 989 TFLOP/s)."""
CPU_SHARE = 0.3
"""Of what a matrix product reaches: measured with `tiny` on one core, see benchmarks/loop.md."""
PROMPT_TOKENS = 45
"""Of the system's words and the turns around the images."""
QUESTION_TOKENS = 60
"""Of a question with its answer, in the vocabulary of Llama."""
TINY_QUESTION_TOKENS = 25
"""The same where each word is one token."""
SIZES = {"7b": (4096, 11008, 32, 32), "13b": (5120, 13824, 40, 40)}
"""Width, inner width, layers and heads of the language models of LLaVA-1.5."""


@dataclass(frozen=True, slots=True)
class Row:
    """What an item is expected to become: tokens, and the questions among them."""

    tokens: int
    queries: int


@dataclass(frozen=True, slots=True)
class Size:
    """parameters: values of the model, without adapters and what serves the loss alone; flops: operations of one row
    with its two pictures, forwards and backwards (see `row_flops`)."""

    parameters: int
    flops: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak of a step, of one process. weights: frozen and trained; training: gradients and moments of
    what is trained; activations: kept for the backward pass, with the logits of the answers."""

    weights: float
    training: float
    activations: float

    @property
    def total(self) -> float:
        """All of it; allocators and libraries take some 10 % more."""
        return self.weights + self.training + self.activations


@dataclass(frozen=True, slots=True)
class Estimate:
    """A run's cost. items, tokens: a step of all processes; hours: of all steps, at `speed` tokens a second of
    all processes; assumed: what hours and speed rest on, in words."""

    row: Row
    size: Size
    memory: Memory
    items: int
    tokens: int
    hours: float
    speed: float
    assumed: str


def estimate(config: TrainConfig, objective: Objective, world: int, device: torch.device) -> Estimate:
    """Cost of a stage on `world` processes. The model may live on the meta device; nothing is run."""
    row = expected_row(config, num_image_tokens(objective.model))
    budget = config.loader.tokens_per_batch
    rows = max(1, budget // row.tokens) if budget else config.loader.batch_size
    items = rows * config.accumulation * world
    rate, assumed = assumed_rate(config, device)
    size = size_of_model(config, objective, row)
    seconds = items * size.flops / (rate * world)
    return Estimate(
        row=row,
        size=size,
        memory=memory_of(config, objective, rows, row, world),
        items=items,
        tokens=items * row.tokens,
        hours=config.steps * seconds / 3600,
        speed=items * row.tokens / seconds,
        assumed=assumed,
    )


def expected_row(config: TrainConfig, image_tokens: int) -> Row:
    """Two images, and each task asked once."""
    queries = min(config.processor.branches, len(config.processor.tasks))
    prompt = PROMPT_TOKENS if config.processor.prompt.system else 8
    question = QUESTION_TOKENS if config.processor.prompt.system else TINY_QUESTION_TOKENS
    return Row(2 * image_tokens + prompt + queries * question, queries)


def assumed_rate(config: TrainConfig, device: torch.device) -> tuple[float, str]:
    """Operations a second that one process is expected to do, and where that comes from."""
    if peak := peak_flops(device):
        return PUBLISHED_SHARE * peak, f"{PUBLISHED_SHARE:.0%} of the peak of {torch.cuda.get_device_name(device)}"
    if config.model.base == "tiny" or config.precision == "no":
        reached = matrix_flops()
        return CPU_SHARE * reached, f"{CPU_SHARE:.0%} of the {reached / 1e9:.0f} GFLOP/s of a matrix product here"
    name = "4090" if config.model.four_bit else "H100"
    where = "no GPU is here" if device.type == "cpu" else "this GPU is unknown"
    return PUBLISHED_SHARE * PEAK[name], f"{PUBLISHED_SHARE:.0%} of the peak of one {name} a process ({where})"


def size_of_model(config: TrainConfig, objective: Objective, row: Row) -> Size:
    """Of the model of a stage."""
    model = objective.model.named_parameters()
    counted = [p for name, p in model if "lora_" not in name and "modules_to_save" not in name]
    return Size(sum(map(size_of, counted)), row_flops(config, objective, row))


def matched_sizes(config: TrainConfig, texts: Sequence[str]) -> dict[str, Size]:
    """What `concat` and the `cross_attention` variant that is held against it (`sketchlm.model.matched`) cost.

    config: of a stage whose model is made from nothing; texts: see `planned_objective`.
    """
    found: dict[str, Size] = {}
    for model in (replace(config.model, fusion="concat"), matched(config.model)):
        variant = replace(config, model=model, loss=LossConfig())
        objective = planned_objective(variant, texts, ())
        found[model.fusion] = size_of_model(
            variant, objective, expected_row(variant, num_image_tokens(objective.model))
        )
    return found


def memory_of(config: TrainConfig, objective: Objective, rows: int, row: Row, world: int) -> Memory:
    """Memory of one process; checked against what autograd keeps, in the tests."""
    llava = unwrap(objective.model)
    text = llava.config.text_config
    half = 2 if config.precision == "bf16" else 4
    weights = training = 0.0
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            weights += 4 * size_of(parameter)
            training += 12 * size_of(parameter)  # gradient and two moments; Muon keeps one
        else:
            packed = config.model.four_bit and "language_model.layers" in name
            weights += size_of(parameter) * (0.52 if packed else half)
    if config.sharding == "fsdp":
        weights, training = weights / world, training / world
    elif config.sharding == "zero2":
        training /= world
    wide, inner = text.hidden_size, text.intermediate_size
    tokens = rows * row.tokens
    layer = tokens * _layer_bytes(wide, inner, half, config.model.language == "lora")
    activations = text.num_hidden_layers * layer
    if config.model.checkpointing:
        activations = text.num_hidden_layers * tokens * half * wide + layer
    if fusion := fusion_of(llava):
        shown = rows * num_image_tokens(llava)
        activations += len(fusion.layers) * shown * _layer_bytes(wide, inner, half, lora=False)
    if config.stage == "tower":
        activations = 0.0
    if config.model.tower == "full":
        activations += 2 * rows * tower_cost(objective)[1] * half / 4
    answers = rows * row.queries * QUESTION_TOKENS / 2
    logits = answers * text.vocab_size * 4 * 3
    return Memory(weights, training, activations + logits)


def _layer_bytes(wide: int, inner: int, half: int, lora: bool) -> float:
    """What a layer keeps of a token for the backward pass: norms in full precision, queries, keys, values and what
    attention gives, the MLP's vectors, and the inputs of what is trained (LoRA: of its seven places, which share
    some).
    """
    if lora:
        return wide * (8 + 6 * half) + inner * 4 * half
    return wide * (16 + 6 * half) + inner * 4 * half


def step_flops(objective: nn.Module) -> float:
    """Operations a token in the published convention: 2 x parameters forward, 2 x backward through the
    activations, 2 x for gradients of weights where they are trained (so 4 x for a frozen base, 6 x in full).

    What every token goes through counts: connector and layers of the language model. Left out are the tower
    (it sees images, not tokens), fusion (it sees one image of a row), the embeddings and the head (it sees answers
    only), the quadratic part of attention, and what checkpointing computes again.
    """
    out = ("tower", "model.fusion.", "embed_tokens", "lm_head", "original_module")
    counted = [p for n, p in objective.named_parameters() if not any(part in n for part in out)]
    return float(sum((6 if p.requires_grad else 4) * size_of(p) for p in counted))


def row_flops(config: TrainConfig, objective: Objective, row: Row) -> float:
    """Operations of a row and its two pictures, forwards and backwards: those of its tokens (`step_flops`), of its
    photo's tokens in the fusion, and of the tower.
    """
    tower = 2 * tower_cost(objective)[0] * (3 if config.model.tower == "full" else 1)
    if config.stage == "tower":
        return tower
    fusion = fusion_of(unwrap(objective.model))
    fused = 6 * sum(map(size_of, fusion.parameters())) * num_image_tokens(objective.model) if fusion else 0
    return step_flops(objective) * row.tokens + fused + tower


def tower_cost(objective: Objective) -> tuple[float, float]:
    """(operations, bytes that a backward pass needs) of one image's way forward through the tower in full
    precision: counted on a tower of shapes, whatever it is made of.
    """
    return _cost_of_tower(unwrap(objective.model).config.vision_config.to_json_string(use_diff=False))


@cache
def _cost_of_tower(config: str) -> tuple[float, float]:
    """config: of the tower, as JSON."""
    from transformers import AutoConfig, AutoModel

    vision = AutoConfig.for_model(**json.loads(config))
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        tower = AutoModel.from_config(vision)
        with FlopCounterMode(display=False) as counter, hooks:
            tower(torch.empty(1, 3, vision.image_size, vision.image_size))
    for parameter in tower.parameters():
        kept.pop(parameter.untyped_storage()._cdata, None)
    return float(counter.get_total_flops()), float(sum(storage.nbytes() for storage in kept.values()))


def peak_flops(device: torch.device) -> float:
    """Operations a second that the device can do in bf16; 0 where unknown (a CPU)."""
    if device.type != "cuda":
        return 0.0
    name = torch.cuda.get_device_name(device)
    return next((value for part, value in PEAK.items() if part in name), 0.0)


def matrix_flops() -> float:
    """Operations a second of a matrix product on this CPU, on all of torch's threads: the best of a few moments,
    the least disturbed by others, on one thread, times their number.
    """
    threads, side, seconds = torch.get_num_threads(), 384, []
    matrix = torch.ones(side, side)
    torch.set_num_threads(1)
    for _ in range(50):
        began = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - began)
    torch.set_num_threads(threads)
    return threads * 2.0 * side**3 / min(seconds)


def size_of(parameter: Any) -> int:
    """Values of a parameter (4-bit ones are stored two in a byte)."""
    packed = parameter.__class__.__name__ == "Params4bit"
    return int(parameter.numel()) * (2 if packed else 1)


def known_config(base: str) -> LlavaConfig | None:
    """Architecture of a published LLaVA-1.5 by its name, without reading or fetching anything; None for others."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    found = re.fullmatch(r"(?:[\w.-]+/)?llava-1\.5-(7b|13b)[\w.-]*", base.lower())
    if not found:
        return None
    width, inner, layers, heads = SIZES[found[1]]
    return LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=336,
            patch_size=14,
            projection_dim=768,
        ),
        text_config=LlamaConfig(
            vocab_size=32064,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
        ),
        image_token_id=32000,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        image_seq_length=576,
        tie_word_embeddings=False,
    )


def planned_objective(config: TrainConfig, texts: Sequence[str], classes: Sequence[str]) -> Objective:
    """The objective of a stage on the meta device: every shape, and not one weight.

    Raises ValueError for a base that is neither here nor known nor to be fetched.
    """
    from transformers import LlavaForConditionalGeneration

    from sketchlm.bundle import is_bundle, read_info

    base, fusion_layers = config.model.base, 0
    if is_bundle(base):
        info = read_info(Path(base))
        base, classes, fusion_layers = info.base or base, info.classes, info.fusion_layers
    with torch.device("meta"):
        model: Any = LlavaForConditionalGeneration(planned_config(base, config, texts))
        if fusion_layers:
            attach(model, Fusion(model.config.text_config, fusion_layers))
        losses = replace(config.loss, box_sigma=0.0)
        return Objective(adapt(model, config.model), losses, (), len(classes), [(0,)] * len(classes))


def planned_config(base: str, config: TrainConfig, texts: Sequence[str]) -> LlavaConfig:
    """Of `tiny`, of a folder, of a published LLaVA-1.5, of another on the hub: in this order."""
    if base == "tiny":
        return tiny_llava_config(config.model.tiny, build_tokenizer(texts))
    here = Path(base).is_dir()
    if not here and (known := known_config(base)):
        return known
    from transformers import AutoConfig

    check_place(base)
    try:
        found = AutoConfig.from_pretrained(base)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"model.base: {base} has no config that can be read: {first_line(error)}") from None
    if found.model_type != "llava":
        raise ValueError(f"model.base: {base} is a {found.model_type}, no LLaVA-1.5")
    return found
