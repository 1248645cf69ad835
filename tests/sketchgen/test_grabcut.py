"""GrabCut: finds coloured objects, is deterministic, and survives every box that it may meet."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketchgen.instance import Box, Instance, Mask
from sketchgen.segmenter import SegmenterConfig
from sketchgen.segmenters import build_segmenter
from sketchgen.segmenters.grabcut import GrabCutSegmenter, cut_out


def draw_star(height: int = 160, width: int = 200) -> tuple[NDArray[np.uint8], NDArray[np.bool_], Box]:
    """A noisy red five-pointed star on noisy green; its exact mask; its box."""
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2, 30, 55)
    points = np.stack([100 + radius * np.cos(angle), 80 + radius * np.sin(angle)], axis=1)
    truth = cv2.fillPoly(np.zeros((height, width), np.uint8), [points.astype(np.int32)], 1).astype(bool)
    colours = np.where(truth[..., None], [190, 50, 60], [60, 140, 70])
    image = np.clip(colours + np.random.default_rng(0).normal(0, 20, colours.shape), 0, 255).astype(np.uint8)
    ys, xs = np.nonzero(truth)
    return image, truth, (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))


def paste(mask: Mask, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    full = np.zeros(shape[:2], np.bool_)
    rows, cols = mask.bits.shape
    full[mask.y : mask.y + rows, mask.x : mask.x + cols] = mask.bits
    return full


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("zoom", [1, 3])
def test_finds_an_object_that_is_no_ellipse(zoom: int) -> None:
    image, truth, box = draw_star()
    image = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
    truth = truth.repeat(zoom, axis=0).repeat(zoom, axis=1)
    mask = cut_out(image, tuple(value * zoom for value in box))  # type: ignore[arg-type]
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    ellipse = np.hypot((xs / zoom - 100) / 52, (ys / zoom - 76) / 50) < 1
    assert iou(ellipse, truth) < 0.75  # what the prior alone would give
    assert iou(paste(mask, image.shape), truth) > 0.93
    assert mask.score == -1.0


def test_same_mask_whatever_ran_before() -> None:
    image, _, box = draw_star()
    first = cut_out(image, box)
    cv2.setRNGSeed(987)
    np.random.default_rng().random(3)
    cut_out(image[::-1].copy(), (3.0, 4.0, 90.0, 70.0))
    again = cut_out(image, box)
    assert (first.x, first.y) == (again.x, again.y)
    np.testing.assert_array_equal(first.bits, again.bits)


def test_far_away_pixels_do_not_matter() -> None:
    image, _, box = draw_star()
    wide = np.zeros((400, 500, 3), np.uint8)
    wide[:160, :200] = image
    other = wide.copy()
    other[300:, 350:] = 255
    a, b = cut_out(wide, box), cut_out(other, box)
    np.testing.assert_array_equal(paste(a, wide.shape), paste(b, wide.shape))


def test_specks_are_removed() -> None:
    image, truth, box = draw_star()
    corner = (slice(int(box[1]) + 2, int(box[1]) + 6), slice(int(box[0]) + 2, int(box[0]) + 6))
    image[corner] = [190, 50, 60]  # coloured as the object, but too small to be part of it
    full = paste(cut_out(image, box), image.shape)
    assert not full[corner].any()
    assert iou(full, truth) > 0.93


@pytest.mark.parametrize("seed", range(4))
def test_object_that_looks_like_the_background_is_not_lost(seed: int) -> None:
    """Without a part that is object for sure GrabCut leaves nothing here."""
    image = np.random.default_rng(seed).integers(0, 256, (160, 200, 3), np.uint8)
    mask = cut_out(cv2.GaussianBlur(image, (0, 0), 3), (40.0, 40.0, 120.0, 120.0))
    assert mask.area > 0.25 * 80 * 80


@pytest.mark.parametrize("margin", [0, 2])
def test_box_that_fills_the_image(margin: int) -> None:
    side = 120
    ys, xs = np.mgrid[:side, :side] + 0.5
    truth = np.abs(xs - 60) ** 5 + np.abs(ys - 60) ** 5 < (60 - margin) ** 5  # neither box nor ellipse
    colours = np.where(truth[..., None], [190, 50, 60], [60, 140, 70])
    image = np.clip(colours + np.random.default_rng(0).normal(0, 20, colours.shape), 0, 255).astype(np.uint8)
    mask = cut_out(image, (margin, margin, side - margin, side - margin))
    assert iou(paste(mask, image.shape), truth) > 0.97  # the filled box: 0.95, the ellipse: 0.83


def test_failure_falls_back_to_the_ellipse_with_score_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise cv2.error("no samples")

    monkeypatch.setattr(cv2, "grabCut", fail)
    image, _, box = draw_star()
    mask = cut_out(image, box)
    width, height = box[2] - box[0], box[3] - box[1]
    assert mask.score == 0.0
    assert mask.area == pytest.approx(np.pi / 4 * width * height, rel=0.03)
    assert mask.bits.shape == pytest.approx((height, width), abs=2)


@st.composite
def photos_with_boxes(draw: st.DrawFn) -> tuple[NDArray[np.uint8], Box]:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    kind = draw(st.sampled_from(["noise", "flat"]))
    image = np.full((height, width, 3), 90, np.uint8)
    if kind == "noise":
        image = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, image.shape, np.uint8)
    x1 = draw(st.floats(0, width - 1))
    y1 = draw(st.floats(0, height - 1))
    x2 = draw(st.floats(min(x1 + 1, width), width))
    y2 = draw(st.floats(min(y1 + 1, height), height))
    return image, (x1, y1, x2, y2)


@settings(max_examples=150, deadline=None)
@given(photos_with_boxes())
def test_any_box_in_any_image_gives_a_mask_inside_it(case: tuple[NDArray[np.uint8], Box]) -> None:
    image, box = case
    mask = cut_out(image, box)
    assert mask.bits.dtype == np.bool_
    assert paste(mask, image.shape).sum() == mask.area
    if mask.area:
        rows, cols = mask.bits.shape
        assert mask.x >= int(box[0])
        assert mask.y >= int(box[1])
        assert mask.x + cols <= np.ceil(box[2])
        assert mask.y + rows <= np.ceil(box[3])


@pytest.mark.parametrize("box", [(0, 0, 300, 1), (0, 0, 1, 300), (10, 10, 11, 11), (299, 299, 300, 300)])
def test_thin_and_tiny_boxes(box: Box) -> None:
    image = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
    mask = cut_out(image, box)
    assert paste(mask, image.shape).sum() == mask.area


def test_protocol_keeps_the_order_and_takes_ragged_images() -> None:
    image, _, box = draw_star()
    other = np.ascontiguousarray(image[:, ::-1])
    mirrored = (200 - box[2], box[1], 200 - box[0], box[3])
    image.flags.writeable = False  # as decoders hand it out
    segmenter = build_segmenter(SegmenterConfig(name="grabcut"))
    assert isinstance(segmenter, GrabCutSegmenter)
    instances = [
        [Instance("a", "star", box), Instance("b", "star", (5.0, 5.0, 30.0, 40.0))],
        [],
        [Instance("c", "star", mirrored)],
    ]
    (first, second), none, (third,) = segmenter.segment([image, image, other], instances)
    assert none == []
    for mask, (picture, where) in zip(
        (first, second, third),
        [(image, box), (image, (5.0, 5.0, 30.0, 40.0)), (other, mirrored)],
        strict=True,
    ):
        alone = cut_out(picture, where)
        np.testing.assert_array_equal(mask.bits, alone.bits)
        assert (mask.x, mask.y, mask.score) == (alone.x, alone.y, alone.score)
