"""Reader of COCO-form annotations (`instances_*.json`, Objects365), and of the packaged sources in that form.

Fields used: images `id, file_name, width, height, license` (and `package, path, sha256` in packaged
sources); annotations `id, image_id, category_id, bbox [x, y, w, h] px, iscrowd, isfake, segmentation`;
categories `id, name`; licenses `id, name`.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import IO, Any

from sketchgen.index import UNKNOWN, IndexBuilder
from sketchgen.instance import Box
from sketchgen.sources.json_lists import items

NEEDED = {"images": ("id", "file_name"), "annotations": ("id", "image_id"), "categories": ("id", "name")}
"""Lists that must be there, and what each of their entries must have."""


def collect(file: IO[bytes], builder: IndexBuilder, packaged: bool) -> None:
    """Hand every image, category and row of an annotation file (binary) to the index.

    packaged: images name the package that they lie in. Raises ValueError, without the name of the file.
    """
    kinds: dict[str, str] = {}
    for kind, entry in items(file, kinds):
        if kind in NEEDED:
            _check(kind, entry)
        if kind == "annotations":
            _add_row(entry, builder)
        elif kind == "images":
            name = _packaged_file(entry) if packaged else _image_file(str(entry["file_name"]))
            size = (_size(entry.get("width")), _size(entry.get("height")))
            builder.image(str(entry["id"]), name, *size, _text(entry.get("license")))
        elif kind == "categories":
            builder.category(str(entry["id"]), str(entry["name"]))
        elif kind == "licenses" and isinstance(entry, dict):
            builder.license(_text(entry.get("id")), _text(entry.get("name")))
    for needed in NEEDED:
        if kinds.get(needed) != "list":
            raise ValueError(f"is not in COCO form: no list {needed!r} (seen: {kinds.get('') or sorted(kinds)})")


def _check(kind: str, entry: Any) -> None:
    """Each entry is a dict with the needed fields as numbers or text."""
    for name in NEEDED[kind]:
        if not isinstance(entry, dict) or not _is_text(entry.get(name)):
            raise ValueError(f"{kind} must have {' and '.join(NEEDED[kind])}, see {entry!r:.200}")


def _add_row(annotation: dict[str, Any], builder: IndexBuilder) -> None:
    """A row without a box or a class stays a row: the index says why it is left out."""
    category, segmentation = annotation.get("category_id"), annotation.get("segmentation")
    builder.row(
        str(annotation["image_id"]),
        str(category) if isinstance(category, int | str) and _is_text(category) else "",
        str(annotation["id"]),
        _xyxy(annotation.get("bbox")),
        json.dumps(segmentation) if segmentation else "",
        "crowd" if annotation.get("iscrowd") else "fake" if annotation.get("isfake") else "",
    )


def _is_text(value: Any) -> bool:
    """A number, or text that can be written (a lone surrogate cannot)."""
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    return isinstance(value, int | float)


def _xyxy(bbox: Any) -> Box:
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError, OverflowError):
        return UNKNOWN
    return (x, y, x + width, y + height)


def _size(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < 1e6 else 0


def _text(value: Any) -> str:
    """As text that can be written."""
    return str(value) if _is_text(value) else ""


def _image_file(name: str) -> str:
    """The name as it is, but no annotation file reaches outside the folder of images."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "://" in name or "\0" in name or not name:
        raise ValueError(f"file_name {name!r} leads out of the folder of images; mend the annotations")
    return name


def _packaged_file(image: dict[str, Any]) -> str:
    return f"{image['package']}/{image['path']}#{image['sha256']}"
