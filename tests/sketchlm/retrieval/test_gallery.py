"""Galleries: each photo seen once, whatever was killed, broken, doubled or changed meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sketchlm.photo import as_photo
from sketchlm.retrieval import gallery as module
from sketchlm.retrieval.embedding import PooledEmbedding, ProjectedEmbedding
from sketchlm.retrieval.files import find_photos
from sketchlm.retrieval.gallery import BLOCK, Gallery, build_gallery, gallery_of, open_gallery, read_record
from sketchlm.retrieval.ranking import rank
from sketchlm.retrieval.scorer import Scorer
from tests.sketchlm.llava import SIZES, tiny_llava, tiny_processor
from tests.sketchlm.retrieval.photos import photo, pixels, tiny_scorer, write_photos


def build(folder: Path, *photos: object, **options: object) -> Gallery:
    """Of all photos beside the gallery unless others are named."""
    scorer = tiny_scorer()
    return build_gallery(folder, photos or folder.parent / "photos", scorer, PooledEmbedding(scorer), **options)


def same(one: Gallery, other: Gallery) -> bool:
    """Whether two galleries hold the same photos with the same numbers, in whatever rows and folders."""
    names = [[Path(name).name for name in gallery.names] for gallery in (one, other)]
    kept = [sorted(zip(mine, gallery.rows, strict=True)) for mine, gallery in zip(names, (one, other), strict=True)]
    rows = [[row for _, row in pairs] for pairs in kept]
    return (
        sorted(names[0]) == sorted(names[1])
        and np.array_equal(one.embeddings[rows[0]], other.embeddings[rows[1]])
        and np.array_equal(one.features[rows[0]], other.features[rows[1]])  # type: ignore[index]
    )


def count_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures the tower looked at, call by call."""
    looks: list[int] = []
    truly = Scorer.features

    def features(self: Scorer, pixels: np.ndarray) -> torch.Tensor:
        looks.append(len(pixels))
        return truly(self, pixels)

    monkeypatch.setattr(Scorer, "features", features)
    return looks


# --- what is in it


def test_rows_are_what_the_tower_sees_of_each_file(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 5)
    found = build(tmp_path / "gallery")
    assert found.names == tuple(map(str, paths)) and not found.broken and not found.duplicates
    for row, seed in zip(found.rows, range(5), strict=True):
        seen = tiny_scorer().features(tiny_processor().pixels(photo(seed))[None])[0]
        assert found.features is not None
        # worst seen: 5e-4, half precision
        assert np.abs(found.features[row] - seen.numpy()).max() < 4e-3
        assert np.linalg.norm(found.embeddings[row]) == pytest.approx(1)
    assert np.load(tmp_path / "gallery" / "features.npy", mmap_mode="r").shape == (5, 16, 32)  # to any program


def test_arrays_make_the_same_gallery_in_memory(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 5)
    shown = [(f"{n:03d}.png", photo(n)) for n in range(5)]
    found = gallery_of(shown, tiny_scorer(), PooledEmbedding(tiny_scorer()))
    assert same(found, build(tmp_path / "gallery")) and found.names[0] == "000.png"


def test_arrays_with_the_same_pixels_are_one_photo() -> None:
    shown = {"a": photo(1), "b": photo(2), "c": photo(1), "d": photo(1, (36, 48))}
    found = gallery_of(shown.items(), tiny_scorer(), PooledEmbedding(tiny_scorer()))
    assert found.names == ("a", "b", "d") and found.duplicates == {"c": "a"}
    with pytest.raises(ValueError, match=r"photo 'e' is float64 \(4, 4, 3\): give uint8"):
        gallery_of([("e", np.zeros((4, 4, 3)))], tiny_scorer(), PooledEmbedding(tiny_scorer()))


def test_sources_are_folders_files_patterns_and_lists(tmp_path: Path) -> None:
    paths = [str(path) for path in write_photos(tmp_path / "a" / "b", 3)]
    (tmp_path / "a" / "notes.txt").write_text("no photo")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"")
    assert find_photos(tmp_path / "a") == paths == find_photos(str(tmp_path / "a" / "**" / "*.png"))
    assert find_photos([paths[2], tmp_path / "a"]) == [paths[2], *paths[:2]]


def test_photos_are_upright_and_nothing_is_transparent(tmp_path: Path) -> None:
    upright = Image.fromarray(photo(0, (40, 20)))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(as_photo((tmp_path / "turned.png").read_bytes()), np.asarray(upright))
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (as_photo((tmp_path / "clear.png").read_bytes()) == 255).all()
    Image.fromarray(np.full((8, 8), 30_000, np.uint16)).save(tmp_path / "deep.png")
    assert (as_photo((tmp_path / "deep.png").read_bytes()) == 117).all()


