"""Reader of COCO-form annotations (`instances_*.json`), and of the packaged sources in that form.

Fields used: images `id, file_name, width, height, license` (and `package, path, sha256` in packaged
sources); annotations `id, image_id, category_id, bbox [x, y, w, h] px, iscrowd, segmentation`;
categories `id, name`; licenses `id, name`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import fsspec

from data_manifests.schema import source_manifest
from sketchgen.instance import Box, Instance
from sketchgen.source import SourceConfig, SourceImage, SourceInstance


def annotations_url(config: SourceConfig) -> str:
    """The annotation file that `config` means: the manifest's for packaged sources, else the user's."""
    if config.annotations:
        return config.annotations
    if config.name == "coco":
        raise ValueError(
            "source.annotations is empty: name the COCO json and the folder of its images, e.g. "
            "--source.annotations instances_val2017.json --source.images val2017"
        )
    manifest, path = source_manifest(config.name)
    return str(path.parent / manifest.annotations)


def read(config: SourceConfig) -> Iterator[SourceImage]:
    """Images with at least one annotation, in the order of the file."""
    url = annotations_url(config)
    data = _load(url)
    names = {c["id"]: str(c["name"]) for c in _records(data, "categories", ("id", "name"), url)}
    licenses = _licenses(data.get("licenses"))
    rows: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    seen = set()
    for annotation in _records(data, "annotations", ("id", "image_id"), url):
        if annotation["id"] in seen:
            raise ValueError(f"{url}: annotation id {annotation['id']!r} appears twice; ids must be unique")
        seen.add(annotation["id"])
        rows[annotation["image_id"]].append(annotation)
    for image in _records(data, "images", ("id", "file_name"), url):
        annotations = rows.pop(image["id"], [])
        if not annotations:
            continue
        yield SourceImage(
            image_id=str(image["id"]),
            file=_packaged_file(image) if config.packaged else _image_file(str(image["file_name"]), url),
            width=_size(image.get("width")),
            height=_size(image.get("height")),
            license=licenses.get(str(image.get("license")), ""),
            instances=tuple(_instance(annotation, names) for annotation in annotations),
        )
    if rows:
        strays = sum(map(len, rows.values()))
        raise ValueError(
            f"{url}: {strays} annotations name images that the file does not list "
            f"(first image_id: {next(iter(rows))!r}); the file is incomplete"
        )


def fingerprint(config: SourceConfig) -> str:
    """sha256 of the annotation file."""
    url = annotations_url(config)
    try:
        with fsspec.open(url, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise _missing(url) from None


def _missing(url: str) -> FileNotFoundError:
    return FileNotFoundError(f"{url} does not exist: source.annotations must name a COCO json")


def _load(url: str) -> dict[str, Any]:
    try:
        with fsspec.open(url, "rb") as file:
            data = json.load(file)
    except FileNotFoundError:
        raise _missing(url) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{url} is not valid JSON ({error}): is the download complete?") from None
    keys = sorted(data) if isinstance(data, dict) else type(data).__name__
    for needed in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(needed), list):
            raise ValueError(f"{url} is not in COCO form: no list {needed!r} (seen: {keys})")
    return data


def _records(data: dict[str, Any], kind: str, needed: tuple[str, ...], url: str) -> Iterator[dict[str, Any]]:
    """The entries of one list, each a dict with the needed fields as numbers or text."""
    for entry in data[kind]:
        for name in needed:
            if not isinstance(entry, dict) or not _is_text(entry.get(name)):
                raise ValueError(f"{url}: {kind} must have {' and '.join(needed)}, see {entry!r:.200}")
        yield entry


def _is_text(value: Any) -> bool:
    """A number, or text that can be written (a lone surrogate cannot)."""
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    return isinstance(value, int | float)


def _instance(annotation: dict[str, Any], names: dict[Any, str]) -> SourceInstance:
    """A bad box stays planned: the worker rejects it, so that the ledger shows the row."""
    category = annotation.get("category_id")
    instance = Instance(
        object_id=str(annotation["id"]),
        category=names.get(category, "") if isinstance(category, int | str) else "",
        box=_xyxy(annotation.get("bbox")),
        segmentation=annotation.get("segmentation") or None,
    )
    if annotation.get("iscrowd"):
        return SourceInstance(instance, "crowd", "crowd")
    if not instance.category:
        return SourceInstance(instance, "dropped", "category-unknown")
    return SourceInstance(instance)


def _xyxy(bbox: Any) -> Box:
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError, OverflowError):
        return (math.nan, math.nan, math.nan, math.nan)
    return (x, y, x + width, y + height)


def _size(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < 1e6 else 0


def _licenses(entries: Any) -> dict[str, str]:
    """License id -> name; what is not in form is no licence."""
    known = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return {str(entry.get("id")): str(entry.get("name") or "") for entry in known}


def _image_file(name: str, url: str) -> str:
    """The name as it is, but no annotation file reaches outside the folder of images."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "://" in name or "\0" in name or not name:
        raise ValueError(f"{url}: file_name {name!r} leads out of the folder of images; mend the annotations")
    return name


def _packaged_file(image: dict[str, Any]) -> str:
    return f"{image['package']}/{image['path']}#{image['sha256']}"
