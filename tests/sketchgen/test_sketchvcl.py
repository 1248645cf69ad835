"""An output of sketchgen as a bank: its sketches come back to the pixel, and no photo has some in both splits."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from sketchgen.bank import split_of
from sketchgen.banks import BankConfig, build_bank
from sketchgen.instructions import run_instructions
from sketchgen.run import run
from tests.sketchgen.test_instructions import world
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
    assert bank.lookalikes("couch") == ()
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


def test_shards_of_questions_are_no_bank(tmp_path: Path) -> None:
    """Their ledgers have the same columns, and their drawings are of other banks."""
    run_instructions(world(tmp_path / "out", 2), quiet())
    with pytest.raises(ValueError, match=r"is no output of `make sketches`: it holds no settings\.json of one"):
        build_bank(BankConfig("sketchvcl", root=str(tmp_path / "out")))


# --- damage


@pytest.fixture
def small(coco_folder, tmp_path: Path) -> Path:
    """Two shards of sketches, the first with those of four photos."""
    assert run(config(coco_folder(6), tmp_path / "sound", images_per_shard=4), quiet()) == 0
    for path in (tmp_path / "sound").glob("previews/*"):
        path.unlink()
    return tmp_path / "sound"


SEEDS = range(6)


def drawn(folder: Path) -> list[tuple[str, bytes]]:
    bank = build_bank(BankConfig("sketchvcl", root=str(folder)))
    found = [bank.draw("ball", seed) for seed in SEEDS]
    return [(drawing.sketch_id, drawing.image.tobytes()) for drawing in found]


def first_json(tar: Path) -> tuple[int, int]:
    """Where the json of a sample begins, and its bytes."""
    with tarfile.open(tar) as file:
        member = next(member for member in file if member.name.endswith(".json"))
    return member.offset_data, member.size


DAMAGES: dict[str, Callable[[Path], object]] = {
    "lost": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "of another shard": lambda path: shutil.copy(path.with_stem("000001"), path),
}

NOT_DONE = ("json", "lost")
"""Such a shard is passed over, as everywhere."""


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [(suffix, damage) for suffix in ("json", "tar", "parquet") for damage in DAMAGES if (suffix, damage) != NOT_DONE],
)
def test_a_shard_that_is_not_as_it_was_made_is_named(small: Path, suffix: str, damage: str) -> None:
    DAMAGES[damage](small / f"000000.{suffix}")
    with pytest.raises(
        ValueError, match=rf"/000000\.{suffix} is not as it was made \(.*copy the shard again, or remove"
    ):
        build_bank(BankConfig("sketchvcl", root=str(small)))


@pytest.mark.parametrize("damage", ["lost", "empty", "folder", "cut"])
def test_a_tar_that_is_damaged_later_is_named(small: Path, damage: str) -> None:
    bank = build_bank(BankConfig("sketchvcl", root=str(small)))
    for name in ("000000.tar", "000001.tar"):
        DAMAGES[damage](small / name)
    for seed in SEEDS:
        with pytest.raises(ValueError, match=r"/00000\d\.tar is not as it was made \(sample 00000\d-0000\d: "):
            bank.draw("ball", seed)


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, list[tuple[float, int]], float]:
    """(which file, places in it with their new bytes, how much of it is left): places and lengths as shares."""
    share = st.floats(0, 1, exclude_max=True)
    name = draw(st.sampled_from(["000000.tar", "000000.parquet", "000000.json", "settings.json"]))
    cells = draw(st.lists(st.tuples(share, st.integers(0, 255)), max_size=5))
    return name, cells, draw(st.just(1.0) | share)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=changes())
@example(change=("000000.tar", [(0.0, 0)], 1.0))
@example(change=("000000.tar", [], 0.5))
@example(change=("000000.parquet", [(0.5, 0)], 1.0))
def test_any_damage_is_the_one_error_or_changes_no_pixel(
    small: Path, tmp_path_factory: pytest.TempPathFactory, change: tuple[str, list[tuple[float, int]], float]
) -> None:
    """Only the words in the json of a sample can change unseen: nothing in a tar guards them."""
    name, cells, left = change
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(small, folder, dirs_exist_ok=True)
    data = bytearray((folder / name).read_bytes())
    for place, value in cells:
        data[int(place * len(data))] = value
    (folder / name).write_bytes(data[: int(left * len(data))])
    try:
        found = drawn(folder)
    except ValueError as error:
        assert str(folder) in str(error)
        assert "make sketches" in str(error)
        return
    assert [pixels for _, pixels in found] == [pixels for _, pixels in drawn(small)]


@pytest.mark.parametrize("rows", [0, 2])
def test_a_sample_with_fewer_or_more_sketches_than_its_strip_is_damaged(small: Path, rows: int) -> None:
    """As long as before, so that its checksum alone would tell: the json is filled up with spaces."""
    start, size = first_json(small / "000000.tar")
    data = bytearray((small / "000000.tar").read_bytes())
    record = json.loads(data[start : start + size])
    record |= {"objects": [], "queries": [], "image": record["image"] | {"license": ""}}
    sketch = record["sketches"][0] | {"object_id": "", "style": "", "generator": "", "source": ""}
    record["sketches"] = [sketch | {"row": row} for row in range(rows)]
    text = json.dumps(record).encode()
    assert len(text) <= size
    data[start : start + size] = text.ljust(size)
    (small / "000000.tar").write_bytes(data)
    bank = build_bank(BankConfig("sketchvcl", root=str(small)))
    with pytest.raises(ValueError, match=rf"000000-00000: ValueError: its strip is \(256, 256\) .*, {rows} sketches"):
        for seed in SEEDS:
            bank.draw("ball", seed)
