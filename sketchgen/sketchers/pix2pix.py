"""Our own sketcher: a small Pix2Pix generator from a masked crop and its edge map to strokes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sketchgen.crop import Crop
from sketchgen.device import pick_device
from sketchgen.sketcher import SketcherConfig
from sketchgen.weights import shipped, weights_identity

GeneratorInput = Literal["rgb", "edges", "both"]
CHANNELS: dict[GeneratorInput, int] = {"rgb": 4, "edges": 2, "both": 5}


@dataclass(frozen=True)
class GeneratorConfig:
    """What a weights file was trained as; it is kept in the file."""

    input: GeneratorInput = "both"
    """The masked crop (colours and mask), its edge map (and mask), or both."""
    widths: tuple[int, int, int, int] = (24, 48, 96, 128)
    """Channels at 1/2, 1/4, 1/8 and 1/16 of the side."""
    blocks: int = 3
    """Residual blocks at 1/16."""
    side: int = 256
    """Side in pixels of the square that crops are drawn on; a multiple of 16."""


class Generator(nn.Module):
    """U-Net with added skips: [B, C, S, S] from `generator_input` to ink logits [B, 1, S, S].

    Nearly all work happens at a quarter of the side and below; strokes get their place from a thin last step at full
    resolution, which sees the input again. Batch normalisation with fixed statistics at run time, so a result does not
    depend on its batch, and thin objects on much white are not scaled up as statistics of an instance would.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        channels, (a, b, c, d) = CHANNELS[config.input], config.widths
        self.stem = nn.Sequential(_conv(channels, a, kernel=5, stride=2), Residual(a))
        self.down = nn.ModuleList(nn.Sequential(_conv(i, o, stride=2), Residual(o)) for i, o in ((a, b), (b, c)))
        self.bottom = nn.Sequential(_conv(c, d, stride=2), *(Residual(d) for _ in range(config.blocks)))
        self.up = nn.ModuleList(_conv(i, o, kernel=1) for i, o in ((d, c), (c, b), (b, a)))
        self.merge = nn.ModuleList(_conv(width, width) for width in (c, b, a))
        self.fine = _conv(a, 32)
        self.ink = nn.Sequential(_conv(8 + channels, 8), nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.stem(x)]  # [B, a, S / 2, S / 2]
        for down in self.down:
            skips.append(down(skips[-1]))
        y = self.bottom(skips[-1])  # [B, d, S / 16, S / 16]
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            y = merge(F.interpolate(up(y), scale_factor=2.0, mode="nearest") + skip)
        fine = F.pixel_shuffle(self.fine(y), 2)  # [B, 8, S, S]
        return self.ink(torch.cat([fine, x], dim=1))


class Residual(nn.Module):
    """x + two convolutions of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(width, width), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _conv(inner: int, outer: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outer), nn.ReLU(inplace=True)
    )


def save_generator(model: Generator, config: GeneratorConfig, path: Path) -> None:
    """Write fp16 weights with their config, whole or not at all."""
    tensors = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"config": json.dumps(asdict(config))})
    os.replace(partial, path)


def load_generator(path: Path) -> tuple[Generator, GeneratorConfig]:
    """The generator of a weights file, in evaluation mode; ValueError when the file is of something else."""
    if not path.is_file():
        raise FileNotFoundError(f"no sketcher weights at {path}: train your own with `make train-sketcher`")
    try:
        with safe_open(path, framework="pt") as file:
            fields = json.loads((file.metadata() or {})["config"])
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        config = GeneratorConfig(**{**fields, "widths": tuple(fields["widths"])})
        model = Generator(config)
        wanted = {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
        if wanted != set(tensors):
            raise ValueError(f"keys differ: {sorted(wanted ^ set(tensors))[:4]}")
        model.load_state_dict(tensors, strict=False)
    except Exception as error:
        raise ValueError(f"{path} does not hold weights of the pix2pix sketcher: {error}") from error
    return model.eval(), config


def fused(model: Generator) -> Generator:
    """The same function with every normalisation folded into its convolution (evaluation mode only)."""
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential) and len(module) == 3:
            convolution, norm = module[0], module[1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[0], module[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return model


def edge_map(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Strength of colour edges inside the mask, fine and coarse together: [h, w] in [0, 1].

    Colours are smeared outwards first, so that the border of the mask is no edge. The scale is the crop's own: its
    98th percentile is 1, unless the crop is nearly flat.
    """
    weight = mask.astype(np.float32)
    colours = rgb.astype(np.float32) * weight[..., None]
    edges = np.zeros(mask.shape, np.float32)
    if not mask.any():
        return edges
    for sigma in (1.0, 2.5):
        smooth = cv2.GaussianBlur(colours, (0, 0), sigma)
        smooth /= np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-4)[..., None]
        dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
        strength = np.sqrt((dx * dx + dy * dy).max(axis=2)) * sigma
        top = max(float(np.percentile(strength[mask], 98)), 40.0)
        edges += 0.5 * np.clip(strength / top, 0, 1)
    return edges * weight


