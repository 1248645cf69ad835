"""Strokes become dark antialiased lines on a white square, fitted with their aspect kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_manifests.strokes import rasterise

SQUARE = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]], np.float32)
NUMBERS = st.floats(-1e6, 1e6, width=32)
STROKES = st.lists(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=6), max_size=5)


def ink_box(image: np.ndarray) -> tuple[int, int, int, int]:
    rows, cols = np.flatnonzero((image < 128).any(axis=1)), np.flatnonzero((image < 128).any(axis=0))
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


def test_lines_are_as_wide_as_asked_and_where_they_should_be() -> None:
    line = np.array([[20, 100], [200, 100]], np.float32)
    for width in (1.0, 3.0, 8.0):
        image = rasterise([line], width=width, fit=False)
        column = 255 - image[:, 128].astype(float)
        assert column.sum() / 235 == pytest.approx(width, abs=0.5)
        assert np.average(np.arange(256) + 0.5, weights=column) == pytest.approx(100, abs=0.3)


def test_fitting_keeps_the_aspect_and_centres() -> None:
    image = rasterise([SQUARE * (1, 0.5) + 1000], side=128, width=2, margin=14)
    x1, y1, x2, y2 = ink_box(image)
    assert (x1 + x2) / 2 == pytest.approx(64, abs=1)
    assert (y1 + y2) / 2 == pytest.approx(64, abs=1)
    assert x2 - x1 == pytest.approx(100 + 2, abs=1)
    assert y2 - y1 == pytest.approx(50 + 2, abs=1)


def test_edges_are_antialiased() -> None:
    image = rasterise([np.array([[0, 0], [10, 7]], np.float32)])
    assert image.dtype == np.uint8
    assert len(np.unique(image)) > 3
    assert (image[0] == 255).all()


def test_scale_and_place_do_not_matter() -> None:
    assert np.array_equal(rasterise([SQUARE]), rasterise([SQUARE * 8 - 16]))


@settings(max_examples=60, deadline=None)
@given(strokes=STROKES, side=st.sampled_from([32, 256]))
def test_every_list_of_strokes_is_a_sketch(strokes: list[list[tuple[float, float]]], side: int) -> None:
    image = rasterise([np.array(stroke, np.float32).reshape(-1, 2) for stroke in strokes], side=side, margin=6)
    assert image.shape == (side, side)
    assert (image < 255).any() == any(strokes)
    assert (image[:3] == 255).all() and (image[:, -3:] == 255).all()


def test_what_is_no_stroke_is_named() -> None:
    for bad in (np.zeros((3, 3), np.float32), np.array([[0, np.nan]], np.float32), np.zeros(4, np.float32)):
        with pytest.raises(ValueError, match=r"\[n, 2\]"):
            rasterise([bad])
    with pytest.raises(ValueError, match="no room for margins of 16 px"):
        rasterise([SQUARE], side=32, margin=16)
