"""The model: Hugging Face's LLaVA, unchanged, with two images (sketch first), and what of it is trained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn

from sketchlm.fusion import Fusion, attach, fusion_of
from sketchlm.hub import within_reach
from sketchlm.tokenizer import first_line

if TYPE_CHECKING:
    from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerBase

Part = Literal["tower", "connector", "fusion", "language"]
LANGUAGE = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
"""Full paths: names alone (`q_proj`) also hit the tower of a LLaVA checkpoint (LLaVA#1380, peft#2615)."""
FOCAL_STRIDE = 16
"""Pixels to a token after FocalNet's three stages."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
CONNECTOR = r".*multi_modal_projector\.linear_[12]"


@dataclass(frozen=True)
class TinyConfig:
    """Sizes of a LLaVA that is made from nothing."""

    side: int = 128
    """Side of the tower's input, pixels."""
    patch: int = 16
    """Pixels of the input a side that become one token."""
    tower: Literal["clip", "focal"] = "clip"
    """clip: CLIP's ViT, as LLaVA has it. focal: FocalNet, whose convolutions learn from little: after 22,000 scenes
    it named 79 % of the patches that show something, the ViT 14 % after 19,000 (same loss, benchmarks/learn.md)."""
    tower_width: int = 128
    tower_layers: int = 4
    """Layers; of FocalNet those of its last stage, after two of one."""
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
    tower_weights: str = ""
    """Bundle whose tower a `tiny` model begins with, as LLaVA begins with CLIP's: a folder, or the name of one that
    comes with the package (`learn`); "" = from nothing."""
    tower: Literal["frozen", "full"] = "frozen"
    """Full only where a recipe starts from nothing."""
    connector: Literal["full", "lora", "frozen"] = "full"
    language: Literal["lora", "full", "frozen"] = "lora"
    """Full only where a recipe starts from nothing."""
    fusion: Literal["concat", "cross_attention"] = "concat"
    """concat: sketch and photo meet in the language model alone, as in the paper. cross_attention: the photo's tokens
    look at the sketch's before that (sketchlm.fusion), in layers that are trained in full."""
    fusion_layers: int = 1
    """Layers of cross-attention, where there are such."""
    fusion_open: bool = False
    """Whether new layers add something from the start. Not where the base was trained: it begins as it is, and what
    they add grows from zero. Where all begins from nothing there is nothing to spare, and fusion learns sooner: after
    60 steps of `tiny` grounding stood at 0.76 with open layers, 0.96 with closed ones, 0.98 by concatenation."""
    lora_rank: int = 64
    lora_alpha: int = 128
    lora_dropout: float = 0.0
    """0: LLaVA's own 0.05 makes the loss depend on how a step was cut into batches."""
    four_bit: bool = False
    """4-bit base (QLoRA; needs bitsandbytes and a GPU; untested until a GPU has run it)."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""


def matched(config: ModelConfig) -> ModelConfig:
    """The `cross_attention` variant of a model made from nothing with as many parameters, but for a norm a layer: each
    layer of fusion takes the place of one of the language model.

    Raises ValueError for a base whose layers are given, and where no layer would be left.
    """
    if config.base != "tiny":
        raise ValueError(f"model.base is {config.base}: only the layers of `tiny` can be chosen")
    left = config.tiny.layers - config.fusion_layers
    if left < 1:
        raise ValueError(
            f"model.fusion_layers is {config.fusion_layers}, which leaves none of the {config.tiny.layers} of "
            "model.tiny.layers: take fewer"
        )
    return replace(config, fusion="cross_attention", tiny=replace(config.tiny, layers=left))


def check_place(base: str) -> None:
    """Raise ValueError for a base that is neither a folder here nor can be an id of the hub."""
    if not Path(base).is_dir() and not HUB_ID.fullmatch(base):
        raise ValueError(f"model.base: there is no folder {base}, and it is no hub id (owner/name)")


def tiny_llava_config(config: TinyConfig, tokenizer: PreTrainedTokenizerBase) -> LlavaConfig:
    """LLaVA's config at small sizes: CLIP tower, two-layer connector, Llama."""
    from transformers import LlamaConfig, LlavaConfig

    if config.side % config.patch:
        raise ValueError(f"tiny.side is {config.side}, must be a multiple of tiny.patch ({config.patch})")
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
        vision_config=_tiny_tower_config(config),
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default" if config.tower == "clip" else "full",
        vision_feature_layer=-1,
        image_seq_length=(config.side // config.patch) ** 2,
        tie_word_embeddings=False,
    )


def _tiny_tower_config(config: TinyConfig) -> Any:
    from transformers import CLIPVisionConfig, FocalNetConfig

    width = config.tower_width
    if config.tower == "focal":
        if config.patch != FOCAL_STRIDE:
            raise ValueError(f"tiny.patch is {config.patch}, a focal tower makes a token of {FOCAL_STRIDE} pixels")
        return FocalNetConfig(
            image_size=config.side,
            patch_size=FOCAL_STRIDE // 4,
            embed_dim=width // 4,
            hidden_size=width,  # what LLaVA asks a tower for
            hidden_sizes=[width // 4, width // 2, width],
            depths=[1, 1, config.tower_layers],
            focal_levels=[2, 2, 2],
            focal_windows=[3, 3, 3],
            use_conv_embed=True,
            drop_path_rate=0.0,
        )
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=config.tower_layers,
        num_attention_heads=config.tower_heads,
        image_size=config.side,
        patch_size=config.patch,
        projection_dim=width,
    )


def build_tiny(config: TinyConfig, tokenizer: PreTrainedTokenizerBase) -> LlavaForConditionalGeneration:
    """A model at random weights, the same for the same seed."""
    from transformers import LlavaForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return LlavaForConditionalGeneration(tiny_llava_config(config, tokenizer))


def load_llava(base: str, **options: Any) -> LlavaForConditionalGeneration:
    """A LLaVA-1.5 checkpoint in Hugging Face layout (`llava-hf/llava-1.5-7b-hf`), from a folder or the hub.

    In full precision unless `dtype` among the options says otherwise, whatever the checkpoint was saved in
    (the published ones are float16, in which nothing can be trained). Reads safetensors only: nothing is
    unpickled.

    Raises ValueError for weights that are missing, unexpected or of another shape (LLaVA#808: a warning
    there cost people days), and for a folder or id that holds none.
    """
    from transformers import AutoConfig, LlavaForConditionalGeneration

    check_place(base)
    settings = {"dtype": torch.float32, "use_safetensors": True, "ignore_mismatched_sizes": True} | options
    with _reading(base):  # without its config.json transformers would fill the memory with a model of default size
        found = base if Path(base).is_dir() else within_reach(base, "config.json")
        config = AutoConfig.from_pretrained(found)
    _check_config(config, base)
    with _reading(base):
        model, info = LlavaForConditionalGeneration.from_pretrained(
            found, config=config, output_loading_info=True, **settings
        )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if bad := sorted(map(str, info.get(kind) or [])):
            raise ValueError(
                f"model.base: {base} has {len(bad)} {kind.replace('_', ' ')}, the first is {bad[0]}: "
                "it is damaged, or no LLaVA-1.5 in Hugging Face layout"
            )
    return model


def base_options(config: ModelConfig, precision: str) -> dict[str, Any]:
    """Options of `load_llava` for a training run that computes in `precision` (no, bf16).

    Weights that stay frozen are kept in it; `adapt` brings what is trained to full precision.
    Raises ValueError for a 4-bit base that cannot be had.
    """
    options: dict[str, Any] = {}
    half = torch.bfloat16 if precision == "bf16" else None
    if half is not None and config.tower == "frozen" and config.language != "full":
        options["dtype"] = half
    if config.four_bit:
        if config.language == "full" or config.tower == "full":
            raise ValueError("model.four_bit: a 4-bit base cannot be trained itself; use language lora, tower frozen")
        if find_spec("bitsandbytes") is None or not torch.cuda.is_available():
            raise ValueError("model.four_bit needs a GPU and bitsandbytes: pip install bitsandbytes, or leave it off")
        options["quantization_config"] = quantized(4, half or torch.float32)
    return options


def quantized(bits: Literal[4, 8], dtype: torch.dtype) -> Any:
    """How `load_llava` makes the language model's weights small, for training and for answering alike: an adapter fits
    the very weights that it was trained on. dtype: in which it computes with 4 bits; 8 bits have their own."""
    from transformers import BitsAndBytesConfig

    left = ["vision_tower", "multi_modal_projector", "lm_head"]
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=left)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=left,
    )