def generator_input(rgb: NDArray[np.uint8], mask: NDArray[np.bool_], kind: GeneratorInput) -> NDArray[np.float32]:
    """What the generator sees of a crop: [C, h, w]; colours in [-1, 1], edges and mask in {0, 1} to [0, 1]."""
    planes: list[NDArray[np.float32]] = []
    if kind != "edges":
        planes.extend(rgb.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1)
    if kind != "rgb":
        planes.append(edge_map(rgb, mask))
    planes.append(mask.astype(np.float32))
    return np.stack(planes)


class Pix2PixSketcher:
    """Draws crops with the generator, `config.batch` at a time."""

    style = "pix2pix"

    def __init__(self, config: SketcherConfig) -> None:
        model, self._trained_as = load_generator(Path(config.checkpoint) if config.checkpoint else shipped("pix2pix"))
        self.generator = f"pix2pix-{weights_identity(config.checkpoint, 'pix2pix').removeprefix('sha256:')[:8]}"
        self._device, self._batch = pick_device(config.device), config.batch
        self._model = fused(model).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            self._model.compile()

    def sketch(self, crops: Sequence[Crop]) -> list[NDArray[np.uint8]]:
        """Strokes [h, w] uint8 of each crop, dark on white."""
        strokes = []
        for start in range(0, len(crops), self._batch):
            batch = crops[start : start + self._batch]
            for crop, ink in zip(batch, self._draw(batch), strict=True):
                strokes.append(_lift(finish(ink), crop.mask.shape))
        return strokes

    @torch.inference_mode()
    def _draw(self, crops: Sequence[Crop]) -> NDArray[np.float32]:
        """Ink [B, S, S] in [0, 1] of crops centred on white squares."""
        kind, side = self._trained_as.input, self._trained_as.side
        stack = np.stack([generator_input(*_lay(crop, side), kind) for crop in crops])
        x = torch.from_numpy(stack).to(self._device).contiguous(memory_format=torch.channels_last)
        return np.asarray(torch.sigmoid(self._model(x)).float().cpu().numpy()[:, 0])


def _fit(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width of a crop inside the square: its own, unless it is larger."""
    scale = min(1.0, side / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _lay(crop: Crop, side: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Colours [S, S, 3] and mask [S, S] of a crop centred on a white square."""
    height, width = _fit(crop.mask.shape, side)
    rgb, mask = crop.rgb, crop.mask.view(np.uint8)
    if mask.shape != (height, width):
        rgb, mask = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in (rgb, mask))
    top, left = (side - height) // 2, (side - width) // 2
    borders = (top, side - height - top, left, side - width - left)
    laid = cv2.copyMakeBorder(rgb, *borders, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return laid, cv2.copyMakeBorder(mask, *borders, cv2.BORDER_CONSTANT, value=0) > 0


def _lift(square: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The crop's part of the square, in the crop's own size."""
    height, width = _fit(shape, len(square))
    top, left = (len(square) - height) // 2, (len(square) - width) // 2
    part = square[top : top + height, left : left + width]
    if part.shape != shape:
        part = cv2.resize(part, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(part)


FAINT, SURE, SPECK = 0.5, 0.8, 60
"""A stroke is a connected piece of ink over FAINT with a pixel over SURE and at least SPECK pixels."""


def finish(ink: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Ink [h, w] in [0, 1] to strokes: faint pieces and specks go, the rest is stretched to full black, with soft
    sides. [h, w] uint8, dark on white."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((ink > FAINT).view(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= SPECK
    sure = np.zeros(len(stats), np.bool_)
    sure[labels[ink > SURE]] = True
    keep &= sure
    keep[0] = False
    near = cv2.dilate(keep[labels].view(np.uint8), np.ones((3, 3), np.uint8)) > 0
    dark = np.where(near, np.clip((ink - FAINT / 2) / (SURE - FAINT / 2), 0, 1), 0)
    return np.asarray(np.rint(255 * (1 - dark)), np.uint8)
