"""Masks that the source ships equal what pycocotools makes of them, and nothing else gets through."""

from __future__ import annotations

import contextlib
import io
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from sketchgen.instance import Instance, Mask
from sketchgen.segmentation import read_segmentation
from sketchgen.segmenter import SegmenterConfig
from sketchgen.segmenters import build_segmenter
from sketchgen.segmenters.annotation import AnnotationSegmenter

HEIGHT, WIDTH = 37, 53


def paste(mask: Mask, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.bool_]:
    full = np.zeros((height, width), np.bool_)
    rows, cols = mask.bits.shape
    full[mask.y : mask.y + rows, mask.x : mask.x + cols] = mask.bits
    return full


def coco_decode(segmentation: Any, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.bool_]:
    """The oracle: the full-size mask of pycocotools itself."""
    coco = COCO()
    coco.imgs = {1: {"height": height, "width": width}}
    decoded = coco.annToMask({"image_id": 1, "segmentation": segmentation})
    return np.asarray(decoded, np.bool_)


def assert_tight(mask: Mask) -> None:
    if mask.area:
        assert mask.bits[0].any()
        assert mask.bits[-1].any()
        assert mask.bits[:, 0].any()
        assert mask.bits[:, -1].any()
    else:
        assert mask.bits.size == 0


# Two decimals, as COCO writes them: they meet the ties of the rasteriser's grid of fifths.
x_values = st.integers(-100 * WIDTH // 4, 100 * WIDTH * 5 // 4).map(lambda value: value / 100)
y_values = st.integers(-100 * HEIGHT // 4, 100 * HEIGHT * 5 // 4).map(lambda value: value / 100)
polygons = st.lists(
    st.lists(st.tuples(x_values, y_values), min_size=3, max_size=9).map(
        lambda points: [value for point in points for value in point]
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=400, deadline=None)
@given(polygons)
def test_polygons_equal_pycocotools(segmentation: list[list[float]]) -> None:
    mask = read_segmentation(segmentation, HEIGHT, WIDTH)
    np.testing.assert_array_equal(paste(mask), coco_decode(segmentation))
    assert_tight(mask)


masks = st.builds(
    lambda seed, fill, top, left: _random_bits(seed, fill, top, left),
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
    st.integers(0, HEIGHT - 1),
    st.integers(0, WIDTH - 1),
)


def _random_bits(seed: int, fill: float, top: int, left: int) -> NDArray[np.bool_]:
    bits = np.zeros((HEIGHT, WIDTH), np.bool_)
    region = bits[top:, left:]
    region[:] = np.random.default_rng(seed).random(region.shape) < fill
    return bits


def uncompressed(bits: NDArray[np.bool_]) -> dict[str, Any]:
    flat = np.concatenate([[False], bits.ravel(order="F")])
    edges = np.flatnonzero(np.diff(flat)).tolist()
    bounds = [0, *edges, bits.size]
    return {"size": list(bits.shape), "counts": [b - a for a, b in itertools.pairwise(bounds)]}


@settings(max_examples=200, deadline=None)
@given(masks)
def test_run_lengths_give_back_the_mask(bits: NDArray[np.bool_]) -> None:
    packed = coco_mask.encode(np.asfortranarray(bits, np.uint8))
    as_text = {"size": packed["size"], "counts": packed["counts"].decode("ascii")}
    for segmentation in (packed, as_text, uncompressed(bits)):
        mask = read_segmentation(segmentation, HEIGHT, WIDTH)
        np.testing.assert_array_equal(paste(mask), bits)
        assert_tight(mask)


def test_zero_runs_inside_are_legal() -> None:
    segmentation = {"size": [4, 3], "counts": [0, 2, 0, 3, 1, 0, 6]}
    expected = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], bool).reshape(3, 4).T
    np.testing.assert_array_equal(paste(read_segmentation(segmentation, 4, 3), 4, 3), expected)


WHOLE = coco_mask.encode(np.ones((HEIGHT, WIDTH), np.uint8, order="F"))["counts"].decode("ascii")
MALFORMED: dict[str, Any] = {
    "none": None,
    "empty list": [],
    "empty polygon": [[]],
    "two points": [[1, 1, 9, 9]],
    "odd length": [[1, 1, 9, 1, 9, 9, 1]],
    "one good, one odd": [[1, 1, 9, 1, 9, 9], [1, 2, 3]],
    "NaN": [[1, 1, 9, 1, float("nan"), 9]],
    "infinite": [[1, 1, 9, 1, float("inf"), 9]],
    "far outside": [[1, 1, 1e12, 1, 9, 9]],
    "huge integer": [[1, 1, 10**400, 1, 9, 9]],
    "flat list": [1, 1, 9, 1, 9, 9],
    "text in a polygon": [[1, 1, "9", 1, 9, 9]],
    "wholly outside": [[-9, -9, -5, -9, -5, -5]],
    "text": "segmentation",
    "number": 3.5,
    "no size": {"counts": [HEIGHT * WIDTH]},
    "no counts": {"size": [HEIGHT, WIDTH]},
    "other size": {"size": [WIDTH, HEIGHT], "counts": [0, HEIGHT * WIDTH]},
    "counts too short": {"size": [HEIGHT, WIDTH], "counts": [10, 20]},
    "counts too long": {"size": [HEIGHT, WIDTH], "counts": [10, HEIGHT * WIDTH]},
    "negative count": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH + 5, -5]},
    "huge counts": {"size": [HEIGHT, WIDTH], "counts": [2**70, -(2**70), HEIGHT * WIDTH]},
    "fractional count": {"size": [HEIGHT, WIDTH], "counts": [0.5, HEIGHT * WIDTH - 0.5]},
    "broken code": {"size": [HEIGHT, WIDTH], "counts": "abc\x00"},
    "not ASCII": {"size": [HEIGHT, WIDTH], "counts": "ééé"},
    "unfinished code": {"size": [HEIGHT, WIDTH], "counts": "oooooooooooooooooooo"},
    "unfinished end": {"size": [HEIGHT, WIDTH], "counts": WHOLE + "P"},
    "no code": {"size": [HEIGHT, WIDTH], "counts": ""},
}


