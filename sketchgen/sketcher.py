"""Sketchers: masked crops in, strokes out. The protocol and its settings (sketchgen.sketchers builds one)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sketchgen.crop import Crop
from sketchgen.weights import weights_identity

SketcherName = Literal["pix2pix", "photo-sketching", "none"]


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
class SketcherConfig:
    """Which sketcher, and its settings."""

    name: SketcherName = "pix2pix"
    """pix2pix (ours, shipped), photo-sketching (the paper's; bring its weights), none (edges only)."""
    checkpoint: str = ""
    """Weights: a local path; empty = the shipped ones (pix2pix only)."""
    batch: int = 16
    """Crops a forward pass: bounds the memory."""
    device: str = "auto"
    """auto (cuda if there is one), cpu, cuda, cuda:1, ..."""


def sketcher_weights(config: SketcherConfig) -> str:
    """What identifies the weights in the settings of a run: a hash of the file."""
    return weights_identity(config.checkpoint, "pix2pix" if config.name == "pix2pix" else "")
