"""Models that come with the package: bundles in half precision, each with its card."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """Folder of the bundle called `name`. `learn`: the demonstration model, 2.5M parameters, trained on shapeworld."""
    return Path(__file__).parent / name
