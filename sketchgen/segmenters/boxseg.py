"""boxseg: a small box-prompted network of ours, the embedded default segmenter.

A crop round the box goes in, stretched to a square, with three maps that say where the box is; mask logits
at half that resolution come out. Encoder: EfficientNet-Lite0; decoder: a U-Net of 3x3 convolutions. The
weights and their card are in `sketchgen/weights/`; the trainer is `sketchgen.training.segmenter`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sketchgen.device import pick_device
from sketchgen.instance import Box, Instance, Mask, crop_to_content
from sketchgen.segmenter import SegmenterConfig
from sketchgen.weights import shipped

FORMAT = "boxseg-1"
PAD = 127  # grey outside the photo: zero after normalisation
PROMPTS = 3  # inside the box, and the two coordinates relative to it
LOGIT_LIMIT = 8.0  # logits are enlarged as uint8 between -limit and +limit
MIN_PART = 0.08  # a component smaller than this share of the largest is a speck
MAX_HOLE = 0.02  # a hole smaller than this share of the object is filled


@dataclass(frozen=True)
class Layout:
    """Everything that the weights need besides themselves; stored in the metadata of the file."""

    encoder: str = "tf_efficientnet_lite0"
    """timm name of the encoder."""
    size: int = 128
    """Side of the input crop in pixels, a multiple of 32."""
    context: float = 1.3
    """Side of the crop over the side of the box."""
    min_aspect: float = 0.5
    """The shorter side of the crop is at least this share of the longer one: limits the stretching."""
    widths: tuple[int, ...] = (128, 96, 64, 48, 32)
    """Channels of the decoder, coarse to fine."""


class Up(nn.Module):
    """One step of the decoder: enlarge x to the skip, join, two convolutions."""

    def __init__(self, below: int, skip: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(below + skip + PROMPTS, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, skip: Tensor, prompt: Tensor) -> Tensor:
        """x: [B, C, h, w]; skip: [B, D, 2h, 2w]; prompt: [B, 3, H, W] -> [B, width, 2h, 2w]."""
        x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
        x = torch.cat([x, skip, F.adaptive_avg_pool2d(prompt, (skip.shape[2], skip.shape[3]))], dim=1)
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(x)), inplace=True)


class BoxNet(nn.Module):
    """Crop and box in, mask logits out. Ten lines of forward: the whole network."""

    def __init__(self, layout: Layout, drop_path: float = 0.0) -> None:
        super().__init__()
        self.layout = layout
        self.encoder = timm.create_model(
            layout.encoder,
            features_only=True,
            pretrained=False,
            in_chans=3 + PROMPTS,
            drop_path_rate=drop_path,
        )
        *skips, deepest = self.encoder.feature_info.channels()
        widths = layout.widths
        self.neck = nn.Conv2d(deepest, widths[0], 1)
        self.ups = nn.ModuleList(
            Up(below, skip, width) for below, skip, width in zip(widths, reversed(skips), widths[1:], strict=False)
        )
        self.head = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, crops: Tensor, prompt: Tensor) -> Tensor:
        """crops: [B, 3, S, S] uint8; prompt: [B, 3, S, S] float -> logits [B, S / 2, S / 2]."""
        x = torch.cat([(crops.to(prompt.dtype) - PAD) / 128, prompt], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        *skips, x = self.encoder(x)
        x = self.neck(x)
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip, prompt)
        logits: Tensor = self.head(x)[:, 0]
        return logits


def window_of(box: Box, layout: Layout) -> Box:
    """What the network sees for a box: a window round its centre, which may leave the photo."""
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    half_w = max(width, layout.min_aspect * height) * layout.context / 2
    half_h = max(height, layout.min_aspect * width) * layout.context / 2
    center_x, center_y = (x0 + x1) / 2, (y0 + y1) / 2
    return center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h


def prompt_maps(box: Box, size: int) -> NDArray[np.float32]:
    """[3, size, size]: share of each pixel inside the box, and x and y relative to it (-1 and 1 = its edges).

    box: in pixels of the crop.
    """
    edges = np.arange(size + 1, dtype=np.float32)
    cover, place = [], []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        cover.append(np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, 1))
        place.append(np.clip((2 * edges[:-1] + 1 - low - high) / max(high - low, 1e-3), -2, 2))
    maps = np.empty((PROMPTS, size, size), np.float32)
    maps[0] = cover[1][:, None] * cover[0][None]
    maps[1] = place[0][None]
    maps[2] = place[1][:, None]
    return maps


def crop_window(image: NDArray[np.uint8], window: Box, size: int) -> tuple[NDArray[np.uint8], Box]:
    """The window of the photo as [size, size, 3] uint8, grey where it leaves the photo.

    Returns the window too, as it is after rounding to whole pixels.
    """
    height, width = image.shape[:2]
    x0, y0 = int(np.floor(window[0])), int(np.floor(window[1]))
    x1, y1 = max(x0 + 1, int(np.ceil(window[2]))), max(y0 + 1, int(np.ceil(window[3])))
    inside = image[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    # Only the part inside is scaled: the padding of a huge window is never made at full size.
    scale_x, scale_y = size / (x1 - x0), size / (y1 - y0)
    left, top = round((max(x0, 0) - x0) * scale_x), round((max(y0, 0) - y0) * scale_y)
    right, bottom = round((min(x1, width) - x0) * scale_x), round((min(y1, height) - y0) * scale_y)
    left, top = min(left, size - 1), min(top, size - 1)
    target = (max(right - left, 1), max(bottom - top, 1))
    shrink = inside.shape[1] > target[0] or inside.shape[0] > target[1]
    part = cv2.resize(inside, target, interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    crop = np.full((size, size, 3), PAD, np.uint8)
    crop[top : top + target[1], left : left + target[0]] = part
    return crop, (x0, y0, x1, y1)


def into(box: Box, window: Box, size: int) -> Box:
    """A box of the photo in pixels of the square crop that `window` becomes."""
    scale_x, scale_y = size / (window[2] - window[0]), size / (window[3] - window[1])
    return (
        (box[0] - window[0]) * scale_x,
        (box[1] - window[1]) * scale_y,
        (box[2] - window[0]) * scale_x,
        (box[3] - window[1]) * scale_y,
    )


def tidy(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits without specks and pinholes: components under 8 % of the largest, holes under 2 % of the object.

    Done at the resolution of the network, where it costs the same for every photo.
    """
    inside = (logits > 0).astype(np.uint8)
    area = int(inside.sum())
    if area == 0:
        return logits
    tidied = logits.copy()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    specks = 1 + np.flatnonzero(sizes < MIN_PART * sizes.max())
    tidied[np.isin(labels, specks)] = -LOGIT_LIMIT
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - inside, connectivity=4)
    height, width = logits.shape
    for label in range(1, count):
        x, y, w, h, hole = stats[label]
        open_ = x == 0 or y == 0 or x + w == width or y + h == height
        if not open_ and hole < MAX_HOLE * area:
            tidied[labels == label] = 1.0
    return tidied


