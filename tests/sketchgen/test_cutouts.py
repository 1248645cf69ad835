"""Cut-outs: alphas, warps that keep picture and alpha together, exact masks of pasted scenes."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from sketchgen.training.cutouts import (
    Cutout,
    Photo,
    alpha_of,
    alpha_warp,
    bounds,
    cutout,
    halves,
    is_whole,
    paste_scene,
    paste_scenes,
    read_coco,
    read_drawings,
    warp,
)

RED = (230, 20, 20)


def red_disk(name: str = "disk", radius: int = 40, center: tuple[int, int] = (90, 70)) -> Cutout:
    """A red disk on green: where the picture is red, the alpha must be set."""
    rgb = np.full((150, 180, 3), (20, 160, 40), np.uint8)
    cv2.circle(rgb, center, radius, RED, -1)
    full = np.where((rgb == RED).all(axis=2), 255, 0).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(full)
    return cutout(name, halves(rgb), full[y : y + h, x : x + w].copy(), (x, y))


def blue_photo(image_id: int = 1) -> Photo:
    rgb = np.full((240, 320, 3), (10, 30, 220), np.uint8)
    return Photo(image_id, rgb, [red_disk()], halves(rgb))


def test_alpha_of_overlapping_polygons_is_their_union_as_pycocotools_says() -> None:
    polygons = [[10, 10, 50, 10, 50, 40, 10, 40], [30, 20, 80, 20, 80, 60, 30, 60]]
    found = alpha_of(polygons, 100, 120)
    assert found is not None
    alpha, (x, y) = found
    mine = np.zeros((100, 120), np.bool_)
    mine[y : y + alpha.shape[0], x : x + alpha.shape[1]] = alpha > 127
    theirs = rle.decode(rle.merge(rle.frPyObjects(polygons, 100, 120))).astype(np.bool_)
    assert (mine & theirs).sum() / (mine | theirs).sum() > 0.97


def test_alpha_of_rle_and_of_nothing() -> None:
    bits = np.zeros((40, 50), np.uint8)
    bits[5:20, 8:30] = 1
    found = alpha_of(rle.encode(np.asfortranarray(bits)), 40, 50)
    assert found is not None and found[1] == (8, 5) and found[0].shape == (15, 22) and (found[0] == 255).all()
    runs = {"size": [2, 3], "counts": [2, 2, 2]}
    found = alpha_of(runs, 2, 3)
    assert found is not None and found[1] == (1, 0) and found[0].shape == (2, 1)
    assert alpha_of(rle.encode(np.asfortranarray(bits * 0)), 40, 50) is None
    assert alpha_of([], 40, 50) is None
    assert alpha_of([[60.0, 60, 70, 60, 70, 70]], 40, 50) is None


@pytest.mark.parametrize("scale", [0.2, 0.6, 1.0, 2.3])
@pytest.mark.parametrize("angle", [0.0, 25.0])
def test_picture_alpha_and_bounds_move_together(scale: float, angle: float) -> None:
    source = red_disk()
    turn = np.deg2rad(angle)
    affine = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]]) * scale
    affine[:, 2] = (100 - affine[:, :2] @ (90, 70)) + 3.3
    picture, alpha = warp(source.pyramid, affine, (210, 210)), alpha_warp(source, affine, (210, 210))
    red = picture[..., 0].astype(int) > picture[..., 1].astype(int) + 35
    inside = alpha > 127
    assert (red & inside).sum() / (red | inside).sum() > (0.9 if scale > 0.3 else 0.8)
    x, y, w, h = cv2.boundingRect(inside.astype(np.uint8))
    assert np.allclose(bounds(source.outline, affine), (x, y, x + w, y + h), atol=1.5)


def test_pasted_scene_masks_are_what_was_pasted() -> None:
    photo = blue_photo()
    for seed in range(12):
        scene = paste_scene(np.random.default_rng(seed), photo, [red_disk(radius=45)], [])
        covered = np.zeros((240, 320), np.bool_)
        for instance, mask in zip(scene.instances, scene.masks, strict=True):
            rows, cols = mask.bits.shape
            x, y = int(instance.box[0]), int(instance.box[1])
            assert instance.box == (x, y, x + cols, y + rows) and (mask.x, mask.y) == (x, y)
            place = covered[y : y + rows, x : x + cols]
            assert not (place & mask.bits).any(), "visible parts of two objects cannot overlap"
            place |= mask.bits
        changed = np.abs(scene.image.astype(int) - photo.rgb).max(axis=2) > 100
        assert (changed & covered).sum() > 0.6 * covered.sum()
        assert changed[~covered].mean() < 0.12  # soft edges, and objects too hidden to be asked for


def test_pasted_scenes_are_reproducible_and_need_objects() -> None:
    photos = [blue_photo(3), blue_photo(6)]
    first, second = (list(paste_scenes(7, 4, photos, [])) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert a.instances == b.instances
    with pytest.raises(ValueError, match="whole enough"):
        list(paste_scenes(7, 1, [Photo(1, photos[0].rgb, [], [])], []))


def test_objects_cut_by_the_border_or_small_are_not_pasted() -> None:
    assert is_whole(red_disk())
    assert not is_whole(red_disk(center=(30, 70)))
    assert not is_whole(red_disk(radius=15))


def write_coco(folder: Path, **changes: object) -> Path:
    """Two photos: 1 with a square, a crowd and a sliver; 3, held out, with a square."""
    square = {
        "bbox": [10, 10, 40, 40],
        "segmentation": [[10, 10, 50, 10, 50, 50, 10, 50]],
        "category_id": 1,
        "iscrowd": 0,
    }
    crowd = square | {"iscrowd": 1, "segmentation": {"size": [60, 80], "counts": [0, 4800]}}
    sliver = square | {"bbox": [5, 5, 2, 2], "segmentation": [[5, 5, 7, 5, 7, 7]]}
    rows = [
        square | {"image_id": 1},
        crowd | {"image_id": 1},
        sliver | {"image_id": 1},
        square | {"image_id": 3},
    ]
    document = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 80, "height": 60} for i in (1, 3)],
        "annotations": [row | {"id": index} for index, row in enumerate(rows)],
        "categories": [{"id": 1, "name": "square"}],
    } | changes
    for image_id in (1, 3):
        cv2.imwrite(str(folder / f"{image_id}.png"), np.full((60, 80, 3), (1, 2, 200), np.uint8))
    path = folder / "instances.json"
    path.write_text(json.dumps(document))
    return path


def test_coco_split_crowds_and_small_boxes(tmp_path: Path) -> None:
    annotations = write_coco(tmp_path)
    [trained] = read_coco(annotations, tmp_path, 3, holdout=False, min_area=16)
    [unseen] = read_coco(annotations, tmp_path, 3, holdout=True)
    assert trained.image_id == 1 and [item.name for item in trained.cutouts] == ["0"]
    assert trained.rgb[0, 0].tolist() == [200, 2, 1]
    assert unseen.image_id == 3 and unseen.cutouts[0].box == (10, 10, 50, 50)
    assert len(read_coco(annotations, tmp_path, 0, holdout=False)) == 2


def test_missing_annotations_and_photos_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        read_coco(tmp_path / "nowhere.json", tmp_path, 3, holdout=False)
    annotations = write_coco(tmp_path)
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1\.png"):
        read_coco(annotations, tmp_path, 3, holdout=False)


def test_drawings_are_split_by_name_and_only_things(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    names = [f"1F{value:03X}" for value in range(40)]
    circle = '<circle cx="36" cy="36" r="18" fill="#f00"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">{circle}</svg>'
    with tarfile.open(tmp_path / "openmoji.tgz", "w:gz") as archive:
        for name in names:
            for path in (f"package/src/objects/tool/{name}.svg", f"package/color/svg/{name}.svg"):
                add(archive, path, svg)
        add(archive, "package/src/flags/country-flag/ABC.svg", svg)
        add(archive, "package/color/svg/ABC.svg", svg)
    held = {name for name in names if zlib.crc32(name.encode()) % 10 == 0}
    kept, unseen = (read_drawings(tmp_path / "openmoji.tgz", holdout, side=48) for holdout in (False, True))
    assert {item.name for item in unseen} == held and held
    assert {item.name for item in kept} == set(names) - held
    assert np.allclose(kept[0].box, (12, 12, 36, 36), atol=1)
    assert kept[0].rgb[24, 24].tolist() == [255, 0, 0]


def add(archive: tarfile.TarFile, path: str, text: str) -> None:
    info = tarfile.TarInfo(path)
    info.size = len(text)
    archive.addfile(info, io.BytesIO(text.encode()))
