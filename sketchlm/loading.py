"""Models by name: one that comes with the package, a bundle of ours, or any LLaVA-1.5, ready to answer."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sketchlm.bundle import RECORD, Bundle, BundleInfo, is_bundle, load_bundle
from sketchlm.model import HUB_ID, load_llava, num_image_tokens, part_of, unwrap
from sketchlm.processor import Processor, ProcessorConfig
from sketchlm.prompt import TEMPLATES
from sketchlm.tokenizer import first_line, load_tokenizer
from sketchlm.weights import shipped

if TYPE_CHECKING:
    import torch

Dtype = Literal["", "float32", "bfloat16", "float16"]
Quantization = Literal["", "4bit", "8bit"]


def open_model(
    name: str | Path = "learn", device: str = "", dtype: Dtype = "", quantization: Quantization = ""
) -> Bundle:
    """A model on its device, adapters merged.

    name: `learn`, which comes with the package; the folder of a bundle; a LLaVA-1.5 in Hugging Face layout; or the id
    of either on the hub (owner/name). device: `cpu`, `cuda`, `cuda:1`, ...; "" = a GPU where there is one. dtype: "" =
    bfloat16 on a GPU that has it (else float16), float32 on a CPU. quantization: weights of the language model in 4 or
    8 bits; needs a GPU and bitsandbytes.
    Raises ValueError for a name, device or precision that cannot be had, with the remedy.
    """
    place = _checked_device(device)
    options: dict[str, Any] = {"dtype": _dtype(dtype, place)}
    if quantization:
        options |= _quantized(quantization, place, options["dtype"])
    found = _found(str(name))
    if is_bundle(found):
        bundle = load_bundle(found, trainable=bool(quantization), **options)  # what is added to 4 bits is lost in them
    else:
        try:
            bundle = Bundle(load_llava(found, **options), load_tokenizer(found), BundleInfo("plain", found))
        except ValueError as error:
            raise ValueError(f"no model {name}: {str(error).removeprefix('model.base: ')}") from None
    if quantization:
        even_trained(bundle.model, options["dtype"])
    else:
        bundle.model.to(place)
    bundle.model.requires_grad_(False).eval()
    return bundle


def even_trained(model: Any, dtype: torch.dtype) -> None:
    """Bring connector and fusion to the tower's precision: those of an adapter that is not merged are kept in full."""
    for name, parameter in model.named_parameters():
        if part_of(name) in ("connector", "fusion"):
            parameter.data = parameter.data.to(dtype)


def processor_of(bundle: Bundle, tasks: tuple[str, ...] = tuple(TEMPLATES), blind: bool = False) -> Processor:
    """What makes questions for a bundle, in the prompt that it was trained with."""
    vision = unwrap(bundle.model).config.vision_config
    config = ProcessorConfig(prompt=bundle.info.prompt, tasks=tasks, blind=blind)
    return Processor(bundle.tokenizer, vision.image_size, num_image_tokens(bundle.model), config)


def _found(name: str) -> str:
    """The folder or hub id that a name stands for; a bundle on the hub is downloaded."""
    if is_bundle(name):
        return name
    if not Path(name).exists() and "/" not in name and is_bundle(str(shipped(name))):
        return str(shipped(name))
    if Path(name).is_dir() or not HUB_ID.fullmatch(name):
        return name
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        hf_hub_download(name, RECORD)
        return str(snapshot_download(name))
    except LocalEntryNotFoundError:  # offline, and not in the cache as a bundle: perhaps as a LLaVA
        return name
    except EntryNotFoundError:
        return name
    except (HfHubHTTPError, OSError) as error:
        raise ValueError(f"no model {name}: {first_line(error)}") from None


def _checked_device(device: str) -> torch.device:
    import torch

    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise ValueError(f"device is {device!r}: say cpu, cuda or cuda:NUMBER") from None
    try:
        assert place.type != "meta"
        torch.ones(1, device=place).cpu()
    except Exception as error:  # each kind has its own when it is not there
        why = first_line(error)
        raise ValueError(f"device is {device!r}, which PyTorch cannot use here ({why}): say cpu") from None
    return place


def _dtype(dtype: str, place: torch.device) -> torch.dtype:
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype:
        if dtype not in known:
            raise ValueError(f"dtype is {dtype!r}: say {', '.join(known)}")
        return known[dtype]
    if place.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _quantized(quantization: str, place: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    if quantization not in ("4bit", "8bit"):
        raise ValueError(f"quantization is {quantization!r}: say 4bit or 8bit, or leave it out")
    if place.type != "cuda" or find_spec("bitsandbytes") is None:
        raise ValueError(f"quantization {quantization} needs a GPU and bitsandbytes (pip install bitsandbytes)")
    from transformers import BitsAndBytesConfig

    left = ["vision_tower", "multi_modal_projector", "lm_head"]
    how: dict[str, Any] = {"load_in_8bit": True}
    if quantization == "4bit":
        how = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    return {"quantization_config": BitsAndBytesConfig(**how, llm_int8_skip_modules=left), "device_map": {"": place}}
