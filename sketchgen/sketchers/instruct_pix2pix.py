"""The other way to draw: InstructPix2Pix (Brooks et al., CVPR 2023) and other image-to-image pipelines of diffusers.

The name says Pix2Pix, but it is a diffusion model that edits a picture as a sentence tells it. Weights are the user's:
`timbrooks/instruct-pix2pix` (MIT) on the hub, or any folder that `save_pretrained` of such a pipeline wrote.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sketchgen.crop import Crop
from sketchgen.device import pick_device
from sketchgen.seed import seed_of
from sketchgen.sketcher import INSTRUCT_PIX2PIX, SketcherConfig, sketcher_weights

HUB_ID = "timbrooks/instruct-pix2pix"
MIN_CONTRAST = 24
"""Grey values between the ink and the paper of a drawing; one with less is an empty sheet."""


class InstructPix2PixSketcher:
    """Draws crops as `config.diffusion.prompt` says, `config.batch` at a time; the noise of each comes from its key."""

    style = INSTRUCT_PIX2PIX

    def __init__(self, config: SketcherConfig) -> None:
        self._config, self._batch = config.diffusion, config.batch
        self._pipeline = load_pipeline(config)
        if config.compile:
            self._pipeline.unet.compile()
        known = inspect.signature(self._pipeline.__call__).parameters
        wanted = {
            "guidance_scale": self._config.guidance,
            "image_guidance_scale": self._config.image_guidance,
            "strength": self._config.strength,
        }
        self._options = {name: value for name, value in wanted.items() if name in known}
        self._side = int(self._pipeline.unet.config.sample_size * self._pipeline.vae_scale_factor)
        identity = json.dumps([sketcher_weights(config), asdict(self._config)])
        self.generator = f"{self.style}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"

    def sketch(self, crops: Sequence[Crop]) -> list[NDArray[np.uint8]]:
        """Strokes [h, w] uint8 of each crop, dark on white."""
        strokes = []
        for start in range(0, len(crops), self._batch):
            batch = crops[start : start + self._batch]
            for crop, drawing in zip(batch, self._draw(batch), strict=True):
                strokes.append(to_strokes(drawing, crop.mask))
        return strokes

    @torch.inference_mode()
    def _draw(self, crops: Sequence[Crop]) -> NDArray[np.uint8]:
        """Drawings [B, S, S, 3] of crops laid on white squares."""
        size = (self._side, self._side)
        drawn = self._pipeline(
            prompt=[self._config.prompt.replace("{category}", crop.category) for crop in crops],
            image=[ImageOps.pad(Image.fromarray(crop.rgb), size, Image.Resampling.BICUBIC, "white") for crop in crops],
            num_inference_steps=self._config.steps,
            # on the CPU: another kind of GPU gives the same noise
            generator=[torch.Generator("cpu").manual_seed(seed_of(self._config.seed, crop.key)) for crop in crops],
            output_type="np",
            **self._options,
        ).images
        return np.rint(np.nan_to_num(drawn) * 255).astype(np.uint8)


def to_strokes(drawing: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The drawing [S, S, 3] of a crop that was laid on a square, as strokes [h, w] of that crop: grey, its paper made
    white and its ink black, nothing outside the mask. uint8, dark on white."""
    grey = cv2.cvtColor(drawing, cv2.COLOR_RGB2GRAY)
    height, width = mask.shape
    side, scale = len(grey), len(grey) / max(height, width)
    rows, cols = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (side - rows) // 2, (side - cols) // 2
    part = cv2.resize(grey[top : top + rows, left : left + cols], (width, height), interpolation=cv2.INTER_AREA)
    # the outline may lie a little outside of the mask
    near = cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8)).view(np.bool_)
    if not near.any():
        return np.full(mask.shape, 255, np.uint8)
    ink, paper = np.percentile(part[near], (1, 90))
    if paper - ink < MIN_CONTRAST:
        return np.full(mask.shape, 255, np.uint8)
    stretched = np.clip((part.astype(np.float32) - ink) / (paper - ink), 0, 1) * 255
    return np.where(near, np.rint(stretched), 255).astype(np.uint8)


def load_pipeline(config: SketcherConfig) -> Any:
    """The pipeline of `config.checkpoint` on `config.device`: half precision (bf16) on CUDA, float32 elsewhere.

    A local folder or a hub id, of safetensors. A pipeline that draws from text alone is asked for its image-to-image
    twin. Raises FileNotFoundError without weights, ValueError for a pipeline that takes no picture.
    """
    import diffusers

    device = pick_device(config.device)
    quiet()
    name = config.checkpoint or HUB_ID
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            name,
            dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
            use_safetensors=True,
            # it blackens pictures on suspicion, wrongly for many; these are crops of photos that the user has
            safety_checker=None,
            requires_safety_checker=False,
        )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"sketcher {INSTRUCT_PIX2PIX} has no weights: {name} cannot be loaded ({str(error).splitlines()[0]}); run "
            f"`hf download {HUB_ID} --local-dir DIR` and set --sketcher.checkpoint DIR, or let the hub fetch it "
            f"(--sketcher.checkpoint {HUB_ID}, with HF_HUB_OFFLINE unset)"
        ) from error
    if "image" not in inspect.signature(pipeline.__call__).parameters:
        try:
            pipeline = diffusers.AutoPipelineForImage2Image.from_pipe(pipeline)
        except ValueError:
            raise ValueError(
                f"{name} is a {type(pipeline).__name__}, which takes no picture: sketcher {INSTRUCT_PIX2PIX} needs an "
                "image-to-image pipeline of diffusers"
            ) from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def quiet() -> None:
    """No bars of loading weights: a run shows its own progress."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
