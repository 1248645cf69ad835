"""The bundle: everything that a trained model needs, in one folder.

    bundle.json         what it is: base, stage, processor settings, classes, what was trained, its files
    config.json, model.safetensors      LLaVA in Hugging Face layout, where the whole model was trained
    adapter/            PEFT: LoRA and connector, where a base model lies elsewhere (`base` names it)
    tokenizer*.json, preprocessor_config.json, processor_config.json, chat_template.jinja
    fusion.safetensors                  layers of cross-attention (sketchlm.fusion), where there are such
    heads.safetensors                   what the loss needs beside the model (sketchlm.loss), where there is such;
                                        of a contrastive one it is the coarse search of retrieval as well
    README.md           card

A folder gets its name when it is whole. Weights are safetensors: nothing is ever unpickled.
"""

from __future__ import annotations

import copy
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from sketchlm.fusion import Fusion, attach, fusion_of
from sketchlm.model import HUB_ID, load_llava, part_of, quiet, trained_parameters, unwrap
from sketchlm.prompt import PromptConfig, chat_template
from sketchlm.tokenizer import first_line, load_tokenizer
from sketchlm.weights import shipped

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

RECORD = "bundle.json"
CARD = "README.md"
ADAPTER = "adapter"
FUSION = "fusion.safetensors"
HEADS = "heads.safetensors"
LOAD_BUNDLE = """from sketchlm import SketchLM

model = SketchLM.from_pretrained("path/of/this/folder")"""
LOAD_PLAIN = """from transformers import AutoProcessor, LlavaForConditionalGeneration

model = LlavaForConditionalGeneration.from_pretrained("path/of/this/folder")
processor = AutoProcessor.from_pretrained("path/of/this/folder")  # images: the sketch, then the photo"""
TOWER = re.compile(r"^vision_tower\.(?!vision_model\.)")
"""How transformers 5 names the tower's weights; the published checkpoints, and what reads those, say
`vision_tower.vision_model.`"""


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
    """Recipe, steps, and the figures of the last step: for a reader; `license`, where one is known."""
    files: dict[str, int] = field(default_factory=dict)
    """Bytes of every file that was saved, filled in on saving."""
    fusion_layers: int = 0
    """Layers of cross-attention, 0 = none (concat); filled in on saving."""


@dataclass
class Bundle:
    """A model and what it takes to use it."""

    model: Any
    tokenizer: Any
    info: BundleInfo
    heads: dict[str, Any] = field(default_factory=dict)
    """Weights of what serves the loss alone, by name."""
    folder: str = ""
    """Where it was read from."""


def is_bundle(path: str) -> bool:
    """Whether a path is a folder of ours (not a plain LLaVA, not a hub id)."""
    return (Path(path) / RECORD).is_file()


def save_bundle(
    folder: Path, model: nn.Module, tokenizer: PreTrainedTokenizerBase, info: BundleInfo, heads: nn.Module | None = None
) -> None:
    """Write the folder, whole or not at all. An existing bundle is replaced.

    An adapter is saved alone where `info.base` names the model that it belongs to and it holds all that was
    trained; else the whole model is, merged, and needs no base.
    Raises ValueError, with the remedy, where it cannot be written (a full disk, say).
    """

    def write(begun: Path) -> None:
        fusion = fusion_of(unwrap(model))
        saved = replace(info, fusion_layers=len(fusion.layers) if fusion else 0)
        if info.base and _holds_all(model):
            _save_adapter(model, begun / ADAPTER)
        else:
            saved = replace(saved, base="")
            _save_llava(merged(model) if _adapted(model) else model, begun)
        _save_processor(model, tokenizer, info.prompt, begun)
        _save_weights(fusion, begun / FUSION)
        _save_weights(heads, begun / HEADS)
        (begun / CARD).write_text(card(saved, info.base))
        sizes = {str(p.relative_to(begun)): p.stat().st_size for p in sorted(begun.rglob("*")) if p.is_file()}
        sizes.pop(CARD)  # people write in it
        (begun / RECORD).write_text(json.dumps(asdict(replace(saved, files=sizes)), indent=1) + "\n")

    _write_whole(folder, write)


