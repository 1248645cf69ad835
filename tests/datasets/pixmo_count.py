"""PixMo-Count: Parquet files of URLs, labels and counts; URLs repeat, rot, and lead to other pictures than they did."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.datasets.photos import Photo, Thing, make_photo, save_photo

POINTS = pa.struct([("x", pa.list_(pa.float32())), ("y", pa.list_(pa.float32()))])
FIELDS = [("image_url", pa.string()), ("image_sha256", pa.string()), ("count", pa.int32())]
LABEL = ("label", pa.string())
FATES: Final = ("served", "cached", "kept", "rotten", "changed", "torn", "served")
"""Of photos, one after the other: served by their URL; served and in the cache; in the cache, the URL is dead; nowhere;
served, but another picture; served, and the file in the cache is cut short."""
USABLE: Final = frozenset({"served", "cached", "kept", "torn"})
NUM_PHOTOS: Final = {"train": 14, "validation": 7, "test": 7}
PLURALS = {"bus": "buses", "church": "churches", "fish": "fish", "leaf": "leaves", "sheep": "sheep"}


def write_pixmo_count(
    root: Path, num_photos: Mapping[str, int] = NUM_PHOTOS, base_url: str = "", seed: int = 0
) -> dict[str, str]:
    """`data/SPLIT-NNNNN-of-NNNNN.parquet`, photos to be served in `web/`, and a cache of some in `images/SHA256`.

    num_photos: of each split; every class of a photo is a row. base_url: where `web/` is served; "" = a file:// URL.
    Returns the fate of each URL, one of FATES.
    """
    (root / "data").mkdir(parents=True, exist_ok=True)
    base = base_url.rstrip("/") or (root / "web").resolve().as_uri()
    fates: dict[str, str] = {}
    for split, count in num_photos.items():
        rows: list[dict[str, Any]] = []
        for number in range(count):
            fate = FATES[number % len(FATES)]
            place = len(fates)
            name = (f"{place:04d}.jpg", f"photo {place}.jpeg", str(place))[place % 3]
            photo = make_photo(4_000_000 + place, seed)
            sha256 = _store(root, photo, name, fate)
            url = f"{base}/{quote(name)}"
            fates[url] = fate
            rows += [{"image_url": url, "image_sha256": sha256} | row for row in _counted(photo, split)]
        _write_rows(root / "data", split, rows)
    return fates


def _store(root: Path, photo: Photo, name: str, fate: str) -> str:
    """Put the photo where its fate says; returns the sha256 that its rows name."""
    served = root / "web" / name
    save_photo(photo, served.with_name("photo.jpg"))
    data = served.with_name("photo.jpg").read_bytes()
    served.with_name("photo.jpg").unlink()
    sha256 = hashlib.sha256(data).hexdigest()
    if fate == "changed":
        served.write_bytes(data + b"another picture")
    elif fate not in ("kept", "rotten"):
        served.write_bytes(data)
    if fate in ("cached", "kept", "torn"):
        cached = root / "images" / sha256
        cached.parent.mkdir(exist_ok=True)
        cached.write_bytes(data[: len(data) // 2] if fate == "torn" else data)
    return sha256


def _counted(photo: Photo, split: str) -> list[dict[str, Any]]:
    """A row for each class of the photo; for evaluation only of 2 to 10 objects, and without points."""
    counts = Counter(thing.category for thing in photo.things)
    rows = []
    for category, count in sorted(counts.items()):
        row = {"count": count, "label": PLURALS.get(category, f"{category}s")}
        if split == "train":
            spots = [_spot(thing) for thing in photo.things if thing.category == category]
            row["points"] = {"x": [x for x, _ in spots], "y": [y for _, y in spots]}
        if split == "train" or 2 <= count <= 10:
            rows.append(row)
    return rows


def _spot(thing: Thing) -> tuple[float, float]:
    """The pixel of the object next to its middle, as somebody would point at it."""
    rows, cols = np.nonzero(thing.mask.bits)
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (cols - cols.mean()) ** 2))
    return float(cols[nearest] + thing.mask.x) + 0.5, float(rows[nearest] + thing.mask.y) + 0.5


def _write_rows(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    """Train in two files, the others in one."""
    fields = [*FIELDS, ("points", POINTS), LABEL] if split == "train" else [*FIELDS, LABEL]
    parts = 2 if split == "train" else 1
    for part in range(parts):
        table = pa.Table.from_pylist(rows[part::parts], pa.schema(fields))
        pq.write_table(table, folder / f"{split}-{part:05d}-of-{parts:05d}.parquet")
