"""The paper's sketcher: the Photo-Sketching generator (Li et al., WACV 2019), with its published weights.

Code of `mtli/PhotoSketch`: BSD-3. Weights: CC BY-NC-SA 4.0, so they are never part of this package.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from sketchgen.crop import Crop
from sketchgen.device import pick_device
from sketchgen.sketcher import SketcherConfig
from sketchgen.weights import weights_identity

SIDE = 256
WHERE = (
    "get latest_net_G.pth of mtli/PhotoSketch on GitHub (weights CC BY-NC-SA 4.0) and give it as --sketcher.checkpoint "
    "latest_net_G.pth, or train a sketcher of your own with `make train-sketcher` and use pix2pix"
)
LICENCE = (
    "the Photo-Sketching weights are licensed CC BY-NC-SA 4.0 (mtli/PhotoSketch): do not use them, or sketches made "
    "with them, commercially"
)
log = logging.getLogger(__name__)


class SampleNorm(nn.Module):
    """The keys of BatchNorm2d, but always with the statistics of each sample.

    The published test script never calls `eval()`, so its BatchNorm normalises by the statistics of its batch of one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        # never used, but part of the published layout
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=1e-5)


class Block(nn.Module):
    """x + two convolutions of it; no ReLU after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=False),
            SampleNorm(width),
            nn.ReLU(inplace=True),
            nn.Identity(),  # dropout of the training, p = 0 here: it counts in the key layout
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=False),
            SampleNorm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class PhotoSketchingGenerator(nn.Module):
    """`resnet_9blocks`, ngf 64: RGB [B, 3, 256, 256] in [-1, 1] to [B, 1, 256, 256] in [-1, 1]; 11,377,153 parameters.

    Layer indices are those of the published file (`model.{index}...`), see docs of `mtli/PhotoSketch`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, 64, 7, bias=False),
            SampleNorm(64),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 128, 3, 2, 1, bias=False),
            SampleNorm(128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 256, 3, 2, 1, bias=False),
            SampleNorm(256),
            nn.ReLU(inplace=True),
            *(Block(256) for _ in range(9)),
            nn.ConvTranspose2d(256, 128, 3, 2, 1, output_padding=1, bias=False),
            SampleNorm(128),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(128, 64, 3, 2, 1, output_padding=1, bias=False),
            SampleNorm(64),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(3),
            nn.Conv2d(64, 1, 7),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def load_photo_sketching(path: Path) -> PhotoSketchingGenerator:
    """The generator with a published state dict (117 tensors, or 140 with `num_batches_tracked`; keys may start with
    `module.`). Every key must be there and fit.

    Raises FileNotFoundError that says where the file is to be had, ValueError when it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no Photo-Sketching weights at {str(path)!r}: {WHERE}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {
            key.removeprefix("module."): value
            for key, value in state.items()
            if not key.endswith("num_batches_tracked")
        }
        model = PhotoSketchingGenerator()
        model.load_state_dict(tensors, strict=True)
    except Exception as error:  # torch.load raises many kinds for a broken file
        raise ValueError(f"{path} is not the Photo-Sketching generator's state dict: {error}; {WHERE}") from error
    log.warning(LICENCE)
    return model.eval()


class PhotoSketcher:
    """Draws crops as the published test script does, `config.batch` at a time."""

    style = "photo-sketching"

    def __init__(self, config: SketcherConfig) -> None:
        self._device, self._batch = pick_device(config.device), config.batch
        if not config.checkpoint:
            raise FileNotFoundError(f"the photo-sketching sketcher needs a checkpoint: {WHERE}")
        self.generator = f"photo-sketching-{weights_identity(config.checkpoint, '').removeprefix('sha256:')[:8]}"
        self._model = load_photo_sketching(Path(config.checkpoint)).to(self._device)
        if config.compile:
            self._model.compile()

    @torch.inference_mode()
    def sketch(self, crops: Sequence[Crop]) -> list[NDArray[np.uint8]]:
        """Strokes [h, w] uint8 of each crop, dark on white."""
        strokes = []
        for start in range(0, len(crops), self._batch):
            batch = crops[start : start + self._batch]
            x = torch.from_numpy(np.stack([_squeezed(crop.rgb) for crop in batch])).to(self._device)
            ink = ((self._model(x)[:, 0] + 1) / 2 * 255).to(torch.uint8).cpu().numpy()  # truncates
            for drawn, crop in zip(ink, batch, strict=True):
                height, width = crop.mask.shape
                strokes.append(_resized(drawn, width, height))
        return strokes


def _resized(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    # Pillow's bicubic, as in the published script; OpenCV's has another kernel
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC), np.uint8)


def _squeezed(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[3, 256, 256] in [-1, 1]; the aspect is ignored."""
    unit = _resized(rgb, SIDE, SIDE).astype(np.float32) / np.float32(255)
    return np.asarray((unit.transpose(2, 0, 1) - 0.5) / 0.5, np.float32)
