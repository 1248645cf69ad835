"""The card that lies beside the shards: what is in them, with explicit features.

`datasets` infers types from the first five samples and cannot know a list that is empty in all of
them; with the types given here (YAML head of README.md), any order of samples reads the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from data_manifests.schema import Sample


def features() -> list[dict[str, Any]]:
    """Features of a shard as the `dataset_info` YAML of the Hugging Face hub spells them.

    `datasets.Features._from_yaml_list(features())` gives the object that `load_dataset` takes.
    """
    return [
        {"name": "jpg", "dtype": "image"},
        {"name": "sketches.png", "dtype": "image"},
        {"name": "json", "struct": _struct(Sample)},
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]


def _struct(model: type[BaseModel]) -> list[dict[str, Any]]:
    return [{"name": field.alias or name, **_feature(field.annotation)} for name, field in model.model_fields.items()]


def _feature(annotation: Any) -> dict[str, Any]:
    if hasattr(annotation, "__metadata__"):  # Annotated[list[float], ...] inside a list
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is list:
        inner = _feature(get_args(annotation)[0])
        return {"list": inner.get("dtype") or inner.get("struct") or inner}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {"struct": _struct(annotation)}
    value = get_args(annotation)[0] if get_args(annotation) else annotation  # Literal: type of its values
    kind = value if isinstance(value, type) else type(value)
    return {"dtype": {int: "int64", float: "float64", str: "string"}[kind]}


def card(title: str, body: str, folders: Mapping[str, str] | None = None) -> str:
    """README.md of a folder of shards: YAML head for `datasets`, then `body` (Markdown).

    folders: of the parts of a mixture, below this one, by the name under which `datasets` loads them.
    """
    tars = {name: f"{folder}/*.tar" for name, folder in folders.items()} if folders else {"default": "*.tar"}
    configs = [{"config_name": name, "data_files": [{"split": "train", "path": path}]} for name, path in tars.items()]
    info: Any = {"features": features()}
    if folders:
        info = [{"config_name": name} | info for name in folders]
    head = {"configs": configs, "dataset_info": info}
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n# {title}\n\n{body.strip()}\n"
