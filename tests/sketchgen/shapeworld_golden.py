"""Golden values of shapeworld: `python -m tests.sketchgen.shapeworld_golden` draws them anew.

Do so only together with a new VERSION (sketchgen/shapeworld/version.py): shards and bundles name it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2

from sketchgen.shapeworld import HELD_OUT_STYLE, VERSION, HandBank, WorldConfig, lay_out, make_scene

FILE = Path(__file__).with_suffix(".json")
SCENES = (
    (WorldConfig(), 0),
    (WorldConfig(), 7),
    (WorldConfig(seed=3, split="val"), 123456),
    (WorldConfig(side=128, kinds=(0.0, 1.0, 0.0)), 5),
)
DRAWINGS = (
    ("train", (), "dog", 0),
    ("train", (), "clock", 1),
    ("val", (), "truck", 2**63),
    ("val", (HELD_OUT_STYLE,), "guitar", 3),
    *(("train", (style,), "church", 4) for style in ("neat", "shaky", "sketchy", "marker")),
)


def golden() -> dict[str, str]:
    """What is drawn -> sha256 of its pixels, or of its boxes and masks."""
    values = {"version": str(VERSION)}
    for config, index in SCENES:
        name = f"{config.side}/{config.seed}/{config.split}/{index}"
        values[f"scene {name}"] = hashlib.sha256(make_scene(config, index).rgb.tobytes()).hexdigest()
        layout = hashlib.sha256()
        for one in lay_out(config, index):
            layout.update(f"{one.category} {one.box} {one.mask.x} {one.mask.y}".encode() + one.mask.bits.tobytes())
        values[f"layout {name}"] = layout.hexdigest()
    for split, styles, category, seed in DRAWINGS:
        bank = HandBank(split, styles) if styles else HandBank(split)
        drawing = bank.draw(category, seed)
        values[drawing.sketch_id] = hashlib.sha256(drawing.image.tobytes()).hexdigest()
    return values


if __name__ == "__main__":
    cv2.setNumThreads(1)
    FILE.write_text(json.dumps(golden(), indent=1) + "\n")
