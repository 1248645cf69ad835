"""Frames: LLaVA's square, to the pixel, and boxes there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import LlavaImageProcessor

from sketchlm.frame import FILL, Frame, from_frame, pad_to_square, to_frame


def expand2square(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """The original LLaVA code's padding."""
    width, height = image.size
    if width == height:
        return image
    result = Image.new(image.mode, (max(width, height),) * 2, background)
    result.paste(image, (0, (width - height) // 2) if width > height else ((height - width) // 2, 0))
    return result


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)


def test_the_fill_is_clips_mean_cut_to_whole_numbers() -> None:
    assert FILL == (122, 116, 104)
    assert tuple(int(mean * 255) for mean in (0.48145466, 0.4578275, 0.40821073)) == FILL


def test_golden_square_of_an_odd_image() -> None:
    image = np.arange(1, 10, dtype=np.uint8).reshape(3, 1, 3)  # 1 wide, 3 high
    fill = [122, 116, 104]
    assert pad_to_square(image).tolist() == [
        [fill, [1, 2, 3], fill],
        [fill, [4, 5, 6], fill],
        [fill, [7, 8, 9], fill],
    ]
    # a rest of one goes to the right, and below
    assert pad_to_square(image[:2]).tolist() == [[[1, 2, 3], fill], [[4, 5, 6], fill]]
    assert pad_to_square(image[:2].transpose(1, 0, 2)).tolist() == [[[1, 2, 3], [4, 5, 6]], [fill, fill]]


@pytest.mark.parametrize("size", [(5, 5), (5, 4), (4, 5), (7, 2), (2, 7), (1, 8), (61, 40), (40, 61), (333, 500)])
def test_the_square_is_that_of_llava_and_of_transformers(size: tuple[int, int]) -> None:
    image = noise(*size)
    square = pad_to_square(image)
    assert np.array_equal(square, np.asarray(expand2square(Image.fromarray(image), FILL)))
    theirs = LlavaImageProcessor().pad_to_square(torch.from_numpy(image.transpose(2, 0, 1)), FILL)
    assert np.array_equal(square, theirs.numpy().transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("size", "frame", "box", "shares"),
    [
        ((640, 480), "padded", (0, 0, 640, 480), (0, 0.125, 1, 0.875)),
        ((640, 480), "image", (0, 0, 640, 480), (0, 0, 1, 1)),
        ((480, 640), "padded", (48, 64, 240, 320), (0.2, 0.1, 0.5, 0.5)),
        ((480, 640), "image", (48, 64, 240, 320), (0.1, 0.1, 0.5, 0.5)),
        ((5, 4), "padded", (0, 0, 5, 4), (0, 0, 1, 0.8)),  # the odd rest lies below
    ],
)
def test_golden_boxes(size: tuple[int, int], frame: Frame, box: tuple[float, ...], shares: tuple[float, ...]) -> None:
    assert to_frame(box, size, frame) == pytest.approx(shares, abs=1e-12)
    assert from_frame(shares, size, frame) == pytest.approx(box, abs=1e-9)


sizes = st.tuples(st.integers(1, 4000), st.integers(1, 4000))


@given(sizes, st.lists(st.floats(0, 1), min_size=4, max_size=4), st.sampled_from(["padded", "image"]))
def test_boxes_come_back(size: tuple[int, int], corners: list[float], frame: Frame) -> None:
    box = [corners[0] * size[0], corners[1] * size[1], corners[2] * size[0], corners[3] * size[1]]
    shares = to_frame(box, size, frame)
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in shares)
    assert from_frame(shares, size, frame) == pytest.approx(box, abs=1e-6)


@given(sizes, st.lists(st.floats(-2, 3), min_size=4, max_size=4), st.sampled_from(["padded", "image"]))
def test_boxes_that_leave_the_image_are_clipped(size: tuple[int, int], shares: list[float], frame: Frame) -> None:
    x1, y1, x2, y2 = from_frame(shares, size, frame)
    assert 0 <= x1 <= size[0] and 0 <= x2 <= size[0]
    assert 0 <= y1 <= size[1] and 0 <= y2 <= size[1]


def test_the_padded_frame_sees_the_same_place_in_the_padded_picture() -> None:
    image = np.zeros((40, 61, 3), np.uint8)
    image[10:20, 30:50] = 255
    square = pad_to_square(image)
    shares = to_frame((30, 10, 50, 20), (61, 40), "padded")
    x1, y1, x2, y2 = (round(share * 61) for share in shares)
    assert (square[y1:y2, x1:x2] == 255).all() and (square[..., 0] == 255).sum() == (y2 - y1) * (x2 - x1)
