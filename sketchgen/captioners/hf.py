"""Models of Hugging Face: any image-text-to-text model as captioner, any causal language model as refiner."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from sketchgen.captioner import CaptionerConfig, Failure, Request
from sketchgen.device import pick_device


class HfCaptioner:
    """Answers greedily, `config.batch` requests at a time, in their order: the same batches give the same bits."""

    def __init__(self, config: CaptionerConfig, sees: bool) -> None:
        """sees: whether requests come with pictures."""
        self._config = config
        packed = {"padding": True, "return_tensors": "pt"}
        self._packed: dict[str, Any] = {"processor_kwargs": packed} if sees else packed
        self._processor, self._model = load_model(config, sees)
        # pictures come as float32; text alone has nothing to cast, and its `to` takes no dtype
        self._cast: dict[str, Any] = {"dtype": self._model.dtype} if sees else {}
        tokenizer = getattr(self._processor, "tokenizer", self._processor)
        tokenizer.padding_side = "left"  # answers begin where prompts end
        if tokenizer.pad_token is None:  # Llama 3
            tokenizer.pad_token = tokenizer.eos_token
        self._pad = tokenizer.pad_token_id

    def answer(self, requests: Sequence[Request]) -> list[str | Failure]:
        """See `sketchgen.captioner.Captioner`."""
        answers: list[str | Failure] = []
        for start in range(0, len(requests), self._config.batch):
            answers += self._answer(requests[start : start + self._config.batch])
        return answers

    def check(self) -> None:
        """See `sketchgen.captioner.Captioner`. It is in this process: never out of reach."""

    @torch.inference_mode()
    def _answer(self, requests: Sequence[Request]) -> list[str]:
        inputs = self._processor.apply_chat_template(
            [[{"role": "user", "content": content_of(request)}] for request in requests],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            **self._packed,
        ).to(self._model.device, **self._cast)
        tokens = self._model.generate(
            **inputs,
            max_new_tokens=self._config.max_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=self._pad,
        )  # [B, prompt + answer]
        return self._processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def content_of(request: Request) -> str | list[dict[str, Any]]:
    """The message: text, after the picture where there is one."""
    if not request.image:
        return request.prompt
    image = Image.open(io.BytesIO(request.image)).convert("RGB")
    return [{"type": "image", "image": image}, {"type": "text", "text": request.prompt}]


def load_model(config: CaptionerConfig, sees: bool) -> tuple[Any, Any]:
    """(processor, or tokenizer of a model that reads text alone; model) on `config.device`, from a folder or the hub.

    Raises FileNotFoundError without weights, ValueError for a model of another kind or without a chat template.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    device = pick_device(config.device)
    revision = {"revision": config.revision} if config.revision else {}
    reader = transformers.AutoProcessor if sees else transformers.AutoTokenizer
    kind = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    try:
        processor = reader.from_pretrained(config.model, **revision)
        model = kind.from_pretrained(config.model, dtype=dtype_of(config, device), **revision)
    except OSError as error:
        raise FileNotFoundError(
            f"{config.model} has no weights that can be loaded ({first_line(error)}); give a folder, or a hub id with "
            "HF_HUB_OFFLINE unset (run `hf download ID` first where models ask for a licence)"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        role = "an image-text-to-text model" if sees else "a language model"
        raise ValueError(
            f"{config.model} is not {role} that transformers {transformers.__version__} knows ({first_line(error)}); "
            "give another, or serve it (vLLM, say) and use the backend `server`"
        ) from error
    if not getattr(processor, "chat_template", None):
        raise ValueError(f"{config.model} has no chat template: give a model that was tuned to follow instructions")
    return processor, model.to(device).eval()


def check_hf(config: CaptionerConfig) -> None:
    """Raises as `load_model` where there is no model at all: looks at its config only, which takes seconds."""
    import transformers

    revision = {"revision": config.revision} if config.revision else {}
    try:
        transformers.AutoConfig.from_pretrained(config.model, **revision)
    except OSError as error:
        raise FileNotFoundError(
            f"there is no folder {config.model} with a model, and the hub gives none of that name "
            f"({first_line(error)}); give a folder, or a hub id with HF_HUB_OFFLINE unset"
        ) from error
    except (ValueError, KeyError, TypeError):
        return  # of a kind that transformers does not know: loading says what to do


def dtype_of(config: CaptionerConfig, device: torch.device) -> torch.dtype:
    """What `config.dtype` means on this device."""
    if config.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, config.dtype)


def first_line(error: BaseException) -> str:
    """What an error says, without what others append to it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
