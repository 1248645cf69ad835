"""Captioners: a picture and a prompt in, text out; refiners: the same without a picture. The protocol and its settings
(sketchgen.captioners builds one)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from data_manifests.schema import Box
from sketchgen.weights import weights_identity

Backend = Literal["hf", "server"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a model is asked, and what is known of its answer."""

    prompt: str
    image: bytes = field(default=b"", repr=False)
    """A JPEG file; b"" for a model that reads text alone."""
    category: str = ""
    """Class of the object that is to be described."""
    boxes: tuple[Box, ...] = ()
    """Where it is, xyxy pixels of the image; several where the question is about all of its class."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the image, pixels."""
    facts: str = ""
    """What the annotations say, in words."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer that can be used: a slug, and the value seen."""

    reason: str
    detail: str


class Captioner(Protocol):
    """A model that answers requests, many at once."""

    def answer(self, requests: Sequence[Request]) -> list[str | Failure]:
        """The text, or why there is none, of each request, in order.

        Raises ConnectionError, with the remedy, where the model is out of reach and more requests are in vain.
        """
        ...

    def check(self) -> None:
        """Raises ConnectionError, with the remedy, where requests failed and the model is out of reach."""
        ...


@dataclass(frozen=True)
class CaptionerConfig:
    """Which model, and where it runs."""

    backend: Backend = "hf"
    """hf (transformers, in the worker) or server (anything that speaks OpenAI's chat completions, such as vLLM)."""
    model: str = ""
    """hf: a local folder or hub id; server: what it calls the model. Empty: none, which a refiner may be."""
    revision: str = ""
    """Of a hub id: commit, tag or branch; "" = the newest."""
    max_tokens: int = 400
    """Length of an answer at most; what is cut off there is no valid answer."""
    batch: int = 8
    """hf: requests a call of the model; part of the settings, because it changes the last bits of its numbers."""
    device: str = "auto"
    """hf: auto (cuda if there is one), cpu, cuda, cuda:1, ..."""
    dtype: Dtype = "auto"
    """hf: auto is bfloat16 on cuda, float32 elsewhere."""
    base_url: str = "http://localhost:8000/v1"
    """server: where it answers, with its version."""
    key: str = "OPENAI_API_KEY"
    """server: the environment variable that holds its key, where it wants one."""
    structured: bool = True
    """server: ask for JSON by schema. Answers are checked anyway; off for a server that knows no schemas."""
    concurrency: int = 16
    """server: requests at once of each worker."""
    timeout: float = 60.0
    """server: seconds to wait for an answer."""
    retries: int = 3
    """server: how often a request is tried again that was refused for now (429), failed (5xx) or timed out. Waits are
    the server's `Retry-After`, else 0.5 s, doubled each time."""
    patience: int = 32
    """server: requests in a row that may fail after all that, until the shard is given up: the server is down, and
    templates would fill it in silence. More than `concurrency`: what is under way fails together."""


def check_captioner(config: CaptionerConfig, name: str) -> None:
    """Raises ValueError for settings that mean nothing. name: of the field, `captioner` or `refiner`."""
    if not config.model:
        raise ValueError(
            f"{name}.model is empty: name a model with --{name}.model (a folder or hub id for --{name}.backend hf, "
            "what the server calls it for server)"
        )
    if config.backend == "server" and not config.base_url.startswith(("http://", "https://")):
        raise ValueError(f"{name}.base_url is {config.base_url!r}, must begin with http:// or https://")


def least_of(config: CaptionerConfig, name: str) -> dict[str, tuple[float, float]]:
    """Value and minimum of each number, by name of the field."""
    return {
        f"{name}.max_tokens": (config.max_tokens, 1),
        f"{name}.batch": (config.batch, 1),
        f"{name}.concurrency": (config.concurrency, 1),
        f"{name}.timeout": (config.timeout, 0.01),
        f"{name}.retries": (config.retries, 0),
        f"{name}.patience": (config.patience, 1),
    }


def captioner_settings(config: CaptionerConfig) -> dict[str, Any]:
    """What of it decides the answers; where it runs does not."""
    if not config.model:
        return {"model": ""}
    settings: dict[str, Any] = {"backend": config.backend, "max_tokens": config.max_tokens}
    if config.backend == "server":
        return settings | {"model": config.model, "structured": config.structured}
    return settings | {
        "model": weights_identity(config.model, ""),
        "revision": config.revision,
        "batch": config.batch,
        "dtype": config.dtype,
    }


def captioner_name(config: CaptionerConfig, settings: dict[str, Any]) -> str:
    """What the shards call the model: the hub id or the server's name for it; a local folder by the architecture and
    the start of the sha256 of its files, e.g. "llava-1f0c93ab". settings: of `captioner_settings`."""
    identity = settings["model"]
    if not identity.startswith("sha256:"):
        revision = settings.get("revision", "")
        return f"{identity}@{revision}" if revision else identity
    file = Path(config.model) / "config.json"
    try:
        kind = json.loads(file.read_text())["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise FileNotFoundError(
            f"{config.model} holds no model: {file.name} with its `model_type` is missing; give a folder that "
            "`save_pretrained` wrote, or a hub id"
        ) from None
    return f"{kind}-{identity.removeprefix('sha256:')[:8]}"
