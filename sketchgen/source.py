"""Sources: where photos and their boxes come from. Readers yield one `SourceImage` after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sketchgen.instance import Instance


@dataclass(frozen=True)
class SourceConfig:
    """Which source, and where it lies."""

    name: str = "sample"
    """A manifest of data_manifests/sources, or `coco` for any folder in COCO form."""
    annotations: str = ""
    """Annotation file (COCO json); empty for packaged sources."""
    images: str = ""
    """Folder of the images, a local path or fsspec URL; empty for packaged sources."""
    limit: int = 0
    """Only the first N images; 0 = all."""


@dataclass(frozen=True, slots=True)
class SourceInstance:
    """One row of the source: the instance, and whether the plan takes it.

    status: `planned`, `dropped` or `crowd`; `reason` says why where it is not planned.
    """

    instance: Instance
    status: str = "planned"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image with all its rows. width and height in pixels as annotated, 0 where unknown."""

    image_id: str
    url: str
    width: int
    height: int
    license: str
    instances: tuple[SourceInstance, ...]


def read_source(config: SourceConfig) -> Iterator[SourceImage]:
    """Every image of the source that has an instance, in the source's order.

    Raises ValueError or FileNotFoundError with what was expected and the remedy.
    """
    from sketchgen.sources import coco

    images = coco.read(config)
    for number, image in enumerate(images):
        if config.limit and number >= config.limit:
            return
        yield image


def source_fingerprint(config: SourceConfig) -> str:
    """sha256 of the annotations: two runs with the same one plan the same work."""
    from sketchgen.sources import coco

    return coco.fingerprint(config)
