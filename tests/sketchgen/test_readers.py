"""Anybody's reader: plain webdataset and `datasets` take the shards, all kinds of samples, in any order."""

from __future__ import annotations

import io
import json
import tarfile
from itertools import permutations
from pathlib import Path
from typing import Any

import datasets
import pytest
import webdataset as wds
from PIL import Image

from data_manifests.card import card, features
from data_manifests.schema import Sample, validate
from tests.data_manifests.test_schema import sample


def kinds() -> dict[str, dict[str, Any]]:
    """The bare minimum, a sample straight from sketchgen (no queries), and one with everything."""
    full = sample()
    return {
        "bare": full | {"objects": [], "sketches": [], "queries": []},
        "sketches": full | {"queries": []},
        "full": full,
    }


def write_tar(path: Path, names: tuple[str, ...]) -> None:
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(names):
            record = kinds()[name]
            rows = max(1, len(record["sketches"]))
            photo, strip = io.BytesIO(), io.BytesIO()
            Image.new("RGB", (640, 480), (number, 0, 0)).save(photo, "JPEG")
            Image.new("L", (256, 256 * rows), 255).save(strip, "PNG")
            for suffix, data in (
                ("jpg", photo.getvalue()),
                ("sketches.png", strip.getvalue()),
                ("json", json.dumps(record).encode()),
            ):
                info = tarfile.TarInfo(f"000000-{number:05d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


ORDERS = list(permutations(("bare", "sketches", "full")))


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_webdataset_reads_every_order(tmp_path: Path, order: tuple[str, ...]) -> None:
    write_tar(tmp_path / "000000.tar", order)
    stream = wds.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False).decode("pil")
    read = list(stream)
    assert [set(s) - {"__key__", "__url__", "__local_path__"} for s in read] == [{"jpg", "sketches.png", "json"}] * 3
    for name, found in zip(order, read, strict=True):
        assert found["json"] == kinds()[name]
        validate(found["json"], strip_height=found["sketches.png"].height)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("how", ["folder", "features"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_datasets_reads_every_order(tmp_path: Path, order: tuple[str, ...], how: str, streaming: bool) -> None:
    """From the folder the card's features count; with data_files they are given by hand."""
    shards = tmp_path / "shards"
    shards.mkdir()
    # the first file alone is all that inference would see: make it hold one kind only
    write_tar(shards / "000000.tar", (order[0],) * 6)
    write_tar(shards / "000001.tar", order)
    (shards / "README.md").write_text(card("Test", "Shards."))
    (shards / "settings.json").write_text("{}")
    (shards / "000000.json").write_text("{}")
    cache = {"split": "train", "streaming": streaming, "cache_dir": str(tmp_path / "cache")}
    if how == "folder":
        data = datasets.load_dataset(str(shards), **cache)
    else:
        data = datasets.load_dataset(
            "webdataset",
            data_files={"train": sorted(map(str, shards.glob("*.tar")))},
            features=datasets.Features._from_yaml_list(features()),
            **cache,
        )
    read = list(data)
    assert len(read) == 9
    for name, found in zip((order[0],) * 6 + order, read, strict=True):
        assert found["json"] == kinds()[name]
        assert found["jpg"].size == (640, 480)


def test_the_card_lists_exactly_the_fields_of_the_contract() -> None:
    """Features are derived from the models; here they are compared with a full sample's own types."""
    record = Sample.model_validate(sample()).model_dump(by_alias=True)
    inferred = datasets.Dataset.from_list([record]).features
    assert datasets.Features._from_yaml_list(features())["json"] == dict(inferred)
