"""Sketchy and TU-Berlin, in folders of their exact shape: splits, transforms, invalid drawings, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sketchgen.banks import BankConfig, bank_settings, build_bank, check_bank
from sketchgen.banks.pictures import read_drawing
from sketchgen.banks.sketchy import UNSEEN, photo_of, sketchy_files, split_of_photo


def draw(path: Path, size: int = 256, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA" if mode == "RGBA" else "RGB", (size, size), (0, 0, 0, 0) if mode == "RGBA" else "white")
    ImageDraw.Draw(image).ellipse((size // 4, size // 4, 3 * size // 4, 3 * size // 4), outline="black", width=6)
    image.convert(mode).save(path)


@pytest.fixture
def sketchy(tmp_path: Path) -> Path:
    """Three classes of twenty photos with two drawings each."""
    root = tmp_path / "256x256" / "sketch"
    for name in ("cat", "cup", "hot-air_balloon"):
        for photo in range(20):
            for number in (1, 2):
                draw(root / "tx_000100000000" / name / f"n0{len(name)}_{photo}-{number}.png")
    draw(root / "tx_000000000000" / "cat" / "n03_0-9.png")
    return tmp_path


def names(files: dict[str, list[Path]]) -> set[str]:
    return {f"{place}/{path.stem}" for place, paths in files.items() for path in paths}


def test_splits_go_by_photo_and_lose_nothing(sketchy: Path) -> None:
    train, val = sketchy_files(sketchy, "train", ""), sketchy_files(sketchy, "val", "")
    assert len(names(train)) + len(names(val)) == 120 and not names(train) & names(val)
    photos = [{photo_of(path) for paths in files.values() for path in paths} for files in (train, val)]
    assert not photos[0] & photos[1] and photos[1]


def test_the_official_test_set_decides_where_it_is_there(sketchy: Path) -> None:
    (sketchy / "info").mkdir()
    (sketchy / "info" / "testset.txt").write_text("cat/n03_4.jpg\ncup/n03_5.jpg\n")
    (sketchy / "info" / "invalid-error.txt").write_text("n03_4-2\n\nn03_7-1\n")
    assert names(sketchy_files(sketchy, "val", "")) == {"cat/n03_4-1", "cat/n03_5-1", "cat/n03_5-2", "cup/n03_4-1",
                                                        "cup/n03_5-1", "cup/n03_5-2"}  # fmt: skip
    assert not {"cat/n03_7-1", "cup/n03_7-1"} & names(sketchy_files(sketchy, "train", ""))


def test_classes_of_a_zero_shot_protocol_are_kept_out_of_training_only(sketchy: Path) -> None:
    assert set(sketchy_files(sketchy, "train", "25")) == {"cat", "hot-air_balloon"}
    assert set(sketchy_files(sketchy, "val", "25")) == {"cat", "cup", "hot-air_balloon"}
    assert {key: len(set(classes)) for key, classes in UNSEEN.items()} == {"": 0, "25": 25, "21": 21}


def test_a_photo_is_named_by_its_drawings() -> None:
    assert photo_of(Path("n02691156_58-1.png")) == "n02691156_58"
    assert photo_of(Path("odd.png")) == "odd"
    assert split_of_photo("a", {"a"}) == "val" and split_of_photo("b", {"a"}) == "train"


@pytest.mark.parametrize("name", ["png", "."])
def test_tu_berlin_is_for_evaluation_and_read_from_its_folder(tmp_path: Path, name: str) -> None:
    for number in (1, 2, 10):
        draw(tmp_path / name / "bear (animal)" / f"{number}.png", size=1111)
    (tmp_path / name / "empty class").mkdir()
    config = BankConfig("tu_berlin", root=str(tmp_path), split="val")
    check_bank(config)
    bank = build_bank(config)
    assert bank.categories == ("bear (animal)",)
    assert {bank.draw("bear (animal)", seed).sketch_id for seed in range(3)} == {f"tu_berlin/{n}" for n in (1, 2, 10)}
    assert bank.draw("bear (animal)", 0).image.shape == (256, 256)
    with pytest.raises(ValueError, match="kept for evaluation: no training set may hold its drawings"):
        check_bank(BankConfig("tu_berlin", root=str(tmp_path)))
    with pytest.raises(ValueError, match="has no drawings of 'dog'"):
        bank.draw("dog", 1)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_drawings_of_any_kind_become_dark_on_white(tmp_path: Path, mode: str) -> None:
    draw(tmp_path / "a.png", 200, mode)
    drawing = read_drawing(tmp_path / "a.png")
    assert drawing.shape == (256, 256) and drawing.dtype == np.uint8
    assert drawing[0, 0] == 255 and 0.01 < (drawing < 128).mean() < 0.1


def test_what_is_no_bank_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"a\.png is no drawing that can be read"):
        read_drawing(tmp_path / "a.png")
    with pytest.raises(ValueError, match="does not look like Sketchy"):
        build_bank(BankConfig("sketchy", root=str(tmp_path)))
    with pytest.raises(ValueError, match="does not look like TU-Berlin"):
        build_bank(BankConfig("tu_berlin", root=str(tmp_path), split="val"))
    with pytest.raises(ValueError, match=r"bank\.root is empty: name the folder of quickdraw"):
        check_bank(BankConfig("quickdraw"))
    with pytest.raises(ValueError, match="there is no folder"):
        check_bank(BankConfig("quickdraw", root=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="must lie on a local disk"):
        check_bank(BankConfig("quickdraw", root="memory://x"))


def test_settings_say_what_a_bank_holds_and_not_where(sketchy: Path, tmp_path: Path) -> None:
    config = BankConfig("sketchy", root=str(sketchy))
    before = bank_settings(config)
    assert "root" not in before
    moved = sketchy.rename(tmp_path.parent / (tmp_path.name + "-moved"))
    assert bank_settings(BankConfig("sketchy", root=str(moved))) == before
    draw(moved / "256x256" / "sketch" / "tx_000100000000" / "cat" / "n03_99-1.png")
    assert bank_settings(BankConfig("sketchy", root=str(moved))) != before