def mask_of(logits: NDArray[np.float32], window: Box, box: Box, shape: tuple[int, int]) -> Mask:
    """The mask of one box at the resolution of the photo, cut to the box.

    logits: [s, s] of the window; shape: height and width of the photo. The score is the mean margin
    2p - 1 of the pixels inside the mask: 0 where it is undecided, 1 where it is sure.
    """
    height, width = shape
    x0, y0 = max(int(np.floor(box[0])), 0), max(int(np.floor(box[1])), 0)
    x1, y1 = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    side = logits.shape[0]
    covered = prompt_maps(into(box, window, side), side)[0] > 0
    tidied = tidy(np.where(covered, logits, np.float32(-LOGIT_LIMIT)))
    inside = tidied > 0
    if x1 <= x0 or y1 <= y0 or not inside.any():
        return Mask(x0, y0, np.zeros((0, 0), np.bool_), 0.0)
    score = float(np.mean(np.tanh(tidied[inside] / 2)))  # 2 sigmoid(x) - 1
    logits = np.where(covered, tidied, logits)  # beyond the box as they were: a step would eat into its edges
    scale_x, scale_y = side / (window[2] - window[0]), side / (window[3] - window[1])
    # pixel centres of the photo -> pixel centres of the logits
    affine = np.array(
        [
            [scale_x, 0, (x0 + 0.5 - window[0]) * scale_x - 0.5],
            [0, scale_y, (y0 + 0.5 - window[1]) * scale_y - 0.5],
        ]
    )
    scaled = (np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT) + LOGIT_LIMIT) * (255 / (2 * LOGIT_LIMIT))
    large = cv2.warpAffine(
        np.round(scaled).astype(np.uint8),
        affine,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return crop_to_content(large > 127, x0, y0, score)


class BoxSegmenter:
    """Our network behind the protocol of segmenters; crops of all images share the batches."""

    def __init__(self, config: SegmenterConfig) -> None:
        self.device = pick_device(config.device)
        self.net = load_boxnet(Path(config.checkpoint) if config.checkpoint else shipped("boxseg")).to(self.device)
        self.batch = config.batch
        if config.compile:
            self.net.compile()

    def segment(self, images: Sequence[NDArray[np.uint8]], instances: Sequence[Sequence[Instance]]) -> list[list[Mask]]:
        """See `sketchgen.segmenter.Segmenter`; the score is the mean margin inside the mask."""
        masks: list[list[Mask]] = [[] for _ in images]
        work = [(i, instance.box) for i, row in enumerate(instances) for instance in row]
        for start in range(0, len(work), self.batch):
            chunk = work[start : start + self.batch]
            windows, logits = self.logits([(images[i], box) for i, box in chunk])
            for (i, box), window, plane in zip(chunk, windows, logits, strict=True):
                masks[i].append(mask_of(plane, window, box, images[i].shape[:2]))
        return masks

    @torch.inference_mode()
    def logits(self, prompts: Sequence[tuple[NDArray[np.uint8], Box]]) -> tuple[list[Box], NDArray[np.float32]]:
        """Windows and logits [n, S / 2, S / 2] of n (photo, box) pairs."""
        layout = self.net.layout
        crops = np.empty((len(prompts), layout.size, layout.size, 3), np.uint8)
        maps = np.empty((len(prompts), PROMPTS, layout.size, layout.size), np.float32)
        windows: list[Box] = []
        for row, (image, box) in enumerate(prompts):
            crops[row], window = crop_window(image, window_of(box, layout), layout.size)
            maps[row] = prompt_maps(into(box, window, layout.size), layout.size)
            windows.append(window)
        planes = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2)
        out = self.net(planes, torch.from_numpy(maps).to(self.device))
        return windows, out.float().cpu().numpy()


