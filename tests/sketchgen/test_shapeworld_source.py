"""shapeworld as a source: its rows, its images, its place in a run's settings, and a run of it."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from data_manifests.schema import validate
from pipelines.sketches import RECIPES
from sketchgen.config import settings_of
from sketchgen.engine import EngineConfig
from sketchgen.run import run
from sketchgen.segmentation import read_mask
from sketchgen.shapeworld import VERSION, WorldConfig, lay_out, make_scene, render
from sketchgen.sketcher import SketcherConfig
from sketchgen.source import ImageFiles, SourceConfig
from sketchgen.sources import read_source, shapeworld, source_fingerprint

WORLD = WorldConfig(num_scenes=5, split="val", seed=2)
SOURCE = SourceConfig("shapeworld", world=WORLD)


def test_rows_are_the_layouts() -> None:
    images = list(read_source(SOURCE))
    assert [image.image_id for image in images] == [f"shapeworld_val_2_{n:08d}" for n in range(5)]
    for index, image in enumerate(images):
        assert (image.width, image.height) == (256, 256)
        assert image.file == f"shapeworld/val/{index}"
        assert image.license == "CC0-1.0 (generated)"
        for number, (row, one) in enumerate(zip(image.instances, lay_out(WORLD, index), strict=True)):
            instance = row.instance
            assert (row.status, instance.object_id) == ("planned", f"{image.image_id}_{number}")
            assert (instance.category, instance.box) == (one.category, one.box)
            mask = read_mask(instance, 256, 256)
            assert (mask.x, mask.y) == (one.mask.x, one.mask.y)
            assert np.array_equal(mask.bits, one.mask.bits)


def test_the_limit_counts_scenes() -> None:
    assert len(list(read_source(replace(SOURCE, limit=2)))) == 2
    assert len(list(read_source(replace(SOURCE, limit=9)))) == 5


def test_files_are_the_scenes_as_jpeg() -> None:
    files = ImageFiles(SOURCE)
    data = files.read("shapeworld/val/1")
    assert data == ImageFiles(SOURCE).read("shapeworld/val/1") == render(WORLD, "shapeworld/val/1")
    seen = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(seen.astype(int) - make_scene(WORLD, 1).rgb).mean() < 6
    files.check(["shapeworld/val/0"])


@pytest.mark.parametrize("file", ["shapeworld/train/1", "shapeworld/val/x", "photo.jpg", "shapeworld/val/-1"])
def test_a_file_of_another_world_is_named(file: str) -> None:
    with pytest.raises(ValueError, match="is no scene of shapeworld/val"):
        ImageFiles(SOURCE).read(file)


def test_the_fingerprint_is_of_the_settings_and_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = source_fingerprint(SOURCE)
    assert mark == source_fingerprint(SourceConfig("shapeworld", world=replace(WORLD)))
    changes = [{"seed": 3}, {"split": "train"}, {"side": 128}, {"num_scenes": 6}, {"kinds": (1.0, 0.0, 0.0)}]
    others = {shapeworld.fingerprint(replace(WORLD, **change)) for change in changes}  # type: ignore[arg-type]
    monkeypatch.setattr(shapeworld, "VERSION", VERSION + 1)
    others.add(source_fingerprint(SOURCE))
    assert len(others - {mark}) == 6


def test_settings_of_other_sources_know_nothing_of_it() -> None:
    """A run that was begun before there was a world goes on."""
    assert settings_of(RECIPES["sample"]())["source"].keys() == {"name", "label", "limit", "annotations"}


def test_a_world_that_cannot_be_is_an_error_before_anything_is_made(tmp_path: Path) -> None:
    config = replace(
        RECIPES["shapeworld"](), source=SourceConfig("shapeworld", world=WorldConfig(side=9)), out=str(tmp_path / "o")
    )
    with pytest.raises(ValueError, match=r"source\.world\.side is 9, must be from 64 to 512"):
        run(config, Console(file=io.StringIO()))
    assert not list(tmp_path.rglob("*.tar"))


def test_a_run_makes_a_sketch_of_every_object(tmp_path: Path) -> None:
    config = replace(
        RECIPES["shapeworld"](),
        source=SOURCE,
        sketcher=SketcherConfig("none"),
        engine=EngineConfig("local"),
        out=str(tmp_path / "o"),
    )
    assert run(config, Console(file=io.StringIO())) == 0
    with tarfile.open(tmp_path / "o" / "000000.tar") as tar:
        texts = [tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".json")]  # type: ignore[union-attr]
    records = [validate(text) for text in texts]
    assert [record.image.id for record in records] == [f"shapeworld_val_2_{n:08d}" for n in range(5)]
    for index, record in enumerate(records):
        objects = lay_out(WORLD, index)
        assert [o.category for o in record.objects] == [o.category for o in objects]
        assert {o.status for o in record.objects} == {"written"}
        assert len(record.sketches) == len(objects)
