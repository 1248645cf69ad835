"""Strips as PNG: what is written can be read, by everyone."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from sketchgen.png import opencv_png, plain_png


@pytest.mark.parametrize("encode", [opencv_png, plain_png])
@given(strip=arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_pixels_come_back_in_both_libraries(encode, strip: np.ndarray) -> None:
    png = encode(strip)
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "L"
        image.load()
        assert np.array_equal(np.asarray(image), strip)
    assert np.array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE), strip)
