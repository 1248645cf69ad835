"""`make sketches`: recipes of sketchgen, each a complete config, and their command line."""

from __future__ import annotations

import sys
from dataclasses import replace

from rich.console import Console

from pipelines.exits import clean_exit
from pipelines.recipes import choose
from sketchgen.config import RunConfig
from sketchgen.run import run
from sketchgen.segmenter import SegmenterConfig
from sketchgen.shapeworld import WorldConfig
from sketchgen.source import SourceConfig


def sample() -> RunConfig:
    """Real photos that come inside packages; the embedded default."""
    return RunConfig(source=SourceConfig(name="sample"), images_per_shard=4, out="out/sketches/sample")


def coco() -> RunConfig:
    """Any folder in COCO form: --source.annotations FILE --source.images DIR."""
    return replace(sample(), source=SourceConfig(name="coco"), images_per_shard=32, out="out/sketches/coco")


def objects365() -> RunConfig:
    """Objects365 v2: --source.root DIR (data_manifests/sources/objects365.yaml says what lies there), --out URL."""
    return _boxes("objects365")


def openimages() -> RunConfig:
    """Open Images V7: --source.root DIR (data_manifests/sources/openimages.yaml says what lies there), --out URL."""
    return _boxes("openimages")


def _boxes(name: str) -> RunConfig:
    """A source without masks, as the paper drew it: SAM 2.1 masks; bring the weights of Photo-Sketching."""
    return replace(
        sample(),
        source=SourceConfig(name=name),
        segmenter=SegmenterConfig(name="sam2-hf"),
        images_per_shard=256,
        out=f"out/sketches/{name}",
    )


def shapeworld() -> RunConfig:
    """Generated scenes of everyday classes, with exact masks: --source.world.num-scenes N."""
    return replace(
        sample(),
        source=SourceConfig(name="shapeworld", world=WorldConfig(num_scenes=64)),
        segmenter=SegmenterConfig(name="annotation"),
        images_per_shard=32,
        out="out/sketches/shapeworld",
    )


RECIPES = {recipe.__name__: recipe for recipe in (sample, coco, objects365, openimages, shapeworld)}


def main() -> None:
    """Parse the recipe's name and its overrides, run it, and exit with 1 if anything failed."""
    with clean_exit("finished shards are kept, run the same command to go on"):
        config = choose(RECIPES, "python -m pipelines.sketches", "Turn photos with boxes into instance sketches.")
        failed = run(config, Console(highlight=False))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