@pytest.mark.parametrize("segmentation", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_is_an_empty_mask(segmentation: Any) -> None:
    mask = read_segmentation(segmentation, HEIGHT, WIDTH)
    assert (mask.area, mask.bits.size) == (0, 0)


junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=8) | st.fixed_dictionaries({"size": st.just([HEIGHT, WIDTH]) | inner, "counts": inner})
    ),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(junk)
def test_nothing_raises_or_leaves_the_image(segmentation: Any) -> None:
    mask = read_segmentation(segmentation, HEIGHT, WIDTH)
    assert paste(mask).sum() == mask.area


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_any_code_is_read_as_by_pycocotools_or_refused(code: str) -> None:
    mask = read_segmentation({"size": [5, 6], "counts": code}, 5, 6)
    if mask.area:
        decoded = coco_mask.decode({"size": [5, 6], "counts": code}).astype(bool)
        np.testing.assert_array_equal(paste(mask, 5, 6), decoded)


def test_protocol_keeps_the_order_and_takes_ragged_images() -> None:
    square = [[2, 2, 6, 2, 6, 6, 2, 6]]
    images = [np.zeros((20, 30, 3), np.uint8), np.zeros((8, 9, 3), np.uint8), np.zeros((5, 5, 3), np.uint8)]
    rle = {"size": [8, 9], "counts": [8, 8, 56]}
    instances = [
        [Instance("a", "dog", (0, 0, 3, 3), square), Instance("b", "cat", (0, 0, 3, 3))],
        [Instance("c", "cat", (0, 0, 3, 3), rle)],
        [],
    ]
    segmenter = build_segmenter(SegmenterConfig(name="annotation"))
    assert isinstance(segmenter, AnnotationSegmenter)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        (first, missing), (column,), nothing = segmenter.segment(images, instances)
    assert (first.x, first.y, first.bits.shape, first.area, first.score) == (2, 2, (4, 4), 16, -1.0)
    assert missing.area == 0
    assert (column.x, column.y, column.bits.shape, column.area) == (1, 0, (8, 1), 8)
    assert nothing == []
    assert printed.getvalue() == ""
