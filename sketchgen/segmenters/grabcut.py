"""GrabCut with a shape prior: masks without any learned weights."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.instance import Box, Instance, Mask, crop_to_content

WORK_SIDE = 96  # longer side of a box in GrabCut, pixels: 128 is no better and takes twice the time
CONTEXT = 0.5  # width of the surroundings that show the background, of the box's longer side
CORE = 0.75  # axes of the ellipse that is object for sure; without it the object is often lost to background
ITERATIONS = 3
KEPT = 0.7  # least part of the object that must stay when the core is set free
SPECK = 0.1  # components smaller than this part of the largest one are dropped
SEED = 0


class GrabCutSegmenter:
    """OpenCV's GrabCut in a crop around each box, shrunk to a fixed size.

    Outside the box is background for sure; the ellipse that fills the box is probably object, its
    inner part for sure. Score -1; where GrabCut fails the mask is that ellipse, with score 0. A box of
    the whole image shows no sure background: there, much of what is beside a slim object stays in.
    """

    def segment(self, images: Sequence[NDArray[np.uint8]], instances: Sequence[Sequence[Instance]]) -> list[list[Mask]]:
        """See `sketchgen.segmenter.Segmenter`."""
        return [
            [cut_out(image, instance.box) for instance in of_image]
            for image, of_image in zip(images, instances, strict=True)
        ]


def cut_out(image: NDArray[np.uint8], box: Box) -> Mask:
    """The mask of what fills `box` (xyxy pixels, inside the image) in an RGB image [H, W, 3] uint8."""
    left, top, right, bottom = _surroundings(box, image.shape[1], image.shape[0])
    crop = image[top:bottom, left:right]
    scale = min(1.0, WORK_SIDE / max(box[2] - box[0], box[3] - box[1]))
    width, height = (max(1, round(side * scale)) for side in (right - left, bottom - top))
    small = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
    zoom = np.array([width / (right - left), height / (bottom - top)])
    corners = (np.array(box).reshape(2, 2) - [left, top]) * zoom
    labels = _prior(corners, width, height)
    prior = (labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD)

    found, score = _grab(small, labels), -1.0
    if found is None:
        found, score = prior, 0.0
    soft = cv2.resize(found.astype(np.float32), (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return crop_to_content(_inside(soft > 0.5, box, left, top), left, top, score)


def _surroundings(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    margin = CONTEXT * max(box[2] - box[0], box[3] - box[1])
    left, top = max(0, int(box[0] - margin)), max(0, int(box[1] - margin))
    right, bottom = min(width, int(np.ceil(box[2] + margin))), min(height, int(np.ceil(box[3] + margin)))
    return left, top, right, bottom


def _prior(corners: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
    """GrabCut's labels [height, width] for a box, `corners` [[x1, y1], [x2, y2]]."""
    ys, xs = np.mgrid[:height, :width] + 0.5
    centre, half = corners.mean(axis=0), np.maximum((corners[1] - corners[0]) / 2, 0.5)
    across, down = np.abs(xs - centre[0]) / half[0], np.abs(ys - centre[1]) / half[1]
    distance = np.hypot(across, down)  # 1 on the ellipse that touches the sides of the box
    labels = np.full((height, width), cv2.GC_BGD, np.uint8)
    labels[(across < 1) & (down < 1)] = cv2.GC_PR_BGD
    labels[distance < 1] = cv2.GC_PR_FGD
    labels[distance < CORE] = cv2.GC_FGD
    return labels


def _grab(rgb: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """What GrabCut takes for the object, without specks; None where it cannot work.

    It throws without at least one pixel of either side, and on crops too small for five colours a side.
    """
    cv2.setRNGSeed(SEED)  # its colour clusters start at random
    labels, models = labels.copy(), (np.zeros((1, 65)), np.zeros((1, 65)))
    try:
        cv2.grabCut(rgb, labels, None, *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
        # with the colours known, the core may go where it is background (a corner of the ellipse
        # beside a thin object), unless much goes with it
        free = np.where(labels == cv2.GC_FGD, np.uint8(cv2.GC_PR_FGD), labels)
        cv2.grabCut(rgb, free, None, *models, 1, cv2.GC_EVAL)
    except cv2.error:
        return None
    with_core = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    without = free == cv2.GC_PR_FGD
    found = (without if without.sum() >= KEPT * with_core.sum() else with_core).astype(np.uint8)
    opened = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, components, stats, _ = cv2.connectedComponentsWithStats(opened)
    if count == 1:  # too thin to be opened
        return found.astype(np.bool_)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.isin(components, 1 + np.flatnonzero(areas >= SPECK * areas.max()))


def _inside(bits: NDArray[np.bool_], box: Box, left: int, top: int) -> NDArray[np.bool_]:
    """Clear what enlarging smeared over the sides of the box, but keep a pixel that the box only touches."""
    kept = np.zeros_like(bits)
    rows = slice(int(box[1]) - top, int(np.ceil(box[3])) - top)
    cols = slice(int(box[0]) - left, int(np.ceil(box[2])) - left)
    kept[rows, cols] = bits[rows, cols]
    return kept
