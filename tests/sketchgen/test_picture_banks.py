"""Sketchy and TU-Berlin, in folders of their exact shape: splits, transforms, invalid drawings, and what is refused."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from data_manifests.schema import bank_manifest
from sketchgen.banks import BankConfig, bank_settings, build_bank, check_bank
from sketchgen.banks.pictures import PictureBank, read_drawing
from sketchgen.banks.sketchy import photo_of, sketchy_files, split_of_photo
from sketchgen.source import SourceConfig
from sketchgen.sources import sketchy as photos
from tests.datasets import write_sketchy, write_tu_berlin
from tests.datasets.sketchy import CENTRED, STRETCHED, photo_name


def draw(path: Path, size: int = 256, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA" if mode == "RGBA" else "RGB", (size, size), (0, 0, 0, 0) if mode == "RGBA" else "white")
    ImageDraw.Draw(image).ellipse((size // 4, size // 4, 3 * size // 4, 3 * size // 4), outline="black", width=6)
    image.convert(mode).save(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of twenty photos with two drawings each, in two transforms, without lists."""
    folder = tmp_path_factory.mktemp("sketchy")
    write_sketchy(folder, ("cat", "cup", "hot-air_balloon"), 20, 2, (CENTRED, STRETCHED), lists=False, extended=0)
    return folder


