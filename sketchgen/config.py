"""The complete settings of a run, and which of them decide the bytes of its output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rich.console import Console

from data_manifests.schema import SCHEMA_VERSION
from sketchgen.engine import EngineConfig
from sketchgen.report import ReportConfig
from sketchgen.segmenter import SegmenterConfig, segmenter_weights
from sketchgen.selection import SelectionConfig
from sketchgen.sketcher import SketcherConfig, sketcher_weights
from sketchgen.source import SourceConfig
from sketchgen.sources import source_fingerprint
from sketchgen.worker import DrawConfig


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run of sketchgen needs."""

    source: SourceConfig = field(default_factory=SourceConfig)
    select: SelectionConfig = field(default_factory=SelectionConfig)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    sketcher: SketcherConfig = field(default_factory=SketcherConfig)
    draw: DrawConfig = field(default_factory=DrawConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    images_per_shard: int = 256
    """Images a shard: the unit of work, and of what a kill can cost."""
    threads: int = 1
    """Threads of a worker's models; fixed, so that reruns are identical."""
    overlap: bool = True
    """A worker reads, segments and sketches at once, in threads of its own, so that a GPU need not wait for the CPU;
    changes no byte."""
    out: str = "out/sketches"
    """Output folder, a local path or fsspec URL."""
    dry_run: bool = False
    """Print the plan and stop."""


def settings_of(config: RunConfig, console: Console | None = None) -> dict[str, Any]:
    """The settings that decide the bytes of the output; paths and the engine are not among them.

    console: shows how far the index of the source is, where it has to be made first.
    """
    segmenter = asdict(config.segmenter) | {"checkpoint": segmenter_weights(config.segmenter)}
    sketcher = asdict(config.sketcher) | {"checkpoint": sketcher_weights(config.sketcher)}
    for part in (segmenter, sketcher):
        del part["device"]
    return {
        "schema": SCHEMA_VERSION,
        "source": source_settings(config.source, console),
        "select": asdict(config.select),
        "segmenter": segmenter,
        "sketcher": sketcher,
        "draw": asdict(config.draw),
        "images_per_shard": config.images_per_shard,
        "threads": config.threads,
    }


def source_settings(source: SourceConfig, console: Console | None = None) -> dict[str, Any]:
    """What identifies a source in the settings of a run; console as `settings_of`."""
    settings = {
        "name": source.name,
        "label": source.called,
        "limit": source.limit,
        "annotations": source_fingerprint(source, console),
    }
    if source.generated:  # the fingerprint holds it too, but says not which field differs
        settings["world"] = asdict(source.world) | {"kinds": list(source.world.kinds)}
    return settings


def checked(config: RunConfig) -> RunConfig:
    """The config with local paths made absolute: workers may run elsewhere.

    Raises ValueError for numbers that mean nothing, with the flag and what it must be.
    """
    least = {
        "images_per_shard": (config.images_per_shard, 1),
        "threads": (config.threads, 1),
        **config.engine.least,
        "source.limit": (config.source.limit, 0),
        "select.images": (config.select.images, 0),
        "select.instances_per_image": (config.select.instances_per_image, 0),
        "select.balance": (config.select.balance, 0),
        "segmenter.batch": (config.segmenter.batch, 1),
        "segmenter.images": (config.segmenter.images, 1),
        "sketcher.batch": (config.sketcher.batch, 1),
        "sketcher.diffusion.steps": (config.sketcher.diffusion.steps, 1),
        "draw.images_per_batch": (config.draw.images_per_batch, 1),
        "draw.photo.max_side": (config.draw.photo.max_side, 1),
        "draw.edges.outline": (config.draw.edges.outline, 1),
        "draw.margin": (config.draw.margin, 1),
        "report.previews": (config.report.previews, 0),
        "report.per_page": (config.report.per_page, 1),
        "report.pages": (config.report.pages, 1),
    }
    check_least(least)
    if not 0 < config.sketcher.diffusion.strength <= 1:
        raise ValueError(f"sketcher.diffusion.strength is {config.sketcher.diffusion.strength}, must be in (0, 1]")
    return replace(
        config,
        out=absolute(config.out),
        source=absolute_source(config.source),
        segmenter=replace(config.segmenter, checkpoint=_absolute_if_there(config.segmenter.checkpoint)),
        sketcher=replace(config.sketcher, checkpoint=_absolute_if_there(config.sketcher.checkpoint)),
    )


def check_least(least: Mapping[str, tuple[float, float]]) -> None:
    """least: value and minimum by name of the field. Raises ValueError for the first that is below."""
    for name, (value, minimum) in least.items():
        if value < minimum:
            raise ValueError(f"{name} is {value}, must be at least {minimum}")


def absolute_source(source: SourceConfig) -> SourceConfig:
    """The source with local paths made absolute."""
    return replace(
        source,
        root=absolute(source.root),
        annotations=absolute(source.annotations),
        images=absolute(source.images),
        index=absolute(source.index),
    )


def absolute(url: str) -> str:
    """A local path made absolute; URLs and "" as they are."""
    return os.path.abspath(os.path.expanduser(url)) if url and "://" not in url else url


def _absolute_if_there(checkpoint: str) -> str:
    """A checkpoint may be a hub id, which looks like a relative path."""
    return absolute(checkpoint) if checkpoint and os.path.exists(os.path.expanduser(checkpoint)) else checkpoint
