"""Sketchers: masked crops in, strokes out. The protocol and its settings (sketchgen.sketchers builds one)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sketchgen.crop import Crop
from sketchgen.weights import weights_identity

SketcherName = Literal["pix2pix", "photo-sketching", "instruct-pix2pix", "none"]
INSTRUCT_PIX2PIX = "instruct-pix2pix"


class Sketcher(Protocol):
    """Draws instances, many at once."""

    style: str
    """Written into the shards, e.g. "pix2pix"; "" where it draws nothing."""
    generator: str
    """Which weights drew it, e.g. "pix2pix-1f0c93ab" (start of the sha256 of the weights)."""

    def sketch(self, crops: Sequence[Crop]) -> list[NDArray[np.uint8]]:
        """Strokes of each crop, in order: [h, w] uint8 like the crop, dark on white (255).

        The result of a crop does not depend on what else is in the call (to float tolerance).
        """
        ...


@dataclass(frozen=True)
class DiffusionConfig:
    """How `instruct-pix2pix` draws; the other sketchers ignore it."""

    prompt: str = "make it a pencil line drawing, black lines on white paper, no shading"
    """What to make of the crop; {category} stands for its class."""
    steps: int = 20
    """Denoising steps."""
    guidance: float = 7.5
    """How closely the prompt is followed."""
    image_guidance: float = 1.5
    """How closely the crop is followed (InstructPix2Pix)."""
    strength: float = 0.8
    """How much of the crop is drawn anew, 0 to 1 (plain image-to-image pipelines)."""
    seed: int = 0
    """With an instance's id it fixes its noise: reruns are identical, in any batch and on any worker."""


@dataclass(frozen=True)
class SketcherConfig:
    """Which sketcher, and its settings."""

    name: SketcherName = "pix2pix"
    """pix2pix (ours, shipped), photo-sketching (the paper's; bring its weights), instruct-pix2pix (diffusion; bring
    weights), none (edges only)."""
    checkpoint: str = ""
    """Weights: a local path, or a hub id (instruct-pix2pix); empty = the ones that belong to the name."""
    batch: int = 16
    """Crops a forward pass: bounds the memory."""
    compile: bool = False
    """torch.compile the model (of a diffusion pipeline its U-Net): minutes at the start of each worker, faster from
    then on."""
    device: str = "auto"
    """auto (cuda if there is one), cpu, cuda, cuda:1, ..."""
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)


def sketcher_weights(config: SketcherConfig) -> str:
    """What identifies the weights in the settings of a run: a hash of the files, or the hub id."""
    return weights_identity(config.checkpoint, "pix2pix" if config.name == "pix2pix" else "")
