"""Photos in folders, sketches, and the scorer of a tiny model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sketchlm.retrieval.scorer import Scorer
from tests.sketchlm.llava import SIZES, tiny_llava, tiny_processor


@lru_cache
def tiny_scorer(seed: int = 3) -> Scorer:
    """Of a LLaVA of two layers at random weights."""
    return Scorer(tiny_llava(seed=seed), tiny_processor())


def photo(seed: int, size: tuple[int, int] = (48, 36)) -> NDArray[np.uint8]:
    """Blurred noise [H, W, 3]; size: (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (5, 5), 2), np.uint8)


def pixels(number: int, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures as the tower sees them [N, 3, S, S]."""
    shape = (number, 3, SIZES.side, SIZES.side)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write_photos(folder: Path, number: int, first: int = 0) -> list[Path]:
    """PNGs of noise, `000.png` and on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:03d}.png" for seed in range(first, first + number)]
    for seed, path in enumerate(paths, first):
        Image.fromarray(photo(seed)).save(path)
    return paths
