"""Crop, edges, compose: the outline is closed, the aspect kept, the darker stroke wins."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchgen.crop import Crop, cut
from sketchgen.edges import EdgesConfig, compose, edges
from sketchgen.instance import Mask

SIDE = 256


def ellipse(width: int, height: int) -> np.ndarray:
    bits = np.zeros((height, width), np.uint8)
    cv2.ellipse(bits, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1, -1)
    return bits.astype(bool)


def picture(seed: int = 0, size: tuple[int, int] = (200, 300)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 3))
def test_a_crop_keeps_the_aspect_and_a_white_frame(width: int, height: int, seed: int) -> None:
    crop = cut(picture(seed), Mask(20, 30, np.ones((height, width), bool)), SIDE, margin=10)
    h, w = crop.mask.shape
    assert max(h, w) == SIDE
    assert crop.rgb.shape == (h, w, 3)
    scale = (SIDE - 20) / max(width, height)
    assert w - 20 == pytest.approx(max(1, width * scale), abs=0.5)
    assert h - 20 == pytest.approx(max(1, height * scale), abs=0.5)
    assert (crop.rgb[~crop.mask] == 255).all()
    assert crop.mask.any()
    frame = np.ones((h, w), bool)
    frame[5:-5, 5:-5] = False
    assert not crop.mask[frame].any()


def test_pixels_outside_the_mask_are_white() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    crop = cut(image, Mask(0, 0, ellipse(50, 50)), SIDE)
    assert (crop.rgb[~crop.mask] == 255).all()
    assert (crop.rgb[crop.mask] == 0).all()


def test_an_empty_mask_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match="empty"):
        cut(picture(), Mask(0, 0, np.zeros((4, 4), bool)), SIDE)


@settings(deadline=None, max_examples=30)
@given(st.integers(12, 150), st.integers(12, 150))
def test_the_outline_is_closed(width: int, height: int) -> None:
    """Paint poured in from the corner must not reach the middle of the object."""
    crop = cut(np.full((200, 300, 3), 128, np.uint8), Mask(5, 5, ellipse(width, height)), SIDE, margin=10)
    drawn = compose(np.full(crop.mask.shape, 255, np.uint8), edges(crop, EdgesConfig()), SIDE)
    paper = (drawn >= 128).astype(np.uint8)
    cv2.floodFill(paper, None, (0, 0), 7)
    assert paper[SIDE // 2, SIDE // 2] == 1


def test_a_plain_object_has_no_inner_edges_and_a_bar_has() -> None:
    def inside(bar: bool) -> int:
        image = np.full((100, 100, 3), 180, np.uint8)
        if bar:
            image[40:60, 30:70] = 20
        crop = cut(image, Mask(0, 0, ellipse(100, 100)), SIDE)
        middle = edges(crop, EdgesConfig())[60:-60, 40:-40]
        return int((middle < 128).sum())

    assert inside(bar=False) == 0
    assert inside(bar=True) > 100


def test_inner_zero_means_outline_only() -> None:
    crop = cut(picture(), Mask(0, 0, ellipse(150, 150)), SIDE)
    assert (edges(crop, EdgesConfig(inner=0))[60:-60, 60:-60] == 255).all()
    assert (edges(crop, EdgesConfig(inner=50))[60:-60, 60:-60] < 128).any()


def test_the_darker_stroke_wins_and_the_sketch_is_centred() -> None:
    strokes, drawn = np.full((100, 256), 255, np.uint8), np.full((100, 256), 255, np.uint8)
    strokes[10, 10], drawn[10, 10], drawn[20, 20] = 90, 30, 60
    sketch = compose(strokes, drawn, SIDE)
    assert sketch.shape == (SIDE, SIDE)
    assert sketch[78 + 10, 10] == 30
    assert sketch[78 + 20, 20] == 60
    assert np.count_nonzero(sketch < 255) == 2


def test_colours_of_the_crop_do_not_move_the_outline() -> None:
    dark, light = (
        edges(Crop(np.full((64, 64, 3), v, np.uint8), np.pad(np.ones((44, 44), bool), 10)), EdgesConfig())
        for v in (10, 240)
    )
    assert (dark == light).all()
