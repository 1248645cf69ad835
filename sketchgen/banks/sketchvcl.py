"""Drawings that sketchgen made: the output folder of any `make sketches` as a bank (the paper's SketchVCL).

Which drawing lies where is read from the ledgers; of a shard only the strip of the one sample is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from array import array
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from data_manifests.schema import STRIP_SIDE, Completion, validate
from data_manifests.vocabulary import vocabulary
from sketchgen.bank import Drawing, split_of
from sketchgen.banks.files import printable
from sketchgen.output import RECORD, SETTINGS, shard_name
from sketchgen.shapeworld import LOOKALIKES

SOURCE = "sketchvcl"
SHARDS_OPEN = 256
"""Shards whose lists of samples are kept."""
COLUMNS = ["category", "image_id", "status", "key", "row"]


class SketchVclBank:
    """The written sketches of an output folder. A photo and all its sketches belong to one split."""

    def __init__(self, folder: Path, split: str) -> None:
        """split: train or val; "" = all, of shards of questions as well: to be measured, not trained on.

        Raises ValueError for a folder without finished shards, and for a shard whose ledger is not as it was made or
        whose tar is not as long."""
        self._folder = folder
        self._source = naming = _source_of(folder, of_questions=not split)
        found: dict[str, array[int]] = {}
        for record in sorted(path for path in folder.glob("*.json") if RECORD.fullmatch(path.name)):
            for category, image_id, place in _written(record):
                if split in ("", split_of(SOURCE, image_id)):
                    name = vocabulary().read(category, naming).name
                    found.setdefault(name, array("q")).extend(place)
        if not found:
            raise ValueError(
                f"{printable(folder)} holds no sketch{f' for {split}' if split else ''}: the output of `make sketches` "
                "is expected there"
            )
        self._places = {name: found[name] for name in sorted(found)}
        """Shard, sample and row of each sketch, one after the other, by class."""
        self._members = lru_cache(SHARDS_OPEN)(self._find_members)

    @property
    def categories(self) -> tuple[str, ...]:
        """By our names, whatever their source calls them."""
        return tuple(self._places)

    def draw(self, category: str, seed: int) -> Drawing:
        """See `SketchBank`. Raises ValueError also for a shard that is damaged there."""
        if category not in self._places:
            raise ValueError(f"{printable(self._folder)} has no sketches of {category!r}")
        places = self._places[category]
        start = 3 * (seed % (len(places) // 3))
        shard, number, row = places[start : start + 3]
        key = f"{shard:06d}-{number:05d}"
        tar = self._tar(shard)
        try:
            sketches = validate(self._read(shard, f"{key}.json")).sketches
            image = _row_of(self._read(shard, f"{key}.sketches.png"), row, len(sketches))
            sketch = sketches[row]
        except Exception as error:  # tarfile and Pillow raise almost anything on damaged files
            raise _damaged(tar, f"sample {key}: {type(error).__name__}: {error}") from None
        return Drawing(sketch.sketch_id, category, sketch.source, sketch.style, sketch.generator, image)

    def lookalikes(self, category: str) -> tuple[str, ...]:
        """Those of shapeworld, where the sketches are of it; of photos none is known."""
        return LOOKALIKES.get(category, ()) if self._source == "shapeworld" else ()

    def _read(self, shard: int, member: str) -> bytes:
        """Raises KeyError for a member that the tar lacks."""
        offset, size = self._members(shard)[member]
        with self._tar(shard).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def _find_members(self, shard: int) -> dict[str, tuple[int, int]]:
        """Where the members of a shard lie: (offset, bytes)."""
        with tarfile.open(self._tar(shard), "r:") as tar:
            return {member.name: (member.offset_data, member.size) for member in tar}

    def _tar(self, shard: int) -> Path:
        return self._folder / shard_name(shard, "tar")


def _written(path: Path) -> list[tuple[str, str, tuple[int, int, int]]]:
    """(category, image, place) of each written sketch of a shard; path: of its completion record.

    Raises ValueError for a record or ledger that is not as it was made, and for a tar that is not as long.
    """
    file = path
    try:
        record = Completion.model_validate_json(path.read_bytes())
        if shard_name(record.shard, "json") != path.name:
            raise ValueError(f"it is the record of shard {record.shard}")
        file = path.with_suffix(".tar")
        if (size := file.stat().st_size) != record.tar_bytes:
            raise ValueError(f"it has {size:,} bytes, had {record.tar_bytes:,}")
        file = path.with_suffix(".parquet")
        data = file.read_bytes()
        if (seen := hashlib.sha256(data).hexdigest()) != record.ledger_sha256:  # damaged, it may read as anything
            raise ValueError(f"its sha256 is {seen}, was {record.ledger_sha256}")
        rows = pq.read_table(io.BytesIO(data), columns=COLUMNS).to_pylist()
        return [
            (row["category"], row["image_id"], (record.shard, int(row["key"].partition("-")[2]), row["row"]))
            for row in rows
            if row["status"] == "written" and row["row"] >= 0  # a question may have no sketch
        ]
    except ValidationError as error:
        raise _damaged(file, f"no completion record: {error.errors()[0]['msg']}") from None
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise _damaged(file, str(error)) from None


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{printable(path)} is not as it was made ({what}): copy the shard again, or remove its .json and run "
        "`make sketches` again to make it anew"
    )


def _source_of(folder: Path, of_questions: bool) -> str:
    """Which source the sketches were made of: class names are read as it means them; those of questions are ours."""
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        if of_questions and "sketcher" not in settings:
            return ""
        settings["sketcher"]  # shards of questions have none
        return str(settings["source"]["name"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"{printable(folder)} is no output of `make sketches`: it holds no {SETTINGS} of one"
        ) from None


def _row_of(png: bytes, row: int, rows: int) -> NDArray[np.uint8]:
    """One of the rows of a strip. Raises ValueError for a strip that does not have as many, and what Pillow raises."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as strip:
        strip.verify()  # checksums: without them every seventh changed bit goes unnoticed
    with Image.open(io.BytesIO(png), formats=("PNG",)) as strip:
        if strip.size != (STRIP_SIDE, rows * STRIP_SIDE):
            raise ValueError(f"its strip is {strip.size} (w, h), {rows} sketches need {STRIP_SIDE} x {STRIP_SIDE} each")
        box = (0, row * STRIP_SIDE, STRIP_SIDE, (row + 1) * STRIP_SIDE)
        return np.asarray(strip.convert("L").crop(box), np.uint8)