def _check_config(config: Any, base: str) -> None:
    if config.model_type != "llava":
        raise ValueError(f"model.base: {base} is a {config.model_type}, not a LLaVA-1.5 in Hugging Face layout")
    strategy = "full" if config.vision_config.model_type == "focalnet" else "default"  # a FocalNet has no CLS
    if config.vision_feature_select_strategy != strategy or not isinstance(config.vision_feature_layer, int):
        raise ValueError(
            f"model.base: {base} takes image features from layer {config.vision_feature_layer} with strategy "
            f"{config.vision_feature_select_strategy!r}; LLaVA-1.5 takes one layer, with 'default'"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, tables and bars of transformers while it reads or writes a model."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _reading(base: str) -> Iterator[None]:
    """What is wrong with a model that is read becomes one error."""
    try:
        with quiet():
            yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        where = "can be read from that folder" if Path(base).is_dir() else "is a folder here or can be had from the hub"
        raise ValueError(f"model.base: no LLaVA called {base} {where}: {first_line(error)}") from None


def adapt(model: Any, config: ModelConfig, seed: int = 0) -> nn.Module:
    """Freeze and adapt in place what the config says; returns the model, or PEFT's wrapper around it.

    A model that wears an adapter already (stage II on stage I's) keeps it and is trained on; so with fusion. What is
    trained is in full precision. seed: of the first weights of LoRA and of fusion.

    Raises ValueError when nothing is trained, and for an adapter or a fusion that is not what the config asks for.
    """
    _fuse(unwrap(model), config, seed)
    if hasattr(model, "get_base_model"):
        _train_on(model, config)
    else:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(_how(name, config) == "full")
        if "lora" in (config.connector, config.language):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = _with_lora(model, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("tower, connector and language are all frozen: nothing would be trained")
    for parameter in trained:
        parameter.data = parameter.data.float()
    return model


def _fuse(llava: Any, config: ModelConfig, seed: int) -> None:
    """Let it have the fusion that is asked for."""
    there = fusion_of(llava)
    has = len(there.layers) if there else 0
    wants = config.fusion_layers if config.fusion == "cross_attention" else 0
    if has and has != wants:
        raise ValueError(
            f"model.base was trained with model.fusion cross_attention and model.fusion_layers {has}, this recipe has "
            f"{config.fusion}{f' and {wants}' if wants else ''}: give it the same, or another base"
        )
    if wants and not has:
        place = next(llava.model.multi_modal_projector.parameters()).device
        attach(llava, Fusion(llava.config.text_config, wants, config.fusion_open, seed).to(place))


def _how(name: str, config: ModelConfig) -> str:
    how = {"tower": config.tower, "connector": config.connector, "language": config.language, "fusion": "full"}
    return how[part_of(name)]


def _lora_settings(config: ModelConfig) -> Any:
    from peft import LoraConfig

    patterns = [LANGUAGE] * (config.language == "lora") + [CONNECTOR] * (config.connector == "lora")
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="|".join(f"({pattern})" for pattern in patterns),
        modules_to_save=["multi_modal_projector"] if config.connector == "full" else None,
    )


def _with_lora(model: Any, config: ModelConfig) -> Any:
    from peft import get_peft_model

    full = [n for n, p in model.named_parameters() if p.requires_grad]
    wrapped = get_peft_model(model, _lora_settings(config))
    for name, parameter in wrapped.named_parameters():  # PEFT freezes all that it does not save
        if any(name.endswith(kept) for kept in full) and "original_module" not in name:
            parameter.requires_grad_(True)
    adapted = [name for name, _ in wrapped.named_modules() if name.endswith("lora_A")]
    layers = unwrap(wrapped).config.text_config.num_hidden_layers
    expected = 7 * layers * (config.language == "lora") + 2 * (config.connector == "lora")
    assert len(adapted) == expected, f"LoRA sits at {len(adapted)} places, {expected} are expected: {adapted[:3]}"
    assert not [name for name in adapted if "vision_tower" in name], f"LoRA sits under the tower: {adapted[:3]}"
    return wrapped


def _train_on(model: Any, config: ModelConfig) -> None:
    """Train an adapter further; its keys stay as they are (training LoRA on LoRA nests them, TinyLLaVA#104)."""
    settings, asked = model.peft_config["default"], _lora_settings(config)
    if config.connector == "frozen" and settings.modules_to_save:  # what stage I trained may rest in stage II
        asked.modules_to_save = settings.modules_to_save
    for name in ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save"):
        has, wants = getattr(settings, name), getattr(asked, name)
        if has != wants:
            raise ValueError(
                f"the bundle's adapter has {name} {has}, this recipe wants {wants}: resume with the adapter's own "
                "model settings, or merge it first (sketchlm.bundle.export) and train on the merged model"
            )
    if config.tower != "frozen":
        raise ValueError("the bundle holds an adapter, which cannot hold the tower: merge it first to train the tower")
    for name, parameter in model.named_parameters():
        saved = "modules_to_save.default" in name
        fused = part_of(name) == "fusion"
        parameter.requires_grad_("lora_" in name or fused or (saved and config.connector == "full"))


def part_of(name: str) -> Part:
    """The part of LLaVA that a parameter's name belongs to."""
    if "vision_tower" in name:
        return "tower"
    if "multi_modal_projector" in name:
        return "connector"
    return "fusion" if "model.fusion." in name else "language"


def unwrap(model: Any) -> LlavaForConditionalGeneration:
    """LLaVA itself, inside PEFT's wrapper or not."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def num_image_tokens(model: Any) -> int:
    """Tokens that one image becomes."""
    return int(unwrap(model).config.image_seq_length)


def trained_parameters(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    """Name and parameter of all that is trained."""
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def without_wrappers(name: str) -> str:
    """A parameter's name without what PEFT, DDP and torch.compile put around it."""
    return re.sub(r"(^|\.)(base_model\.model|module|_orig_mod|modules_to_save\.default)(?=\.)", "", name).lstrip(".")
