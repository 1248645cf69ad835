"""Segmenters: boxes in, masks out. The protocol and its settings (sketchgen.segmenters builds one)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sketchgen.instance import Instance, Mask
from sketchgen.weights import weights_identity

SegmenterName = Literal["boxseg", "sam2", "sam2-hf", "grabcut", "annotation"]


class Segmenter(Protocol):
    """Turns boxes into masks, many images at once, with any number of boxes an image."""

    def segment(self, images: Sequence[NDArray[np.uint8]], instances: Sequence[Sequence[Instance]]) -> list[list[Mask]]:
        """Masks in the order of the instances.

        images: RGB [H, W, 3] uint8, of any sizes; instances[i] lie in images[i], boxes clipped to it
        and at least one pixel wide and high. A mask never reaches outside its image; an object
        that was not found is a Mask with area 0, never an exception. The result of an instance does
        not depend on what else is in the call (to float tolerance).
        """
        ...


@dataclass(frozen=True)
class SegmenterConfig:
    """Which segmenter, and its settings."""

    name: SegmenterName = "boxseg"
    """boxseg (ours, shipped), sam2 (the sam2 package), sam2-hf (transformers), grabcut (OpenCV), annotation
    (what the source ships)."""
    checkpoint: str = ""
    """Weights: a local path or a hub id; empty = the one that belongs to the name (and size)."""
    size: Literal["tiny", "small", "base-plus", "large"] = "large"
    """Size of SAM 2.1; the other segmenters ignore it."""
    batch: int = 32
    """Boxes a forward pass: bounds the memory."""
    images: int = 4
    """Images that SAM 2.1 embeds together: bounds the memory."""
    compile: bool = False
    """torch.compile the model (for SAM 2.1 its image encoder): minutes at the start of each worker, faster from then
    on."""
    device: str = "auto"
    """auto (cuda if there is one), cpu, cuda, cuda:1, ..."""


def segmenter_weights(config: SegmenterConfig) -> str:
    """What identifies the weights in the settings of a run: a hash of the file, or the hub id."""
    if config.name in ("grabcut", "annotation"):
        return ""
    return weights_identity(config.checkpoint, "boxseg" if config.name == "boxseg" else "")
