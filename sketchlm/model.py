"""The model: Hugging Face's LLaVA, unchanged, with two images (sketch first), and what of it is trained."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerBase

Part = Literal["tower", "connector", "language"]
LANGUAGE = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
"""Full paths: names alone (`q_proj`) also hit the tower of a LLaVA checkpoint (LLaVA#1380, peft#2615)."""
CONNECTOR = r".*multi_modal_projector\.linear_[12]"


@dataclass(frozen=True)
class TinyConfig:
    """Sizes of a LLaVA that is made from nothing."""

    side: int = 128
    """Side of the tower's input, pixels."""
    patch: int = 16
    tower_width: int = 128
    tower_layers: int = 4
    tower_heads: int = 4
    width: int = 192
    layers: int = 4
    heads: int = 4
    context: int = 1024
    seed: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """Which model, and what of it is trained."""

    base: str = "tiny"
    """`tiny` (made from nothing), a bundle of ours, or a LLaVA-1.5 in Hugging Face layout: a folder or hub id."""
    tiny: TinyConfig = field(default_factory=TinyConfig)
    tower: Literal["frozen", "full"] = "frozen"
    """Full only where a recipe starts from nothing."""
    connector: Literal["full", "lora", "frozen"] = "full"
    language: Literal["lora", "full", "frozen"] = "lora"
    """Full only where a recipe starts from nothing."""
    lora_rank: int = 64
    lora_alpha: int = 128
    lora_dropout: float = 0.0
    """0: LLaVA's own 0.05 makes the loss depend on how a step was cut into batches."""
    four_bit: bool = False
    """4-bit base (QLoRA; needs bitsandbytes and a GPU; untested until a GPU has run it)."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""


def tiny_llava_config(config: TinyConfig, tokenizer: PreTrainedTokenizerBase) -> LlavaConfig:
    """LLaVA's config at small sizes: CLIP tower, two-layer connector, Llama."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    if config.side % config.patch:
        raise ValueError(f"tiny.side is {config.side}, must be a multiple of tiny.patch ({config.patch})")
    vision = CLIPVisionConfig(
        hidden_size=config.tower_width,
        intermediate_size=4 * config.tower_width,
        num_hidden_layers=config.tower_layers,
        num_attention_heads=config.tower_heads,
        image_size=config.side,
        patch_size=config.patch,
        projection_dim=config.tower_width,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        intermediate_size=-(-config.width * 8 // 3 // 64) * 64,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=config.context,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        image_seq_length=(config.side // config.patch) ** 2,
        tie_word_embeddings=False,
    )


def build_tiny(config: TinyConfig, tokenizer: PreTrainedTokenizerBase) -> LlavaForConditionalGeneration:
    """A model at random weights, the same for the same seed."""
    from transformers import LlavaForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return LlavaForConditionalGeneration(tiny_llava_config(config, tokenizer))


def load_llava(base: str, **options: Any) -> LlavaForConditionalGeneration:
    """A LLaVA-1.5 checkpoint in Hugging Face layout (`llava-hf/llava-1.5-7b-hf`), from a folder or the hub.

    Raises ValueError for weights that are missing or unexpected (LLaVA#808: a warning there cost people
    days), and for a folder or id that holds none.
    """
    from transformers import LlavaForConditionalGeneration

    try:
        model, info = LlavaForConditionalGeneration.from_pretrained(base, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"model.base: {base} holds no LLaVA that can be loaded: {error}") from None
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if bad := sorted(map(str, info.get(kind) or [])):
            raise ValueError(f"model.base: {base} has {len(bad)} {kind.replace('_', ' ')}, the first is {bad[0]}")
    return model


def adapt(model: LlavaForConditionalGeneration, config: ModelConfig) -> nn.Module:
    """Freeze and adapt in place what the config says; returns the model, or PEFT's wrapper around it.

    Raises ValueError when nothing is trained.
    """
    for name, parameter in model.named_parameters():
        how = {"tower": config.tower, "connector": config.connector, "language": config.language}[part_of(name)]
        parameter.requires_grad_(how == "full")
    if "lora" in (config.connector, config.language):
        model = _with_lora(model, config)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("tower, connector and language are all frozen: nothing would be trained")
    return model


def _with_lora(model: Any, config: ModelConfig) -> Any:
    from peft import LoraConfig, get_peft_model

    patterns = [LANGUAGE] * (config.language == "lora") + [CONNECTOR] * (config.connector == "lora")
    full = [n for n, p in model.named_parameters() if p.requires_grad]
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="|".join(f"({pattern})" for pattern in patterns),
        modules_to_save=["multi_modal_projector"] if config.connector == "full" else None,
    )
    wrapped = get_peft_model(model, settings)
    for name, parameter in wrapped.named_parameters():  # PEFT freezes all that it does not save
        if any(name.endswith(kept) for kept in full) and "original_module" not in name:
            parameter.requires_grad_(True)
    adapted = [name for name, _ in wrapped.named_modules() if name.endswith("lora_A")]
    assert adapted and not [name for name in adapted if "vision_tower" in name], f"LoRA sits at {adapted[:3]}"
    return wrapped


def part_of(name: str) -> Part:
    """The part of LLaVA that a parameter's name belongs to."""
    if "vision_tower" in name:
        return "tower"
    return "connector" if "multi_modal_projector" in name else "language"


def unwrap(model: Any) -> LlavaForConditionalGeneration:
    """LLaVA itself, inside PEFT's wrapper or not."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def num_image_tokens(model: Any) -> int:
    """Tokens that one image becomes."""
    vision = unwrap(model).config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2)


def trained_parameters(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    """Name and parameter of all that is trained."""
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def without_wrappers(name: str) -> str:
    """A parameter's name without what PEFT, DDP and torch.compile put around it."""
    return re.sub(r"(^|\.)(base_model\.model|module|_orig_mod|modules_to_save\.default)(?=\.)", "", name).lstrip(".")
