"""The source that is generated: scenes of `sketchgen.shapeworld` with exact masks, as COCO run-length encodings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict

from sketchgen.instance import Instance
from sketchgen.segmentation import encode
from sketchgen.shapeworld import VERSION, WorldConfig, check_world, lay_out, scene_file
from sketchgen.source import SourceImage, SourceInstance

LICENSE = "CC0-1.0 (generated)"


def read(world: WorldConfig) -> Iterator[SourceImage]:
    """The scenes 0 to num_scenes - 1; they are laid out here and painted when their file is read.

    Raises ValueError for settings that mean no world.
    """
    check_world(world)
    for index in range(world.num_scenes):
        image_id = f"shapeworld_{world.split}_{world.seed}_{index:08d}"
        instances = tuple(
            SourceInstance(Instance(f"{image_id}_{n}", one.category, one.box, encode(one.mask, world.side, world.side)))
            for n, one in enumerate(lay_out(world, index))
        )
        yield SourceImage(image_id, scene_file(world, index), world.side, world.side, LICENSE, instances)


def fingerprint(world: WorldConfig) -> str:
    """sha256 of the settings and of the version of the code that decide every pixel. ValueError as `read`."""
    check_world(world)
    settings = json.dumps({"version": VERSION, **asdict(world)}, sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()