# --- what is wrong with photos


def test_broken_files_are_named_and_the_rest_is_ranked(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 4)
    (photos / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (photos / "empty.png").write_bytes(b"")
    whole = (photos / "000.png").read_bytes()
    (photos / "half.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (400, 300)).save(photos / "large.png")
    found = build(tmp_path / "gallery", photos, photos / "away.png", max_megapixels=0.1)
    assert len(found) == 4
    assert {Path(name).name for name in found.broken} == {"cut.jpg", "empty.png", "half.png", "large.png", "away.png"}
    assert found.broken[str(photos / "large.png")].startswith("the image is 400x300, 0 megapixels; the limit is 0.1")
    assert found.broken[str(photos / "away.png")] == "is not there"
    assert "the image cannot be read" in found.broken[str(photos / "cut.jpg")]
    (ranking,) = rank(tiny_scorer(), PooledEmbedding(tiny_scorer()), pixels(1), found, top_k=0)
    assert sorted(ranking.names) == [str(photos / f"{n:03d}.png") for n in range(4)]


def test_duplicates_are_named_and_ranked_once(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 3)
    for name in ("copy.png", "deep/copy.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        shutil.copy(photos / "001.png", photos / name)
    found = build(tmp_path / "gallery")
    assert len(found) == 3
    assert found.duplicates == {str(photos / name): str(photos / "001.png") for name in ("copy.png", "deep/copy.png")}
    (photos / "001.png").unlink()  # who stood for them has gone: the first of them does, in the same row
    again = build(tmp_path / "gallery")
    assert str(photos / "copy.png") in again.names and len(again) == 3
    assert again.duplicates == {str(photos / "deep/copy.png"): str(photos / "copy.png")}
    assert read_record(tmp_path / "gallery").rows == 3


@pytest.mark.parametrize("made", ["nothing", "folder", "broken", "list", "pattern"])
def test_an_empty_gallery_is_refused(made: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    if made == "broken":
        (photos / "a.png").write_bytes(b"no picture")
    source = {"list": (), "pattern": str(photos / "*.png"), "nothing": str(tmp_path / "away.png")}.get(made, photos)
    with pytest.raises(ValueError, match=r"the gallery is empty: .* (give photos|name a folder that does)"):
        build_gallery(tmp_path / "gallery", source, tiny_scorer(), PooledEmbedding(tiny_scorer()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the gallery is empty: give one photo"):
        gallery_of([], tiny_scorer(), PooledEmbedding(tiny_scorer()))


# --- brought up to date


def test_only_what_is_new_or_changed_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 6)
    build(tmp_path / "gallery")
    looks = count_seen(monkeypatch)
    build(tmp_path / "gallery")
    assert looks == []
    write_photos(photos, 2, first=6)
    (photos / "000.png").unlink()
    Image.fromarray(photo(77)).save(photos / "001.png")
    gallery = open_gallery(tmp_path / "gallery", tiny_scorer(), PooledEmbedding(tiny_scorer()))
    assert gallery.changed() == [str(photos / "000.png"), str(photos / "001.png")]
    os.utime(photos / "002.png", ns=(1, 1))  # touched: read again, and found to be the same
    told: list[tuple[int, int]] = []
    found = build(tmp_path / "gallery", seen=lambda done, of: told.append((done, of)))
    assert looks == [3] and told == [(3, 7), (7, 7)]
    assert {Path(name).name for name in found.names} == {f"{n:03d}.png" for n in range(1, 8)}
    assert same(found, build(tmp_path / "anew"))
    (photos / "001.png").write_bytes(b"damaged")
    assert str(photos / "001.png") in build(tmp_path / "gallery").broken
    Image.fromarray(photo(77)).save(photos / "001.png")
    assert same(build(tmp_path / "gallery"), found)


def test_what_is_asked_for_is_what_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may keep more, which is not looked at again."""
    old = write_photos(tmp_path / "photos", 3)
    build(tmp_path / "gallery")
    new = write_photos(tmp_path / "more", 2, first=3)
    twin = shutil.copy(old[0], tmp_path / "more" / "twin.png")
    old[1].unlink()
    looks = count_seen(monkeypatch)
    found = build(tmp_path / "gallery", *new, twin)
    assert set(found.names) == set(map(str, (*new, twin))) and not found.duplicates
    assert looks == [2]  # the twin of a photo that was not asked for is in its row
    assert same(found, build(tmp_path / "alone", *new, twin))
    (ranking,) = rank(tiny_scorer(), PooledEmbedding(tiny_scorer()), pixels(1), found, top_k=0)
    assert set(ranking.names) == set(found.names)
    everything = open_gallery(tmp_path / "gallery", tiny_scorer(), PooledEmbedding(tiny_scorer()))
    assert everything.names == tuple(map(str, (old[0], old[2], *new)))
    assert everything.duplicates == {str(twin): str(old[0])}
    del looks[:]
    assert build(tmp_path / "gallery", old[2]).names == (str(old[2]),) and looks == []
    with pytest.raises(ValueError, match="none of 1 files could be read"):
        build(tmp_path / "gallery", tmp_path / "away.png")


def test_without_features_files_are_read_again(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 5)
    scorer, embedding = tiny_scorer(), PooledEmbedding(tiny_scorer())
    whole, small = build(tmp_path / "whole"), build(tmp_path / "small", keep_features=False)
    assert small.features is None and not (tmp_path / "small" / "features.npy").exists()
    first, second = (rank(scorer, embedding, pixels(1), found, top_k=0)[0] for found in (whole, small))
    assert second.names == first.names and second.yes == pytest.approx(first.yes, abs=2e-3)
    assert np.array_equal(whole.embeddings, small.embeddings)
    Image.fromarray(photo(9)).save(paths[2])
    with pytest.raises(ValueError, match=r"002.png has changed since the gallery was built: build the gallery again"):
        rank(scorer, embedding, pixels(1), small, top_n=5)


# --- killed


def _build_until_killed(folder: Path, photos: Path, blocks: int) -> None:
    """In a process of its own: dies by SIGKILL in the middle of writing a block."""
    done = []

    def dies(path: Path, text: bytes, counted: int) -> None:
        if len(done) == blocks:
            with path.open("ab") as file:  # half of what it would write; the arrays are written already
                file.write(text[: len(text) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(1)
        truly(path, text, counted)

    truly, module._append_text = module._append_text, dies
    module.BLOCK = 4
    build(folder, photos)


@pytest.mark.parametrize("blocks", [0, 2])
def test_a_killed_build_goes_on_behind_its_last_whole_block(
    tmp_path: Path, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 4)
    photos = tmp_path / "photos"
    write_photos(photos, 14)
    process = multiprocessing.get_context("fork").Process(
        target=_build_until_killed, args=(tmp_path / "gallery", photos, blocks)
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    record = read_record(tmp_path / "gallery")
    assert record.rows == 4 * blocks
    assert (tmp_path / "gallery" / "photos.jsonl").stat().st_size > record.events  # half a block lies there
    half = np.load(tmp_path / "gallery" / "features.npy", mmap_mode="r")
    assert len(half) == 4 * (blocks + 1)
    looks = count_seen(monkeypatch)
    found = build(tmp_path / "gallery")
    assert sum(looks) == 14 - 4 * blocks
    assert len(found) == 14 and same(found, build(tmp_path / "calm"))


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 2)
    write_photos(tmp_path / "photos", 5)
    truly, calls = module.append_rows, []

    def full(path: Path, rows: np.ndarray, done: int) -> None:
        calls.append(path)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        truly(path, rows, done)

    with monkeypatch.context() as patch:
        patch.setattr(module, "append_rows", full)
        with pytest.raises(ValueError, match="No space left on device; make room, and build it again"):
            build(tmp_path / "gallery")
    assert read_record(tmp_path / "gallery").rows == 2
    assert same(build(tmp_path / "gallery"), build(tmp_path / "calm"))


def test_two_builds_do_not_meet(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    with module._claimed(tmp_path / "gallery"), pytest.raises(ValueError, match="another process builds the gallery"):
        build(tmp_path / "gallery")
    with pytest.raises(ValueError, match="cannot build a gallery in .*: .*; choose another folder"):
        build(tmp_path / "photos" / "000.png" / "gallery", tmp_path / "photos")


# --- damaged, or of something else


def cut(name: str, keep: float) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = next(root.glob(name))
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])

    return damage


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda root: next(root.glob(name)).write_text(text) and None


def change(**fields: object) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        record = json.loads((root / "gallery.json").read_text())
        (root / "gallery.json").write_text(json.dumps(record | fields))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut("features.npy", 0.9), r"features.npy has \d+ bytes, its 3 rows take \d+: it was cut short"),
        (cut("features.npy", 0.01), "features.npy is no array that can be read"),
        (cut("embeddings-*.npy", 0.9), "embeddings-.*npy has .* cut short"),
        (write("features.npy", "not an array"), "features.npy is no array"),
        (
            lambda root: np.save(root / "features.npy", np.zeros((3, 4), np.float16)),
            r"float16 \(3, 4\), .* wanted",
        ),
        (lambda root: (root / "features.npy").unlink(), "features.npy is missing"),
        (lambda root: (root / "photos.jsonl").unlink(), "photos.jsonl cannot be read"),
        (cut("photos.jsonl", 0.5), r"photos.jsonl cannot be read \(it has \d+ bytes"),
        (write("gallery.json", "{"), "gallery.json cannot be read"),
        (write("gallery.json", "[]"), "gallery.json cannot be read"),
        (write("gallery.json", '{"version": 1}'), "gallery.json cannot be read"),
        (change(version=9), "its version is 9, this sketchlm reads 1"),
        (change(rows=-1), "make no sense"),
        (change(rows="3"), "make no sense"),
        (change(rows=2), "names rows that are not among the 2"),
        (change(shape=[16]), "make no sense"),
        (lambda root: (root / "gallery.json").unlink(), r"gallery.json is missing"),
    ],
)
def test_damage_is_told_with_the_remedy(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    write_photos(tmp_path / "photos", 3)
    build(tmp_path / "gallery")
    damage(tmp_path / "gallery")
    with pytest.raises(ValueError, match=message) as error:
        open_gallery(tmp_path / "gallery", tiny_scorer(), PooledEmbedding(tiny_scorer()))
    assert "build it" in str(error.value)


def test_what_lies_behind_the_record_is_no_damage(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    before = build(tmp_path / "gallery")
    for name in ("features.npy", "photos.jsonl"):
        with (tmp_path / "gallery" / name).open("ab") as file:
            file.write(b"half a row")
    assert same(open_gallery(tmp_path / "gallery", tiny_scorer(), PooledEmbedding(tiny_scorer())), before)
    write_photos(tmp_path / "photos", 2, first=3)
    assert same(build(tmp_path / "gallery"), build(tmp_path / "anew"))


def test_another_model_is_refused_and_both_are_named(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    build(tmp_path / "gallery")
    mine, other = tiny_scorer(), tiny_scorer(seed=4)
    for use in (
        lambda: open_gallery(tmp_path / "gallery", other, PooledEmbedding(other)),
        lambda: build_gallery(tmp_path / "gallery", tmp_path / "photos", other, PooledEmbedding(other)),
    ):
        with pytest.raises(ValueError, match=f"{mine.tower}, this one's {other.tower}; open it with the model that"):
            use()
    with pytest.raises(ValueError, match="keeps features, keep_features is False: build it in another folder"):
        build(tmp_path / "gallery", keep_features=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "features.npy").write_bytes(b"of somebody")
    with pytest.raises(ValueError, match=r"holds features.npy and no gallery.json"):
        build(tmp_path / "mine", tmp_path / "photos")
    assert (tmp_path / "mine" / "features.npy").read_bytes() == b"of somebody"


def test_models_on_one_tower_share_a_gallery(tmp_path: Path) -> None:
    """A connector that was trained on makes other embeddings, not other features."""
    write_photos(tmp_path / "photos", 3)
    before = build(tmp_path / "gallery")
    model = tiny_llava(seed=3)
    with torch.no_grad():
        model.model.multi_modal_projector.linear_1.weight.add_(0.1)
    later = Scorer(model, tiny_processor())
    found = open_gallery(tmp_path / "gallery", later, PooledEmbedding(later))
    assert np.array_equal(found.features, before.features) and found.embedding != before.embedding
    assert not np.allclose(found.embeddings, before.embeddings)
    on_disk = build_gallery(tmp_path / "gallery", tmp_path / "photos", later, PooledEmbedding(later))
    assert np.array_equal(on_disk.embeddings, found.embeddings) and isinstance(on_disk.embeddings, np.memmap)
    write_photos(tmp_path / "photos", 1, first=3)
    build_gallery(tmp_path / "gallery", tmp_path / "photos", later, PooledEmbedding(later))
    behind = open_gallery(tmp_path / "gallery", tiny_scorer(), PooledEmbedding(tiny_scorer()))
    assert same(behind, build(tmp_path / "anew"))


def test_other_embeddings_need_features(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    build(tmp_path / "gallery", keep_features=False)
    scorer = tiny_scorer()
    other = ProjectedEmbedding(SIZES.tower_width, 4, scorer.tower)
    for use in (
        lambda: open_gallery(tmp_path / "gallery", scorer, other),
        lambda: build_gallery(tmp_path / "gallery", tmp_path / "photos", scorer, other, keep_features=False),
    ):
        with pytest.raises(ValueError, match=f"compares those of {other.fingerprint}, and no features were kept"):
            use()


def test_blocks_go_to_the_disk_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding runs at most one block ahead: memory does not grow with the gallery."""
    monkeypatch.setattr(module, "BLOCK", 3)
    write_photos(tmp_path / "photos", 10)
    rows: list[int] = []

    def told(done: int, of: int) -> None:
        time.sleep(0.01)
        rows.append(read_record(tmp_path / "gallery").rows)

    build(tmp_path / "gallery", seen=told)
    assert rows == [0, 3, 6, 9, 10] and BLOCK == 64
