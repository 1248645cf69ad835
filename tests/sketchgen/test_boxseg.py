"""The box-prompted network: geometry of crops and masks, batching, files, the shipped weights."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from sketchgen.instance import Box, Instance, Mask
from sketchgen.segmenter import SegmenterConfig
from sketchgen.segmenters import build_segmenter
from sketchgen.segmenters.boxseg import (
    LOGIT_LIMIT,
    PAD,
    BoxNet,
    BoxSegmenter,
    Layout,
    crop_window,
    load_boxnet,
    mask_of,
    prompt_maps,
    save_boxnet,
    tidy,
    window_of,
)
from sketchgen.weights import shipped

SMALL = Layout(size=64)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, with a head that finds something in about half of the pixels."""
    torch.manual_seed(0)
    net = BoxNet(SMALL)
    torch.nn.init.normal_(net.head.weight, std=5.0)
    path = tmp_path_factory.mktemp("boxseg") / "random.safetensors"
    save_boxnet(net, path)
    return path


def segmenter(checkpoint: Path, batch: int = 8) -> BoxSegmenter:
    return BoxSegmenter(SegmenterConfig(checkpoint=str(checkpoint), batch=batch, device="cpu"))


def photo(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ask(*boxes: Box) -> list[Instance]:
    return [Instance(str(index), "thing", box) for index, box in enumerate(boxes)]


def same(a: Mask, b: Mask) -> bool:
    return (a.x, a.y) == (b.x, b.y) and np.array_equal(a.bits, b.bits) and abs(a.score - b.score) < 1e-5


def test_window_contains_the_box_and_bounds_the_stretching() -> None:
    window = window_of((10, 20, 30, 220), Layout(context=1.3, min_aspect=0.5))
    assert np.allclose(window, (20 - 65, 120 - 130, 20 + 65, 120 + 130))


def test_prompt_covers_exactly_the_area_of_the_box() -> None:
    maps = prompt_maps((8.25, 16.0, 40.75, 48.5), 64)
    assert maps[0].sum() == pytest.approx(32.5 * 32.5)
    inside = maps[0] == 1
    assert np.abs(maps[1:, inside]).max() < 1
    assert maps[1][:, 63].min() > 1


def test_a_window_inside_the_photo_is_that_part_of_it() -> None:
    image = photo(0, 100, 120)
    crop, window = crop_window(image, (30, 20, 94, 84), 64)
    assert window == (30, 20, 94, 84)
    np.testing.assert_array_equal(crop, image[20:84, 30:94])


def test_outside_of_the_photo_is_grey() -> None:
    image = photo(0, 100, 120)
    crop, _ = crop_window(image, (-32, -16, 32, 48), 64)
    np.testing.assert_array_equal(crop[16:, 32:], image[:48, :32])
    assert (crop[:16] == PAD).all() and (crop[:, :32] == PAD).all()


@pytest.mark.parametrize("edge", [0.0, 17.0, 40.5])
def test_mask_edges_land_on_the_pixels_of_the_photo(edge: float) -> None:
    """Logits that are positive right of a vertical line give a mask right of that line."""
    box, window, side = (20.0, 30.0, 120.0, 80.0), (0.0, 0.0, 140.0, 110.0), 70
    line = 20.0 + edge
    centers = (np.arange(side) + 0.5) * 140 / side
    logits = np.clip(np.tile(centers - line, (side, 1)), -LOGIT_LIMIT, LOGIT_LIMIT).astype(np.float32)
    mask = mask_of(logits, window, box, (110, 140))
    assert mask.y == 30 and mask.bits.shape[0] == 50
    assert mask.x + mask.bits.shape[1] == 120
    assert mask.x == pytest.approx(line, abs=1)
    assert mask.bits.all()


def test_tidy_drops_specks_fills_pinholes_and_keeps_parts_and_openings() -> None:
    logits = np.full((64, 64), -4.0, np.float32)
    logits[4:40, 4:40] = 4.0  # the object
    logits[10, 10] = -4.0  # a pinhole
    logits[20:30, 20:30] = -4.0  # an opening
    logits[48:60, 48:60] = 4.0  # a part, cut off by something in front
    logits[50, 4:6] = 4.0  # a speck
    kept = tidy(logits) > 0
    assert kept[10, 10] and not kept[20:30, 20:30].any() and kept[48:60, 48:60].all() and not kept[50, 4:6].any()


def test_batch_equals_single_across_images(checkpoint: Path) -> None:
    images = [photo(1, 90, 120), photo(2, 200, 80), photo(3, 33, 47)]
    rows = [
        ask((5, 5, 80, 70), (40.5, 20.2, 119.5, 88.8)),
        [],
        ask((0, 0, 47, 33), (3, 3, 9, 9), (20, 1, 46, 32)),
    ]
    together = segmenter(checkpoint, batch=4).segment(images, rows)
    alone = segmenter(checkpoint, batch=1)
    assert [len(row) for row in together] == [2, 0, 3]
    assert any(mask.area for row in together for mask in row)
    for image, row, masks in zip(images, rows, together, strict=True):
        for instance, mask in zip(row, masks, strict=True):
            assert same(alone.segment([image], [[instance]])[0][0], mask)


def test_same_call_same_masks(checkpoint: Path) -> None:
    image, row = photo(4, 100, 100), ask((10, 10, 90, 60), (30, 30, 70, 100))
    first, second = (segmenter(checkpoint).segment([image], [row])[0] for _ in range(2))
    assert all(np.array_equal(a.bits, b.bits) and a.score == b.score for a, b in zip(first, second, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 90), width=st.integers(1, 90), corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    side=st.tuples(st.floats(0, 1), st.floats(0, 1)), bias=st.sampled_from([-9.0, 0.0, 9.0]),
)  # fmt: skip
def test_masks_never_leave_box_or_photo(
    height: int, width: int, corner: tuple[float, float], side: tuple[float, float], bias: float
) -> None:
    """For any box of at least a pixel in any photo, and whatever the network says."""
    x0, y0 = corner[0] * (width - 1), corner[1] * (height - 1)
    box = (x0, y0, x0 + 1 + side[0] * (width - 1 - x0), y0 + 1 + side[1] * (height - 1 - y0))
    crop, window = crop_window(photo(0, height, width), window_of(box, SMALL), 64)
    assert crop.shape == (64, 64, 3)
    logits = np.random.default_rng(1).normal(bias, 2, (32, 32)).astype(np.float32)
    mask = mask_of(logits, window, box, (height, width))
    if bias < 0:
        assert mask.area == 0 and mask.score == 0
        return
    rows, cols = mask.bits.shape
    assert np.floor(box[0]) <= mask.x and mask.x + cols <= min(np.ceil(box[2]), width)
    assert np.floor(box[1]) <= mask.y and mask.y + rows <= min(np.ceil(box[3]), height)
    assert 0 < mask.score <= 1
    if bias > 0:
        assert mask.area > 0


def test_a_large_mask_makes_no_floats_of_its_size() -> None:
    """Three bytes a pixel at most: enlarged logits, their bits, and the copy cut to its content."""
    logits = np.full((64, 64), 3.0, np.float32)
    tracemalloc.start()
    mask = mask_of(logits, (0, 0, 2600, 1600), (300, 200, 2300, 1400), (1600, 2600))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert mask.area == 2000 * 1200
    assert mask.area < peak < 3.2 * mask.area


def test_weights_and_layout_survive_the_file(checkpoint: Path, tmp_path: Path) -> None:
    net = load_boxnet(checkpoint)
    assert net.layout == SMALL and not net.training
    save_boxnet(net, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == checkpoint.read_bytes()


def test_missing_and_foreign_checkpoints_name_the_remedy(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train-segmenter"):
        segmenter(tmp_path / "nowhere.safetensors")
    (tmp_path / "garbage.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match="not a safetensors file"):
        segmenter(tmp_path / "garbage.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="holds other weights"):
        segmenter(tmp_path / "foreign.safetensors")
    with safe_open(checkpoint, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    del tensors["head.bias"]
    save_file(tensors, tmp_path / "short.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=r"missing \['head.bias'\]"):
        segmenter(tmp_path / "short.safetensors")


def test_shipped_weights_are_small_and_find_an_obvious_object() -> None:
    assert shipped("boxseg").stat().st_size <= 8_000_000
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(60, 130, (240, 320, 3), dtype=np.uint8), (0, 0), 2)
    truth = np.zeros((240, 320), np.uint8)
    cv2.ellipse(truth, (150, 120), (70, 45), 20, 0, 360, 1, -1)
    image[truth > 0] = (200, 60, 40)
    x, y, w, h = cv2.boundingRect(truth)
    [[mask]] = build_segmenter(SegmenterConfig(device="cpu")).segment([image], [ask((x, y, x + w, y + h))])
    found = np.zeros((240, 320), np.bool_)
    found[mask.y : mask.y + mask.bits.shape[0], mask.x : mask.x + mask.bits.shape[1]] = mask.bits
    assert (found & (truth > 0)).sum() / (found | (truth > 0)).sum() > 0.9
