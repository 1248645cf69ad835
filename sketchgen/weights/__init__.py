"""Weights that come with the package (safetensors, each with a model card), and what identifies any."""

from __future__ import annotations

import hashlib
from pathlib import Path


def shipped(name: str) -> Path:
    """Path of the shipped weights called `name`."""
    return Path(__file__).parent / f"{name}.safetensors"


def weights_identity(checkpoint: str, shipped_name: str) -> str:
    """sha256 of the weights that will be used (of all files, for a folder); the text itself for a hub id.

    checkpoint: as the user gave it, "" for the shipped weights called `shipped_name`.
    """
    path = Path(checkpoint) if checkpoint or not shipped_name else shipped(shipped_name)
    files = [path]
    if checkpoint and path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
    if not files or not files[0].is_file():
        return checkpoint
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def _hidden(path: Path) -> bool:
    """What tools of downloading leave beside the weights (`.cache`, `.git`)."""
    return any(part.startswith(".") for part in path.parts)
