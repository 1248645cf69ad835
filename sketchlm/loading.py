"""Models by name: one that comes with the package, a bundle of ours, or any LLaVA-1.5, ready to answer."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data_manifests.notice import notice
from sketchlm.bundle import RECORD, Bundle, BundleInfo, is_bundle, load_bundle
from sketchlm.hub import within_reach
from sketchlm.model import HUB_ID, load_llava, num_image_tokens, part_of, quantized, unwrap
from sketchlm.processor import Processor, ProcessorConfig
from sketchlm.prompt import TEMPLATES, PromptConfig, read_template
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
    of either on the hub (owner/name). A LLaVA that `export` wrote is asked in the prompt that its chat template says;
    any other in that of LLaVA-1.5, which a warning tells.
    device: `cpu`, `cuda`, `cuda:1`, ...; "" = a GPU where there is one. dtype: "" = bfloat16 on a GPU that has it (else
    float16), float32 on a CPU. quantization: weights of the language model in 4 or 8 bits; needs a GPU and
    bitsandbytes.
    Raises ValueError for a name, device or precision that cannot be had, with the remedy.
    """
    place = _checked_device(device)
    options: dict[str, Any] = {"dtype": _dtype(dtype, place)}
    if quantization:
        options |= _small(quantization, place, options["dtype"])
    found = find_model(str(name))
    if is_bundle(found):
        bundle = load_bundle(found, trainable=bool(quantization), **options)  # what is added to 4 bits is lost in them
    else:
        try:
            model, tokenizer = load_llava(found, **options), load_tokenizer(found)
        except ValueError as error:
            raise ValueError(f"no model {name}: {str(error).removeprefix('model.base: ')}") from None
        bundle = Bundle(model, tokenizer, BundleInfo("plain", found, prompt=prompt_of(tokenizer, str(name))))
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


def prompt_of(tokenizer: Any, name: str) -> PromptConfig:
    """The prompt of a plain LLaVA: what its chat template says, else LLaVA-1.5's, with a warning."""
    template = getattr(tokenizer, "chat_template", None)
    found = read_template(template) if isinstance(template, str) else None
    if found is None:
        found = PromptConfig()
        notice(
            f"{name} holds no {RECORD}, nor a chat template that tells its prompt: it is asked in that of LLaVA-1.5 "
            f"({found.system[:14]!r} ... USER: ... ASSISTANT:); trained in another, it answers worse than it could"
        )
    return found


def processor_of(bundle: Bundle, tasks: tuple[str, ...] = tuple(TEMPLATES), blind: bool = False) -> Processor:
    """What makes questions for a bundle, in the prompt that it was trained with."""
    vision = unwrap(bundle.model).config.vision_config
    config = ProcessorConfig(prompt=bundle.info.prompt, tasks=tasks, blind=blind)
    return Processor(bundle.tokenizer, vision.image_size, num_image_tokens(bundle.model), config)


def find_model(name: str) -> str:
    """The folder or hub id that a name stands for; a bundle on the hub is downloaded.

    Raises ValueError, within seconds, where the hub cannot be reached and its cache does not hold it.
    """
    if is_bundle(name):
        return name
    if not Path(name).exists() and "/" not in name and is_bundle(str(shipped(name))):
        return str(shipped(name))
    if Path(name).is_dir() or not HUB_ID.fullmatch(name):
        return name
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        found = within_reach(name, RECORD, "config.json")
        if found != name:
            return found
        hf_hub_download(name, RECORD)
        return str(snapshot_download(name))
    except EntryNotFoundError:  # no bundle: perhaps a LLaVA
        return name
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ValueError(f"no model {name} is a folder here or can be had from the hub: {first_line(error)}") from None


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


def _small(quantization: str, place: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    if quantization not in ("4bit", "8bit"):
        raise ValueError(f"quantization is {quantization!r}: say 4bit or 8bit, or leave it out")
    if place.type != "cuda" or find_spec("bitsandbytes") is None:
        raise ValueError(f"quantization {quantization} needs a GPU and bitsandbytes (pip install bitsandbytes)")
    return {"quantization_config": quantized(4 if quantization == "4bit" else 8, dtype), "device_map": {"": place}}
