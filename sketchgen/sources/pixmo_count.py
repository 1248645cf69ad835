"""PixMo-Count: photos on the web, and how many of something each shows.

`data/SPLIT-*.parquet` has `image_url, image_sha256, count, label`, and in training `points: {x: [...], y: [...]}`, one
of each thing that was counted. URLs repeat, and rot; the sha256 says whether a photo is still the one that was counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from data_manifests.schema import source_manifest
from sketchgen.source import SourceConfig, SourceImage, SourceQuery, manifest_split
from sketchgen.store import open_url

NEEDED = ("image_url", "image_sha256", "count", "label")


def read(config: SourceConfig) -> Iterator[SourceImage]:
    """The photos in the order of the files, each with all that is counted in it.

    Raises ValueError for a folder without such files, and for files that are not as above.
    """
    license = source_manifest(config.name)[0].license.strip()
    images: dict[str, tuple[str, dict[str, SourceQuery]]] = {}
    for row in _rows(config):
        sha256, label = str(row["image_sha256"]), str(row["label"]).strip()
        _, asked = images.setdefault(sha256, (str(row["image_url"]), {}))
        query = SourceQuery(label, "count", category=label, count=_count(row), reason=_reason(row, label))
        if label in asked and asked[label] != query:
            query = SourceQuery(label, "count", category=label, reason="count-differs")
        asked[label] = query
    for sha256, (url, asked) in images.items():
        yield SourceImage(sha256, f"{url}#{sha256}", 0, 0, license, (), asked=tuple(asked.values()))


def fingerprint(config: SourceConfig) -> str:
    """sha256 of what is read. Raises as `read`."""
    digest = hashlib.sha256()
    for row in _rows(config):
        digest.update(repr([row[name] for name in NEEDED] + [_points(row)]).encode())
    return digest.hexdigest()


def _rows(config: SourceConfig) -> Iterator[dict[str, Any]]:
    manifest, split = source_manifest(config.name)[0], manifest_split(config)
    if not config.root:
        raise ValueError(
            f"source.root is empty: name the folder of {config.name} (--source.root DIR). {manifest.obtain.strip()}"
        )
    fs, root = open_url(config.root, "source.root")
    files = sorted(path for pattern in split.annotations for path in fs.glob(f"{root}/{pattern}"))
    if not files:
        raise ValueError(
            f"{config.root} does not look like {config.name}: there is no {' nor '.join(split.annotations)}"
        )
    for path in files:
        with fs.open(path, "rb") as file:
            try:
                table = pq.ParquetFile(file)
                if missing := [name for name in NEEDED if name not in table.schema_arrow.names]:
                    raise ValueError(f"there is no column {missing[0]!r}, only {table.schema_arrow.names}")
                for batch in table.iter_batches(4096):
                    yield from batch.to_pylist()
            except (ValueError, OSError) as error:  # pyarrow's own are ValueErrors and OSErrors
                raise ValueError(f"{path} cannot be read as {config.name}: {error}") from None


def _count(row: dict[str, Any]) -> int:
    return int(row["count"]) if isinstance(row["count"], int) else -1


def _points(row: dict[str, Any]) -> int:
    """How many points are given; -1 where none are."""
    points = row.get("points")
    return len(points.get("x") or ()) if isinstance(points, dict) else -1


def _reason(row: dict[str, Any], label: str) -> str:
    count, points = _count(row), _points(row)
    if count < 0 or not label:
        return "no-answer"
    return "count-differs" if points not in (-1, count) else ""