def load_bundle(folder: str | Path, trainable: bool = False, **options: Any) -> Bundle:
    """Read a bundle back, on the CPU and in full precision unless options (of `load_llava`) say otherwise.

    trainable: keep the adapter as it is, to train it on; else it is merged into the model's weights.
    Raises ValueError for a folder that is none, that lacks a file, or whose base cannot be loaded.
    """
    folder = Path(folder)
    info = read_info(folder)
    check_files(folder, info)
    tokenizer = load_tokenizer(str(folder))
    try:
        model: Any = load_llava(info.base or str(folder), **options)
    except ValueError as error:
        what = f"needs its base model {info.base}" if info.base else "holds no whole model"
        raise ValueError(f"bundle {folder} {what}: {error}") from None
    if info.base:
        model = _load_adapter(model, folder / ADAPTER, trainable)
    if info.fusion_layers:
        _load_fusion(unwrap(model), folder / FUSION, info.fusion_layers, trainable)
    heads = load_file(folder / HEADS) if (folder / HEADS).is_file() else {}
    return Bundle(model.eval(), tokenizer, info, heads, str(folder))


def load_tower(model: Any, name: str) -> None:
    """Give a model the tower of a bundle: a folder, or the name of one that comes with the package.

    Raises ValueError where there is no such bundle, and for a tower of other sizes.
    """
    folder = Path(name) if is_bundle(name) else shipped(name)
    if not is_bundle(str(folder)):
        raise ValueError(
            f"model.tower_weights: no bundle lies at {name}, and none that comes with sketchlm is called so"
        )
    theirs = load_bundle(folder).model.model.vision_tower.state_dict()
    ours = model.model.vision_tower.state_dict()
    shapes = [{key: tuple(tensor.shape) for key, tensor in tower.items()} for tower in (ours, theirs)]
    if shapes[0] != shapes[1]:
        differ = sorted(key for key in shapes[0] | shapes[1] if shapes[0].get(key) != shapes[1].get(key))
        raise ValueError(
            f"model.tower_weights: the tower of {folder} has other sizes than model.tiny says, the first to differ is "
            f"{differ[0]}: {shapes[1].get(differ[0])} there, {shapes[0].get(differ[0])} here; take its sizes, or set "
            'model.tower_weights to "" and warm.steps to some hundreds'
        )
    model.model.vision_tower.load_state_dict(theirs)


def read_info(folder: Path) -> BundleInfo:
    """`bundle.json`, checked."""
    try:
        fields = json.loads((folder / RECORD).read_text())
        fields["prompt"] = PromptConfig(**fields["prompt"])
        fields["classes"] = tuple(fields["classes"])
        fields["fusion_layers"] = int(fields.get("fusion_layers", 0))  # bundles from before say nothing of it
        return BundleInfo(**fields)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{folder} is no bundle: it holds no {RECORD}") from None
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{folder}/{RECORD} cannot be read: {error}") from None


def check_files(folder: Path, info: BundleInfo) -> None:
    """Raise ValueError for a file that is missing or cut short."""
    weights = f"{ADAPTER}/adapter_model.safetensors" if info.base else "model*.safetensors"
    if not info.files and not list(folder.glob(weights)):
        raise ValueError(f"bundle {folder} lacks {weights}: copy it again, or train it again")
    for name, size in info.files.items():
        path = folder / name
        seen = path.stat().st_size if path.is_file() else -1
        if seen < 0 or (seen != size and path.suffix == ".safetensors"):  # people may edit a JSON
            how = "lacks" if seen < 0 else f"has {seen} bytes, not {size}, of"
            raise ValueError(f"bundle {folder} {how} {name}: copy it again, or train it again")


