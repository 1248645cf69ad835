"""Weights that come with the package (safetensors, each with a model card), and what identifies any."""

from __future__ import annotations

import hashlib
from pathlib import Path


def shipped(name: str) -> Path:
    """Path of the shipped weights called `name`."""
    return Path(__file__).parent / f"{name}.safetensors"


def weights_identity(checkpoint: str, shipped_name: str) -> str:
    """sha256 of the weights file that will be used; the text itself for a hub id or a folder.

    checkpoint: as the user gave it, "" for the shipped weights called `shipped_name`.
    """
    path = Path(checkpoint) if checkpoint or not shipped_name else shipped(shipped_name)
    if not path.is_file():
        return checkpoint
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
