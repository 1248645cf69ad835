"""The sources, and the way to read one."""

from __future__ import annotations

from collections.abc import Iterator

from sketchgen.source import SourceConfig, SourceImage
from sketchgen.sources import coco, shapeworld


def read_source(config: SourceConfig) -> Iterator[SourceImage]:
    """Every image of the source that has an instance, in the source's order.

    Raises ValueError or FileNotFoundError with what was expected and the remedy.
    """
    images = shapeworld.read(config.world) if config.generated else coco.read(config)
    for number, image in enumerate(images):
        if config.limit and number >= config.limit:
            return
        yield image


def source_fingerprint(config: SourceConfig) -> str:
    """sha256 of the annotations, or of what generates them: two runs with the same one plan the same work."""
    return shapeworld.fingerprint(config.world) if config.generated else coco.fingerprint(config)
