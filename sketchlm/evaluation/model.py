"""Which model answers: its name, its fingerprint, and what is known of it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sketchlm.bundle import Bundle
from sketchlm.evaluation.record import ModelFacts
from sketchlm.model import unwrap

SAMPLED = 4096
"""Values of each weight that its fingerprint reads: all of a 7B would take a minute."""


def facts_of(name: str, bundle: Bundle) -> ModelFacts:
    """What a report says of the model called `name` by the user."""
    config = unwrap(bundle.model).config
    facts: dict[str, Any] = {
        "stage": bundle.info.stage,
        "base": bundle.info.base,
        **{key: value for key, value in bundle.info.trained.items() if isinstance(value, str | int | float)},
        "parameters": sum(parameter.numel() for parameter in bundle.model.parameters()),
        "image_side": int(config.vision_config.image_size),
        "image_tokens": int(config.image_seq_length),
        "frame": bundle.info.prompt.frame,
    }
    return ModelFacts(
        name=short_name(name),
        path=name,
        fingerprint=fingerprint(bundle),
        facts={key: value for key, value in facts.items() if value != ""},
    )


def short_name(name: str) -> str:
    """What tells a model from others: of a hub id its second half, of out/finetune/tiny/bundle `finetune-tiny`."""
    parts = [part for part in Path(name).parts if part not in ("/", ".", "..", "out")]
    if len(parts) > 1 and parts[-1] == "bundle":
        return "-".join(parts[-3:-1])
    return parts[-1] if parts else name


def fingerprint(bundle: Bundle) -> str:
    """sha256 of the prompt, and of name, shape and SAMPLED evenly spaced values of every weight; first 16 digits."""
    digest = hashlib.sha256(repr(sorted(asdict(bundle.info.prompt).items())).encode())
    for name, tensor in sorted(bundle.model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().reshape(-1)
        some = flat[:: max(1, len(flat) // SAMPLED)].cpu()
        digest.update((some.float() if some.is_floating_point() else some.to(torch.int64)).numpy().tobytes())
    return digest.hexdigest()[:16]
