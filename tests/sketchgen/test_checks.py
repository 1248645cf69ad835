"""Checks: each reason, with the value seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchgen.checks import (
    ChecksConfig,
    Reject,
    box_iou,
    check_ink,
    check_mask,
    clip_box,
    find_duplicate,
    ink_of,
    mask_box,
)
from sketchgen.instance import Mask

CONFIG = ChecksConfig()


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((math.nan, 0, 50, 50), "box-invalid"),
        ((0, 0, math.inf, 50), "box-invalid"),
        ((10, 10, 10, 50), "box-empty"),
        ((50, 50, 10, 10), "box-empty"),
        ((200, 0, 300, 50), "box-outside"),
        ((-50, -50, 0, 0), "box-outside"),
        ((0, 0, 80, 15), "box-small"),
        ((90, 0, 300, 50), "box-small"),  # ten pixels are left inside
    ],
)
def test_boxes_that_hold_nothing_to_draw(box, reason: str) -> None:
    found = clip_box(box, 100, 100, CONFIG.min_side)
    assert isinstance(found, Reject)
    assert found.reason == reason


@given(st.tuples(*[st.floats(-1e6, 1e6)] * 4))
def test_a_clipped_box_lies_inside_the_image(box) -> None:
    found = clip_box(box, 100, 80, 1)
    if not isinstance(found, Reject):
        assert 0 <= found[0] < found[2] <= 100
        assert 0 <= found[1] < found[3] <= 80


def test_iou_by_hand() -> None:
    assert box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert box_iou((0, 0, 1, 1), (1, 0, 2, 1)) == 0
    assert box_iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1


def test_duplicates_are_of_the_same_class() -> None:
    kept = [("dog", (0.0, 0.0, 100.0, 100.0), "first")]
    twin = find_duplicate((1, 1, 100, 100), "dog", kept, CONFIG)
    assert twin is not None
    assert "first by IoU 0.98" in twin.detail
    assert find_duplicate((1, 1, 100, 100), "cat", kept, CONFIG) is None
    assert find_duplicate((30, 0, 130, 100), "dog", kept, CONFIG) is None


def mask(bits: np.ndarray, score: float = -1.0) -> Mask:
    return Mask(10, 20, bits, score)


def test_masks_must_agree_with_their_box() -> None:
    box = (10.0, 20.0, 50.0, 60.0)
    full = np.ones((40, 40), bool)
    assert check_mask(mask(full), box, CONFIG) is None
    corner = np.zeros((40, 40), bool)
    corner[:20, :20] = True
    line = np.zeros((40, 40), bool)
    line[::20] = True

    def reason(*args) -> str:
        found = check_mask(*args, CONFIG)
        assert found is not None
        return found.reason

    assert reason(mask(np.zeros((40, 40), bool)), box) == "mask-empty"
    assert reason(mask(full, 0.1), box) == "mask-score"
    assert reason(mask(line), box) == "mask-fill"
    assert reason(mask(corner), box) == "mask-box"


def test_mask_box_is_tight() -> None:
    bits = np.zeros((5, 6), bool)
    bits[1, 2] = bits[3, 4] = True
    assert mask_box(mask(bits)) == (12, 21, 15, 24)


def test_ink() -> None:
    sketch = np.full((10, 10), 255, np.uint8)
    assert ink_of(sketch) == 0
    assert check_ink(0, CONFIG).reason == "ink-low"
    sketch[:5] = 0
    assert ink_of(sketch) == 0.5
    assert check_ink(0.5, CONFIG).reason == "ink-high"
    assert check_ink(0.05, CONFIG) is None
