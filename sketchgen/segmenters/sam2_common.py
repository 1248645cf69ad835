"""What both SAM 2.1 segmenters share: sizes and checkpoints by name, chunks of boxes, cropped masks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchgen.instance import Instance, Mask
from sketchgen.segmenter import SegmenterConfig

Embedding = TypeVar("Embedding")

DOWNLOAD_URL = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/"
"""Where Meta publishes the SAM 2.1 checkpoints, by file name."""

MAX_PIXELS = 2**26
"""Full-size mask pixels at once (256 MB as float32), so that boxes of a huge photo go in smaller chunks."""


@dataclass(frozen=True)
class Release:
    """One published size of SAM 2.1: its name on the hub, its native file, its config in the sam2 package."""

    hub_id: str
    file: str
    config: str


RELEASES = {
    size: Release(
        hub_id=f"facebook/sam2.1-hiera-{size}",
        file=f"sam2.1_hiera_{size.replace('-', '_')}.pt",
        config=f"configs/sam2.1/sam2.1_hiera_{abbreviation}.yaml",
    )
    for size, abbreviation in {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}.items()
}


def find_checkpoint(config: SegmenterConfig, native: bool) -> Path | str:
    """What `config.checkpoint` means: a local path, or the id of a hub repository (str).

    Empty means the hub id of `config.size`. `native`: a .pt file is wanted, not a folder of transformers.
    Raises FileNotFoundError for a local path that does not exist, ValueError for the hub id of
    another size than `config.size`.
    """
    name = config.checkpoint or RELEASES[config.size].hub_id
    path = Path(name).expanduser()
    if path.exists():
        return path
    looks_local = path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1 or path.suffix == ".pt"
    if looks_local:
        raise missing_checkpoint(config, native, f"no such file or folder: {name}")
    for size, release in RELEASES.items():
        if name == release.hub_id and size != config.size:
            raise ValueError(
                f"checkpoint {name} is of size {size}, but size is {config.size}: set --segmenter.size {size}"
            )
    return name


def missing_checkpoint(config: SegmenterConfig, native: bool, seen: str) -> FileNotFoundError:
    """The error for a checkpoint that is not there: what was looked for, where it is, which flag to set."""
    release = RELEASES[config.size]
    if native:
        remedy = (
            f"download {DOWNLOAD_URL}{release.file} and set --segmenter.checkpoint PATH/{release.file}, "
            f"or let the hub fetch it (--segmenter.checkpoint {release.hub_id}, with HF_HUB_OFFLINE unset)"
        )
    else:
        remedy = (
            f"run `hf download {release.hub_id} --local-dir DIR` and set --segmenter.checkpoint DIR, "
            f"or let the hub fetch it (--segmenter.checkpoint {release.hub_id}, with HF_HUB_OFFLINE unset); "
            f"native .pt files are for --segmenter.name sam2"
        )
    return FileNotFoundError(f"segmenter {config.name} ({config.size}) has no checkpoint: {seen}; {remedy}")


def segment_with_embeddings(
    images: Sequence[NDArray[np.uint8]],
    instances: Sequence[Sequence[Instance]],
    config: SegmenterConfig,
    embed: Callable[[Sequence[NDArray[np.uint8]]], Sequence[Embedding]],
    prompt: Callable[[Embedding, NDArray[np.float32]], tuple[Tensor, Tensor]],
) -> list[list[Mask]]:
    """Embed images once, `config.images` at a time, and prompt each with its boxes, at most `config.batch` at a time.

    prompt(embedding, boxes [N, 4] xyxy pixels) -> (masks [N, H, W] bool, predicted IoU [N]). Full-size masks
    of one chunk are held at a time. Images without boxes cost nothing.
    """
    results: list[list[Mask]] = [[] for _ in images]
    prompted = [number for number, boxes in enumerate(instances) if boxes]
    for start in range(0, len(prompted), config.images):
        group = prompted[start : start + config.images]
        # decoders of photos hand out read-only arrays, which torch warns about
        embeddings = embed([np.require(images[number], requirements=["C", "W"]) for number in group])
        for number, embedding in zip(group, embeddings, strict=True):
            boxes = np.array([instance.box for instance in instances[number]], np.float32)
            height, width = images[number].shape[:2]
            size = min(config.batch, max(1, MAX_PIXELS // (height * width)))
            for first in range(0, len(boxes), size):
                results[number] += crop_masks(*prompt(embedding, boxes[first : first + size]))
    return results


def crop_masks(bits: Tensor, scores: Tensor) -> list[Mask]:
    """Masks [N, H, W] bool and scores [N], on any device, as cropped masks; scores clipped to [0, 1].

    Only the crops leave the device.
    """
    rows, cols = bits.any(dim=2).cpu().numpy(), bits.any(dim=1).cpu().numpy()
    clipped = scores.float().clamp(0, 1).cpu().tolist()
    masks: list[Mask] = []
    for full, row, col, score in zip(bits, rows, cols, clipped, strict=True):
        ys, xs = np.flatnonzero(row), np.flatnonzero(col)
        if len(ys) == 0:
            masks.append(Mask(0, 0, np.zeros((0, 0), np.bool_), score))
            continue
        crop = full[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].cpu().numpy().copy()
        masks.append(Mask(int(xs[0]), int(ys[0]), crop, score))
    return masks


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast on CUDA, where Meta runs SAM 2 that way too; float32 elsewhere."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()
