"""Shared fixtures: one thread (results depend on it), no hub, and small COCO folders."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import hypothesis
import numpy as np
import pytest
from PIL import Image, ImageDraw

os.environ.setdefault("HF_HUB_OFFLINE", "1")
cv2.setNumThreads(1)
hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Indexes of sources do not mix with those of the person who runs the tests."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def draw_scene(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A photo-like picture: noise, and a bright ellipse at (30, 20)-(110, 100) with a dark bar in it."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(60, 110, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 20, 110, 100), fill=(230, 200, int(seed) % 200))
    draw.rectangle((50, 55, 90, 65), fill=(20, 20, 20))
    return image


ELLIPSE = [
    round(float(v), 2)
    for t in np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for v in (70 + 40 * np.cos(t), 60 + 40 * np.sin(t))
]


@pytest.fixture
def coco_folder(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Make a COCO folder of `count` scenes, one ellipse each; returns (annotation file, image folder).

    extra: more annotations; edit: changes the whole json before it is written.
    """

    def make(
        count: int = 3,
        extra: list[dict[str, Any]] | None = None,
        edit: Callable[[dict[str, Any]], None] | None = None,
    ) -> tuple[Path, Path]:
        images = tmp_path / "images"
        images.mkdir(exist_ok=True)
        data: dict[str, Any] = {
            "licenses": [{"id": 1, "name": "CC0"}],
            "categories": [{"id": 7, "name": "ball"}, {"id": 9, "name": "bat"}],
            "images": [],
            "annotations": [],
        }
        for number in range(1, count + 1):
            name = f"{number:04d}.jpg"
            draw_scene(number).save(images / name, quality=95)
            data["images"].append({"id": number, "file_name": name, "width": 160, "height": 120, "license": 1})
            data["annotations"].append(
                {
                    "id": 100 + number,
                    "image_id": number,
                    "category_id": 7,
                    "bbox": [30, 20, 80, 80],
                    "area": 5000,
                    "iscrowd": 0,
                    "segmentation": [ELLIPSE],
                }
            )
        data["annotations"] += extra or []
        if edit:
            edit(data)
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(data))
        return path, images

    return make
