"""The bundle: everything that a trained model needs, in one folder.

    bundle.json         what it is: base, stage, processor settings, classes, what was trained
    config.json, model.safetensors      LLaVA in Hugging Face layout, where the whole model was trained
    adapter/            PEFT: LoRA and connector, where a base model lies elsewhere (`base` names it)
    tokenizer*.json, preprocessor_config.json, processor_config.json
    tower_head.safetensors              the head of the tower's own loss, where there is one
    README.md           card
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from sketchlm.model import ModelConfig, load_llava, unwrap
from sketchlm.prompt import PromptConfig

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

RECORD = "bundle.json"
TOWER_HEAD = "tower_head.safetensors"


@dataclass(frozen=True)
class BundleInfo:
    """What `bundle.json` says."""

    stage: str
    """`tower`, `pretrain` or `finetune`."""
    base: str = ""
    """Base model of the adapter; "" where the bundle holds the whole model."""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    classes: tuple[str, ...] = ()
    """Classes that the tower's own loss knows, in order."""
    trained: dict[str, Any] = field(default_factory=dict)
    """Recipe, steps, and the figures of the last step: for a reader."""


@dataclass
class Bundle:
    """A model and what it takes to use it."""

    model: Any
    tokenizer: Any
    info: BundleInfo
    tower_head: dict[str, Any] = field(default_factory=dict)


def is_bundle(path: str) -> bool:
    """Whether a path is a folder of ours (not a plain LLaVA, not a hub id)."""
    return (Path(path) / RECORD).is_file()


def save_bundle(
    folder: Path, model: nn.Module, tokenizer: PreTrainedTokenizerBase, info: BundleInfo, head: nn.Module | None = None
) -> None:
    """Write the folder, whole or not at all. An existing bundle is replaced."""
    begun = folder.with_name(f".tmp-{folder.name}")
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir(parents=True)
    adapted = hasattr(model, "get_base_model")
    if adapted and info.base:
        model.save_pretrained(str(begun / "adapter"))
    else:
        unwrap(merged(model) if adapted else model).save_pretrained(str(begun))
    tokenizer.save_pretrained(str(begun))
    _processor(model, tokenizer).save_pretrained(str(begun))
    if head is not None:
        save_file({name: t.detach().cpu().contiguous() for name, t in head.state_dict().items()}, begun / TOWER_HEAD)
    (begun / RECORD).write_text(json.dumps(asdict(info), indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(begun, folder)


def load_bundle(folder: str | Path, trainable: bool = False) -> Bundle:
    """Read a bundle back, on the CPU in full precision.

    trainable: keep the adapter as it is, to train it on; else it is merged into the model's weights.
    Raises ValueError for a folder that is none, or lacks a file.
    """
    folder = Path(folder)
    info = read_info(folder)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError) as error:
        raise ValueError(f"bundle {folder} holds no tokenizer ({error}): it is not whole, train it again") from None
    model: Any = load_llava(info.base or str(folder))
    if info.base:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(folder / "adapter"), is_trainable=trainable)
        if not trainable:
            model = model.merge_and_unload()
    head = load_file(folder / TOWER_HEAD) if (folder / TOWER_HEAD).is_file() else {}
    return Bundle(model.eval(), tokenizer, info, head)


def read_info(folder: Path) -> BundleInfo:
    """`bundle.json`, checked."""
    try:
        fields = json.loads((folder / RECORD).read_text())
        fields["prompt"] = PromptConfig(**fields["prompt"])
        fields["classes"] = tuple(fields["classes"])
        return BundleInfo(**fields)
    except FileNotFoundError:
        raise ValueError(f"{folder} is no bundle: it holds no {RECORD}") from None
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{folder}/{RECORD} cannot be read: {error}") from None


def merged(model: Any) -> Any:
    """The plain model with the adapter's weights added to it, on a copy."""
    import copy

    return copy.deepcopy(model).merge_and_unload()


def export(folder: str | Path, out: Path) -> None:
    """Write a plain Hugging Face LLaVA (merged weights, processor) that vLLM and others load."""
    bundle = load_bundle(folder)
    out.mkdir(parents=True, exist_ok=True)
    bundle.model.save_pretrained(str(out))
    _processor(bundle.model, bundle.tokenizer).save_pretrained(str(out))


def _processor(model: Any, tokenizer: Any) -> Any:
    from transformers import CLIPImageProcessor, LlavaProcessor

    config = unwrap(model).config
    side = config.vision_config.image_size
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
    )


def model_config_of(info: BundleInfo, config: ModelConfig) -> str:
    """The base that the next stage's bundle names."""
    return info.base if info.base else ("" if config.language == "full" else config.base)