def merged(model: Any) -> Any:
    """The plain model with the adapter's weights added to it, on a copy."""
    return copy.deepcopy(model).merge_and_unload()


def export(folder: str | Path, out: Path, **options: Any) -> None:
    """Write a plain Hugging Face LLaVA (merged weights, processor) that vLLM and others load.

    An earlier export in `out` is replaced; ValueError for a folder of anything else, and for a bundle with layers of
    cross-attention, which a plain LLaVA has no place for. Named and laid out as the published checkpoints are; its
    processor pads to a square as ours does, and its chat template is our prompt.
    options: of `load_llava` (`dtype=torch.float16` for half the bytes).
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / "config.json").is_file()):
        raise ValueError(f"{out} is there and no model: name another folder, or an empty one")
    if read_info(Path(folder)).fusion_layers:
        raise ValueError(
            f"bundle {folder} was trained with model.fusion cross_attention, for which a plain LLaVA has no place: use "
            "it with SketchLM.from_pretrained, or export one that was trained with --model.fusion concat"
        )
    bundle = load_bundle(folder, **options)

    def write(begun: Path) -> None:
        _save_llava(bundle.model, begun)
        _save_processor(bundle.model, bundle.tokenizer, bundle.info.prompt, begun)
        (begun / CARD).write_text(card(replace(bundle.info, base=""), bundle.info.base, LOAD_PLAIN))

    _write_whole(out, write)


def compact(folder: str | Path, out: Path, **trained: Any) -> None:
    """Write the same bundle in half precision, without its heads: half the bytes, to ship. What its coarse search was
    trained with goes as well: save that of the old heads and the new model (contrastive_embedding) into the folder.

    trained: what its record and card say beside what they said (`license`, say).
    """
    bundle = load_bundle(folder, trainable=True)
    info = replace(bundle.info, trained=bundle.info.trained | trained)
    save_bundle(out, bundle.model.half(), bundle.tokenizer, info)


def card(info: BundleInfo, base: str, load: str = LOAD_BUNDLE) -> str:
    """README.md of a bundle. base: the model that training began with; load: the lines that read it."""
    trained = {name: value for name, value in info.trained.items() if name != "license"}
    kind = f"an adapter for `{base}`" if info.base else "a whole model" + (f", begun from `{base}`" if base else "")
    on_hub = bool(HUB_ID.fullmatch(base)) and not Path(base).is_dir()
    lines = [
        "---",
        "library_name: sketchlm",
        "pipeline_tag: image-text-to-text",
        *([f"base_model: {base}"] if on_hub else []),
        "---",
        "# A model of sketchlm",
        "",
        "A LLaVA-1.5 that reads a sketch (first image), a photo (second image) and text.",
        "",
        f"- What it is: {kind}, after stage `{info.stage}`",
        *([f"- Fusion: cross-attention, layers: {info.fusion_layers}"] if info.fusion_layers else []),
        *(f"- {name.capitalize()}: {value}" for name, value in trained.items()),
        f"- Boxes: shares of the {'photo padded to a square' if info.prompt.frame == 'padded' else 'photo'}, xyxy",
        f"- License: {info.trained.get('license', 'to be stated by whoever publishes it')}; that of the base model "
        "and of the training data hold as well",
        "",
        f"```python\n{load}\n```",
    ]
    return "\n".join(lines) + "\n"


def _adapted(model: Any) -> bool:
    return hasattr(model, "get_base_model")


def _holds_all(model: Any) -> bool:
    """Whether an adapter holds everything that was trained (a trained tower, say, is not in it)."""
    names = [name for name, _ in trained_parameters(model) if part_of(name) != "fusion"]  # a file of its own
    return _adapted(model) and all("lora_" in name or "modules_to_save.default" in name for name in names)


def _save_weights(module: nn.Module | None, path: Path) -> None:
    """No file for no weights."""
    if weights := {n: t.detach().cpu().contiguous() for n, t in (module.state_dict() if module else {}).items()}:
        save_file(weights, path)


def _save_adapter(model: Any, folder: Path) -> None:
    # without the option PEFT asks the hub about the vocabulary of the base
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's blank form


def _load_adapter(model: Any, folder: Path, trainable: bool) -> Any:
    from peft import PeftModel, get_peft_model_state_dict

    weights = folder / "adapter_model.safetensors"
    if not weights.is_file() or not (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder} holds no adapter (adapter_config.json and {weights.name}): copy it again")
    connector = model.model.multi_modal_projector
    dtype = next(connector.parameters()).dtype
    connector.float()  # PEFT would round a trained connector to the precision of the base
    try:
        model = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
        with safe_open(weights, "pt") as file:
            stored = set(file.keys())
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        raise ValueError(f"{folder} does not fit its base model: {first_line(error)}") from None
    expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    if differ := sorted(stored ^ expected):
        raise ValueError(f"{folder}: {len(differ)} of its weights are missing or unexpected, the first is {differ[0]}")
    if not trainable:
        model = model.merge_and_unload()
        model.model.multi_modal_projector.to(dtype)
    return model


def _load_fusion(llava: Any, path: Path, num_layers: int, trainable: bool) -> None:
    """In the connector's precision; in full where it is trained on."""
    fusion = Fusion(llava.config.text_config, num_layers)
    try:
        fusion.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{path} does not hold the layers of cross-attention ({num_layers}) that {RECORD} tells of: copy it again, "
            f"or train it again ({first_line(error)})"
        ) from None
    weight = next(llava.model.multi_modal_projector.parameters())
    attach(llava, fusion.to(weight.device) if trainable else fusion.to(weight))