def save_boxnet(net: BoxNet, path: Path) -> None:
    """Write weights in half precision, with the layout in the metadata; atomic.

    One metadata entry: safetensors writes several in random order, and equal weights must be equal bytes.
    """
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={FORMAT: json.dumps(asdict(net.layout))})
    os.replace(partial, path)


def load_boxnet(path: Path) -> BoxNet:
    """Read weights that `save_boxnet` wrote, as float32, ready for inference.

    Raises FileNotFoundError when there is no such file, ValueError when it is not one of ours.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no boxseg weights at {path}: leave segmenter.checkpoint empty for the ones that are shipped, "
            "or train some with `make train-segmenter`"
        )
    remedy = "leave segmenter.checkpoint empty, or name a file that `make train-segmenter` wrote"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file ({error}): {remedy}") from error
    if FORMAT not in metadata:
        raise ValueError(f"{path} holds other weights (its metadata names {sorted(metadata)}, not {FORMAT}): {remedy}")
    known = {field.name for field in fields(Layout)}
    stored = {key: value for key, value in json.loads(metadata[FORMAT]).items() if key in known}
    net = BoxNet(Layout(**{**stored, "widths": tuple(stored["widths"])}))
    missing, unexpected = net.load_state_dict(tensors, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"{path} does not fit its layout (missing {missing}, foreign {unexpected}): {remedy}")
    return net.eval().to(memory_format=torch.channels_last)
