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

from data_manifests.packaged import packaged_file
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
    packaged = config.name != "coco" and source_manifest(config.name)[0].images == "packaged"
    if not packaged and not config.images:
        raise ValueError(f"source.images is empty: name the folder that holds the images of {url}")
    names = {c["id"]: str(c["name"]) for c in _records(data, "categories", ("id", "name"), url)}
    licenses = {entry.get("id"): str(entry.get("name", "")) for entry in data.get("licenses", [])}
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
            url=_packaged_url(image) if packaged else _image_url(config.images, str(image["file_name"])),
            width=_size(image.get("width")),
            height=_size(image.get("height")),
            license=licenses.get(image.get("license"), ""),
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
            if not isinstance(entry, dict) or not isinstance(entry.get(name), int | float | str):
                raise ValueError(f"{url}: {kind} must have {' and '.join(needed)}, see {entry!r:.200}")
        yield entry


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
    except (TypeError, ValueError):
        return (math.nan, math.nan, math.nan, math.nan)
    return (x, y, x + width, y + height)


def _size(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < 1e6 else 0


def _image_url(folder: str, name: str) -> str:
    """Join, but let no annotation file reach outside the folder."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"file_name {name!r} leads out of {folder!r}; mend the annotations")
    return f"{folder.rstrip('/')}/{name}"


def _packaged_url(image: dict[str, Any]) -> str:
    return str(packaged_file(image["package"], image["path"], image["sha256"]))
