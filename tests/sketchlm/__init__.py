"""A small writer of shards that follows the contract, for the tests of what reads them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import webdataset as wds

SIZE = (48, 32)
"""Width and height of the photos."""


def record_of(name: str, rows: int = 1) -> dict[str, Any]:
    """The json of a sample with `rows` sketched objects and one query for each."""
    box = [4.0, 5.0, 40.0, 30.0]
    return {
        "schema": 1,
        "image": {"source": "tests", "id": name, "width": SIZE[0], "height": SIZE[1], "license": "CC0"},
        "objects": [
            {"object_id": str(row), "category": "dog", "box": box, "mask": {"size": [0, 0], "counts": ""},
             "status": "written"}
            for row in range(rows)
        ],
        "sketches": [
            {"row": row, "sketch_id": f"tests/{name}/{row}", "category": "dog", "source": "tests", "style": "ink",
             "object_id": str(row), "generator": ""}
            for row in range(rows)
        ],
        "queries": [
            {"query_id": str(row), "task": "bbox", "row": row, "category": "dog", "boxes": [box], "count": -1,
             "question": "", "answers": [""], "match": -1, "answer_source": "facts"}
            for row in range(rows)
        ],
    }  # fmt: skip


def sample_of(name: str, rows: int = 1) -> dict[str, bytes]:
    """The three files of a sample."""
    rng = np.random.default_rng(len(name))
    photo = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    strip = np.full((256 * rows, 256), 255, np.uint8)
    strip[::7] = 0
    return {
        "jpg": cv2.imencode(".jpg", photo)[1].tobytes(),
        "sketches.png": cv2.imencode(".png", strip)[1].tobytes(),
        "json": json.dumps(record_of(name, rows)).encode(),
    }


def tar_of(samples: dict[str, dict[str, bytes]]) -> bytes:
    """A tar of samples by key."""
    buffer = io.BytesIO()
    with wds.TarWriter(buffer, encoder=False, mtime=0) as tar:
        for key, files in samples.items():
            tar.write({"__key__": key, **files})
    return buffer.getvalue()


def completion_of(number: int, tar: bytes, samples: int) -> dict[str, Any]:
    """The completion record of a tar."""
    return {
        "schema": 1,
        "shard": number,
        "images": samples,
        "samples": samples,
        "written": samples,
        "rejected": 0,
        "tar_bytes": len(tar),
        "tar_sha256": hashlib.sha256(tar).hexdigest(),
        "ledger_sha256": "",
        "fingerprint": "tests",
    }


def write_shard(folder: Path, number: int, samples: dict[str, dict[str, bytes]]) -> Path:
    """Write a finished shard; returns its tar."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:06d}.tar"
    path.write_bytes(tar_of(samples))
    record = completion_of(number, path.read_bytes(), len(samples))
    path.with_suffix(".json").write_text(json.dumps(record))
    return path


def write_shards(folder: Path, counts: Sequence[int], name: str = "s") -> list[str]:
    """Write shards of so many samples; returns the names of all (image.id): `{name}{shard}-{index}`."""
    names = []
    for shard, count in enumerate(counts):
        ours = [f"{name}{shard}-{index}" for index in range(count)]
        samples = {f"{shard:06d}-{at:05d}": sample_of(one, rows=1 + at % 3) for at, one in enumerate(ours)}
        write_shard(folder, shard, samples)
        names += ours
    return names
