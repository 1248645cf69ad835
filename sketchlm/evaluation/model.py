"""Which model answers: its name, its fingerprint, and what is known of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sketchlm.bundle import Bundle
from sketchlm.evaluation.record import ModelFacts
from sketchlm.fingerprint import fingerprint
from sketchlm.model import unwrap


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
        "fusion_layers": bundle.info.fusion_layers or "",
    }
    return ModelFacts(
        name=short_name(name),
        path=name,
        fingerprint=fingerprint(bundle.model, prompt=asdict(bundle.info.prompt)),
        facts={key: value for key, value in facts.items() if value != ""},
    )


def short_name(name: str) -> str:
    """What tells a model from others: of a hub id its second half, of out/finetune/tiny/bundle `finetune-tiny`."""
    parts = [part for part in Path(name).parts if part not in ("/", ".", "..", "out")]
    if len(parts) > 1 and parts[-1] == "bundle":
        return "-".join(parts[-3:-1])
    return parts[-1] if parts else name