def _save_llava(model: Any, folder: Path) -> None:
    fused = fusion_of(model) is not None
    own = {n: t for n, t in model.state_dict().items() if part_of(n) != "fusion"} if fused else None
    with quiet():
        model.save_pretrained(str(folder), state_dict=own)
    if model.config.vision_config.model_type != "clip_vision_model":
        return
    for path in folder.glob("model*.safetensors"):
        weights = load_file(path)
        renamed = {TOWER.sub("vision_tower.vision_model.", name): tensor for name, tensor in weights.items()}
        if renamed.keys() != weights.keys():
            save_file(renamed, path, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        table = json.loads(index.read_text())
        places = table["weight_map"].items()
        table["weight_map"] = {TOWER.sub("vision_tower.vision_model.", name): place for name, place in places}
        index.write_text(json.dumps(table, indent=1) + "\n")


def _save_processor(model: Any, tokenizer: Any, prompt: PromptConfig, folder: Path) -> None:
    """What `AutoProcessor` and `AutoTokenizer` read: the pixels and the prompt that we train with."""
    from transformers import LlavaImageProcessor, LlavaProcessor

    config = unwrap(model).config
    side = config.vision_config.image_size
    size = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    images = LlavaImageProcessor(do_pad=True, **size)
    LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=side // math.isqrt(config.image_seq_length),
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1 if config.vision_feature_select_strategy == "default" else 0,  # CLS
        chat_template=chat_template(prompt),
    ).save_pretrained(str(folder))
    images.save_pretrained(str(folder))  # preprocessor_config.json, which older software reads


def _write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder that gets its name when it is whole and on disk; an older one gives way last."""
    begun, old = folder.with_name(f".tmp-{folder.name}"), folder.with_name(f".old-{folder.name}")
    try:
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        write(begun)
        for path in begun.rglob("*"):
            if path.is_file():
                _to_disk(path)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(begun, folder)
        shutil.rmtree(old, ignore_errors=True)
    except Exception as error:
        shutil.rmtree(begun, ignore_errors=True)
        # a full disk is an OSError, safetensors has its own word for it, and tokenizers has none
        if not isinstance(error, (OSError, SafetensorError)) and "os error" not in str(error):
            raise
        raise ValueError(
            f"cannot save {folder}: {first_line(error)}; make room there, or choose another --out"
        ) from None


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