@pytest.fixture
def sketchy(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed; a drawing more in the transform that is not read."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    draw(tmp_path / "256x256" / "sketch" / STRETCHED / "cat" / f"{photo_name('cat', 0)}-9.png")
    return tmp_path


def names(files: dict[str, list[Path]]) -> set[str]:
    return {f"{place}/{path.stem}" for place, paths in files.items() for path in paths}


def test_splits_go_by_photo_and_lose_nothing(sketchy: Path) -> None:
    train, val = sketchy_files(sketchy, "train"), sketchy_files(sketchy, "val")
    assert len(names(train)) + len(names(val)) == 120 and not names(train) & names(val)
    photos = [{photo_of(path) for paths in files.values() for path in paths} for files in (train, val)]
    assert not photos[0] & photos[1] and photos[1]


def test_the_official_test_set_decides_where_it_is_there(sketchy: Path) -> None:
    cat, cup = photo_name("cat", 28), photo_name("cup", 35)
    sketches = sketchy / "256x256" / "sketch" / CENTRED
    shutil.copytree(sketches / "cat", sketches / "lion")  # a name, not its place, is what the lists mean
    (sketchy / "info").mkdir()
    (sketchy / "info" / "testset.txt").write_text(f"cat/{cat}.jpg\ncup/{cup}.jpg\n")
    (sketchy / "info" / "invalid-error.txt").write_text(f"{cat}-2\n\n{photo_name('cat', 49)}-1\n")
    assert names(sketchy_files(sketchy, "val")) == {f"cat/{cat}-1", f"lion/{cat}-1", *numbered("cup", cup)}
    train = names(sketchy_files(sketchy, "train"))
    assert not {f"{place}/{photo_name('cat', 49)}-1" for place in ("cat", "lion")} & train
    assert len(train) == 160 - 6 - 2  # without those of the test set, and the other invalid one of cat and lion


def test_the_lists_of_the_dataset_are_read_as_they_come(tmp_path: Path) -> None:
    write_sketchy(tmp_path, ("cat", "car_(sedan)"), 4, 5, (CENTRED,))
    found = {split: sketchy_files(tmp_path, split) for split in ("train", "val")}
    for name in ("cat", "car_(sedan)"):
        assert {photo_of(path) for path in found["val"][name]} == {photo_name(name, 0)}
        assert {photo_of(path) for path in found["train"][name]} == {photo_name(name, 7 * n) for n in (1, 2, 3)}
        assert len(found["val"][name]) == 5 and len(found["train"][name]) == 3 * 5 - 1  # one is invalid


def numbered(name: str, photo: str) -> set[str]:
    """Both drawings of a photo: of each third photo they are numbered from 2."""
    first = 2 if int(photo.rpartition("_")[2]) // 7 % 3 == 2 else 1
    return {f"{name}/{photo}-{first + n}" for n in range(2)}


def test_zero_shot_protocols_name_their_classes() -> None:
    protocols = bank_manifest("sketchy").unseen
    assert {name: len(set(classes)) for name, classes in protocols.items()} == {"shen-25": 25, "yelamarthi-21": 21}


def test_a_photo_has_drawings_of_its_own_and_of_others(sketchy: Path) -> None:
    files = sketchy_files(sketchy, "train")
    bank = PictureBank("sketchy", files, photo_of)
    photo = photo_of(files["cat"][0])
    for seed in range(20):
        pair = bank.pair(photo, seed)
        assert pair is not None
        own, other = pair
        assert photo_of(Path(own.sketch_id)) == photo != photo_of(Path(other.sketch_id))
        assert own.category == other.category == "cat"
    assert bank.pair("nobody's", 0) is None
    assert PictureBank("sketchy", files).pair(photo, 0) is None


def test_a_photo_is_named_by_its_drawings() -> None:
    assert photo_of(Path("n02691156_58-1.png")) == "n02691156_58"
    assert photo_of(Path("odd.png")) == "odd"
    assert split_of_photo("a", {"a"}) == "val" and split_of_photo("b", {"a"}) == "train"


@pytest.mark.parametrize("name", ["png", "."])
def test_tu_berlin_is_for_evaluation_and_read_from_its_folder(tmp_path: Path, name: str) -> None:
    write_tu_berlin(tmp_path / "whole", ("bear (animal)", "cat"), 11)
    (tmp_path / "whole" / "png" / "empty class").mkdir()
    root = tmp_path / "whole" / ("" if name == "png" else "png")
    config = BankConfig("tu_berlin", root=str(root), split="val")
    check_bank(config)
    bank = build_bank(config)
    assert bank.categories == ("bear (animal)", "cat")
    assert [bank.draw("bear (animal)", n).sketch_id for n in range(11)] == [f"tu_berlin/{n}" for n in range(1, 12)]
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
    draw(moved / "256x256" / "sketch" / CENTRED / "cat" / "._n03_99-1.png")  # hidden files are no data
    draw(moved / ".Trashes" / "x.png")
    assert bank_settings(BankConfig("sketchy", root=str(moved))) == before
    draw(moved / "256x256" / "sketch" / CENTRED / "cat" / "n03_99-1.png")
    assert bank_settings(BankConfig("sketchy", root=str(moved))) != before


def encoded(mode: str, kind: str) -> bytes:
    """A drawing in a file format."""
    data = io.BytesIO()
    image = Image.new("L", (40, 30), "white")
    ImageDraw.Draw(image).line((5, 5, 30, 20), fill=0, width=3)
    image.convert(mode).save(data, kind)
    return data.getvalue()


FILES = [encoded(mode, kind) for mode, kind in [
    ("L", "PNG"), ("1", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("RGB", "JPEG"), ("CMYK", "JPEG"),
    ("P", "GIF"), ("RGB", "WEBP"), ("L", "BMP"), ("F", "TIFF"), ("RGB", "PPM")]]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A picture with some bytes changed, or cut short."""
    data = bytearray(draw(st.sampled_from(FILES)))
    places = st.integers(0, len(data) - 1)
    for place, value in draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        data[place] = value
    return bytes(data[: draw(st.just(len(data)) | places)])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60) | damaged())
@example(data=b"")
@example(data=b"P5 1 9000 255\n" + bytes(9000))
@example(data=b"P5 90000 90000 255\n")
def test_any_bytes_are_a_drawing_or_the_one_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    try:
        drawing = read_drawing(path)
    except ValueError as error:
        blank = f"{path} draws nothing: copy it again, or remove it"
        assert str(error) == blank or str(error).startswith(f"{path} is no drawing that can be read: ")
        return
    assert drawing.min() < 255
    assert drawing.shape == (256, 256) and drawing.dtype == np.uint8
    assert (read_drawing(path) == drawing).all()


@pytest.mark.parametrize("data", FILES)
def test_pictures_of_every_format_are_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    assert read_drawing(tmp_path / "a.png").shape == (256, 256)


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000), (300, 300)])
def test_a_picture_that_draws_nothing_is_an_error(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("L", size, "white" if size == (300, 300) else "black").save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png draws nothing: copy it again, or remove it"):
        read_drawing(tmp_path / "a.png")


LETTERS = st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"])
ANYTHING = st.text(LETTERS, min_size=1, max_size=12).filter(lambda name: name.strip("."))
SHOWN = ANYTHING.filter(lambda name: not name.startswith("."))
NO_TEXT = st.binary(min_size=1, max_size=9).map(lambda name: b"n" + name.translate(None, b"/\0") + b"\xff")


def drawn(folder: Path, split: str) -> set[str]:
    """Drawings of a split of Sketchy, which may be none."""
    try:
        return names(sketchy_files(folder, split))
    except ValueError as error:
        assert f"holds no drawing for {split}" in str(error)
        return set()


PHOTOS = st.builds(lambda noun, number: f"n{noun:08d}_{number}", st.integers(0, 3), st.integers(0, 30))


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    classes=st.sets(st.sampled_from(["cat", "car_(sedan)", "hot-air_balloon", "cup"]) | SHOWN, min_size=1, max_size=3),
    drawings=st.sets(st.tuples(PHOTOS | SHOWN, st.integers(1, 9)), max_size=12),
    data=st.data(),
)
def test_splits_of_sketchy_share_out_every_valid_drawing(
    tmp_path_factory: pytest.TempPathFactory, classes: set[str], drawings: set[tuple[str, int]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("sketchy")
    root = folder / "256x256" / "sketch" / CENTRED
    root.mkdir(parents=True)
    real = sorted(name for name, _ in drawings if name.startswith("n0"))
    test = data.draw(st.none() | st.sets(st.sampled_from(real)) if real else st.none())
    invalid = (
        data.draw(st.sets(st.sampled_from(sorted(drawings)).filter(lambda one: one[0] in real))) if real else set()
    )
    for place in classes:
        (root / place).mkdir()
        for photo, number in drawings:
            (root / place / f"{photo}-{number}.png").touch()
    (folder / "info").mkdir()
    (folder / "info" / "invalid-error.txt").write_text("".join(f"{photo}-{number}\n" for photo, number in invalid))
    if test is not None:
        (folder / "info" / "testset.txt").write_text("".join(f"cat/{photo}.jpg\n" for photo in test))
    train, val = (drawn(folder, split) for split in ("train", "val"))
    assert not train & val
    assert train | val == {f"{c}/{photo}-{number}" for c in classes for photo, number in drawings - invalid}
    if test is not None:
        assert val == {
            f"{c}/{photo}-{number}" for c in classes for photo, number in drawings - invalid if photo in test
        }


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NO_TEXT, is_folder=st.booleans(), bank=st.sampled_from(["sketchy", "tu_berlin"]))
@example(name=b"n00000001_\xff", is_folder=False, bank="sketchy")
def test_a_name_that_is_no_text_is_an_error_that_a_terminal_can_print(
    tmp_path_factory: pytest.TempPathFactory, name: bytes, is_folder: bool, bank: str
) -> None:
    """Splits are drawn from names, and shards and reports hold them."""
    folder = tmp_path_factory.mktemp("names")
    root = folder / "256x256" / "sketch" / CENTRED if bank == "sketchy" else folder / "png"
    path = root / os.fsdecode(name) / "1.png" if is_folder else root / "cat" / os.fsdecode(name + b"-1.png")
    path.parent.mkdir(parents=True)
    path.write_bytes(FILES[0])
    config = BankConfig(bank, root=str(folder), split="val")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is not UTF-8: rename it") as caught:
        build_bank(config)
    wrong = path.parent if is_folder else path
    assert str(caught.value).encode() == f"the name of {wrong} is not UTF-8: rename it".encode(
        errors="backslashreplace"
    )
    assert bank_settings(config)["files"]  # is made first, and leaves the message to the bank


@pytest.mark.parametrize("name", ["testset.txt", "invalid-error.txt"])
def test_a_list_that_is_damaged_is_named(sketchy: Path, name: str) -> None:
    (sketchy / "info").mkdir()
    (sketchy / "info" / name).write_bytes(b"n00000001_\xff-1\n")
    with pytest.raises(ValueError, match=rf"info/{name} is no list of names that can be read .*: copy it again"):
        build_bank(BankConfig("sketchy", root=str(sketchy)))


def test_a_split_without_a_drawing_is_an_error(sketchy: Path) -> None:
    (sketchy / "info").mkdir()
    (sketchy / "info" / "testset.txt").write_text("cat/nobody.jpg\n")
    with pytest.raises(ValueError, match=r"holds no drawing for val: .*, of photos that info/testset\.txt names"):
        build_bank(BankConfig("sketchy", root=str(sketchy), split="val"))
    assert build_bank(BankConfig("sketchy", root=str(sketchy))).categories
    shutil.rmtree(sketchy / "256x256" / "sketch" / CENTRED)
    (sketchy / "256x256" / "sketch" / CENTRED).mkdir()
    with pytest.raises(ValueError, match=f"{CENTRED} holds no drawing for train: CLASS/PHOTO-N.png is expected there"):
        build_bank(BankConfig("sketchy", root=str(sketchy)))


def test_what_macos_leaves_in_folders_is_no_data(sketchy: Path) -> None:
    def seen() -> tuple[object, ...]:
        drawings = [sketchy_files(sketchy, split) for split in ("train", "val")]
        config = SourceConfig("sketchy", root=str(sketchy), split="val")
        return *drawings, list(photos.read(config)), photos.fingerprint(config)

    before = seen()
    assert before[2]
    for place, ending in (("sketch", "png"), ("photo", "jpg")):
        for folder in (sketchy / "256x256" / place).iterdir():
            (folder / ".DS_Store").touch()
            (folder / ".cat").mkdir()
            for path in (folder / ".cat" / f"x-1.{ending}", folder / "cat" / f"._{photo_name('cat', 0)}-1.{ending}"):
                path.write_bytes(b"\0\5\x16\7")
    assert seen() == before


def test_a_photo_whose_name_is_no_text_is_an_error(sketchy: Path) -> None:
    (sketchy / "256x256" / "photo" / STRETCHED / "cat" / os.fsdecode(b"\xff.jpg")).touch()
    config = SourceConfig("sketchy", root=str(sketchy))
    for do in (photos.fingerprint, lambda config: list(photos.read(config))):
        with pytest.raises(ValueError, match=r"cat/\\udcff\.jpg is not UTF-8: rename it"):
            do(config)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        ANYTHING, st.sets(st.integers(1, 20_000).map(str) | ANYTHING, max_size=3), min_size=1, max_size=3
    )
)
def test_files_of_tu_berlin_may_be_called_anything(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, set[str]]
) -> None:
    folder = tmp_path_factory.mktemp("tu_berlin")
    for place, stems in files.items():
        (folder / "png" / place).mkdir(parents=True)
        for stem in stems:
            (folder / "png" / place / f"{stem}.png").write_bytes(FILES[0])
    shown = {place: {stem for stem in stems if not stem.startswith(".")} for place, stems in files.items()}
    drawn = {place: stems for place, stems in shown.items() if stems and not place.startswith(".")}
    if not drawn:
        with pytest.raises(ValueError, match="does not look like TU-Berlin"):
            build_bank(BankConfig("tu_berlin", root=str(folder), split="val"))
        return
    bank = build_bank(BankConfig("tu_berlin", root=str(folder), split="val"))
    assert set(bank.categories) == set(drawn)
    for place, stems in drawn.items():
        assert {bank.draw(place, seed).sketch_id for seed in range(len(stems))} == {
            f"tu_berlin/{stem}" for stem in stems
        }
