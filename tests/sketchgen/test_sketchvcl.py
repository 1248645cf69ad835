"""An output of sketchgen as a bank: its sketches come back to the pixel, and no photo has some in both splits."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sketchgen.bank import split_of
from sketchgen.banks import BankConfig, build_bank
from sketchgen.run import run
from tests.sketchgen.test_run import config, ledger, quiet, samples


@pytest.fixture
def output(coco_folder, tmp_path: Path) -> Path:
    """Sketches of forty photos, each with a ball and a bat."""
    bats = [
        {"id": number, "image_id": number, "category_id": 9, "bbox": [30, 20, 80, 80],
         "segmentation": [[30, 20, 110, 20, 110, 100, 30, 100]]}
        for number in range(1, 41)
    ]  # fmt: skip

    def rename(data: dict) -> None:
        data["categories"][0]["name"] = "Sofa Bed"

    assert run(config(coco_folder(40, extra=bats, edit=rename), tmp_path / "out"), quiet()) == 0
    return tmp_path / "out"


def test_every_sketch_can_be_drawn_and_is_the_one_in_the_shard(output: Path) -> None:
    strips = {}
    for sample in samples(output):
        record = json.loads(sample["json"])
        strip = np.asarray(Image.open(io.BytesIO(sample["sketches.png"])))
        for sketch in record["sketches"]:
            strips[sketch["sketch_id"]] = (
                record["image"]["id"],
                strip[256 * sketch["row"] : 256 * (sketch["row"] + 1)],
            )
    assert len(strips) == 80
    seen = {}
    for split in ("train", "val"):
        bank = build_bank(BankConfig("sketchvcl", root=str(output), split=split))
        assert bank.categories == ("bat", "couch")  # a sofa bed is a couch of ours
        for seed in range(200):
            for name in bank.categories:
                drawing = bank.draw(name, seed)
                image, pixels = strips[drawing.sketch_id]
                assert (drawing.image == pixels).all() and drawing.category == name
                assert drawing.source == "sketchvcl-coco" and drawing.style == "edges"
                assert seen.setdefault(image, split) == split == split_of("sketchvcl", image)
    assert len(seen) == 40


def test_what_was_refused_is_never_drawn_and_an_empty_folder_is_named(output: Path, tmp_path: Path) -> None:
    assert {row.status for row in ledger(output)} == {"written"}
    bank = build_bank(BankConfig("sketchvcl", root=str(output)))
    with pytest.raises(ValueError, match="has no sketches of 'dog'"):
        bank.draw("dog", 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"is no output of `make sketches`: it holds no settings\.json"):
        build_bank(BankConfig("sketchvcl", root=str(tmp_path / "empty")))
    for path in output.glob("0*.json"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no sketch for train"):
        build_bank(BankConfig("sketchvcl", root=str(output)))


JSON = st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3) |
                    st.dictionaries(st.sampled_from(["source", "name", "x"]), inner, max_size=3))  # fmt: skip


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(settings_file=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_settings_of_a_folder_without_shards_are_the_one_error(tmp_path: Path, settings_file: bytes) -> None:
    (tmp_path / "settings.json").write_bytes(settings_file)
    with pytest.raises(ValueError, match=r"holds no settings\.json of one|holds no sketch for train") as caught:
        build_bank(BankConfig("sketchvcl", root=str(tmp_path)))
    assert str(tmp_path) in str(caught.value)
