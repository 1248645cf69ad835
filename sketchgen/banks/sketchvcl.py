"""Drawings that sketchgen made: the output folder of any `make sketches` as a bank (the paper's SketchVCL).

Which drawing lies where is read from the ledgers; of a shard only the strip of the one sample is read.
"""

from __future__ import annotations

import io
import json
import tarfile
from array import array
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from data_manifests.schema import STRIP_SIDE, validate
from data_manifests.vocabulary import vocabulary
from sketchgen.bank import Drawing, split_of
from sketchgen.output import RECORD, SETTINGS, shard_name

SOURCE = "sketchvcl"
SHARDS_OPEN = 256
"""Shards whose lists of samples are kept."""


class SketchVclBank:
    """The written sketches of an output folder. A photo and all its sketches belong to one split."""

    def __init__(self, folder: Path, split: str) -> None:
        """Raises ValueError for a folder without finished shards."""
        self._folder = folder
        naming = _source_of(folder)
        found: dict[str, array[int]] = {}
        for record in sorted(path for path in folder.glob("*.json") if RECORD.fullmatch(path.name)):
            columns = ["category", "image_id", "status", "key", "row"]
            for row in pq.read_table(record.with_suffix(".parquet"), columns=columns).to_pylist():
                if row["status"] == "written" and split_of(SOURCE, row["image_id"]) == split:
                    shard, _, sample = row["key"].partition("-")
                    name = vocabulary().read(row["category"], naming).name
                    found.setdefault(name, array("q")).extend((int(shard), int(sample), row["row"]))
        if not found:
            raise ValueError(f"{folder} holds no sketch for {split}: the output of `make sketches` is expected there")
        self._places = {name: found[name] for name in sorted(found)}
        """Shard, sample and row of each sketch, one after the other, by class."""
        self._members = lru_cache(SHARDS_OPEN)(self._find_members)

    @property
    def categories(self) -> tuple[str, ...]:
        """By our names, whatever their source calls them."""
        return tuple(self._places)

    def draw(self, category: str, seed: int) -> Drawing:
        """See `SketchBank`."""
        if category not in self._places:
            raise ValueError(f"{self._folder} has no sketches of {category!r}")
        places = self._places[category]
        start = 3 * (seed % (len(places) // 3))
        shard, number, row = places[start : start + 3]
        key = f"{shard:06d}-{number:05d}"
        sketch = validate(self._read(shard, f"{key}.json")).sketches[row]
        image = _row_of(self._read(shard, f"{key}.sketches.png"), row)
        return Drawing(sketch.sketch_id, category, sketch.source, sketch.style, sketch.generator, image)

    def lookalikes(self, category: str) -> tuple[str, ...]:
        """None is known."""
        return ()

    def _read(self, shard: int, member: str) -> bytes:
        offset, size = self._members(shard)[member]
        with (self._folder / shard_name(shard, "tar")).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def _find_members(self, shard: int) -> dict[str, tuple[int, int]]:
        """Where the members of a shard lie: (offset, bytes)."""
        with tarfile.open(self._folder / shard_name(shard, "tar")) as tar:
            return {member.name: (member.offset_data, member.size) for member in tar}


def _source_of(folder: Path) -> str:
    """Which source the sketches were made of: class names are read as it means them."""
    try:
        return str(json.loads((folder / SETTINGS).read_text())["source"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{folder} is no output of `make sketches`: it holds no {SETTINGS} of one") from None


def _row_of(png: bytes, row: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as strip:
        box = (0, row * STRIP_SIDE, STRIP_SIDE, (row + 1) * STRIP_SIDE)
        return np.asarray(strip.convert("L").crop(box), np.uint8)
