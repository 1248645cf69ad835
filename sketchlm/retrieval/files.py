"""Files of a gallery: found, read, and told apart."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from data_manifests.picture import FORMATS

PhotoFiles: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A folder (walked), a file, a pattern (`photos/*.jpg`, `**` for folders in it), or a list of such."""
SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
"""Of a walked folder or a pattern, files with other names are no photos; a file that is named is always tried."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells, without reading it, that a file has changed."""

    size: int
    """Bytes."""
    mtime: int
    """Nanoseconds."""


def find_photos(source: PhotoFiles) -> list[str]:
    """Paths of the photos of a source, each once, those of a folder or pattern in the order of their names.

    Raises ValueError where one of a list names nothing, and where nothing is found at all.
    """
    sources = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    found: dict[str, None] = {}
    for one in sources:
        found |= dict.fromkeys(_found(os.fspath(one)))
    if not found:
        where = ", ".join(os.fspath(one) for one in sources[:3]) or "an empty list"
        raise ValueError(
            f"the gallery is empty: {where} holds no photo ({', '.join(FORMATS)}); name a folder that does"
        )
    return list(found)


def _found(path: str) -> list[str]:
    if os.path.isdir(path):
        walked = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
        return sorted(name for name in walked if _is_photo(name))
    if glob.has_magic(path) and not os.path.exists(path):
        return sorted(name for name in glob.glob(path, recursive=True) if _is_photo(name) and os.path.isfile(name))
    return [path]  # that it is missing is told with the broken ones


def _is_photo(name: str) -> bool:
    base = os.path.basename(name)
    return Path(base).suffix.lower() in SUFFIXES and not base.startswith(".")


def state_of(path: str) -> FileState | None:
    """None where there is no file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # a name with a null byte in it
        return None
    return FileState(found.st_size, found.st_mtime_ns)


def read_bytes(path: str) -> bytes:
    """A photo's file. Raises ValueError where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error})") from None


def digest(data: bytes | NDArray[np.uint8]) -> str:
    """sha256 of a file's bytes, or of an array's with its shape."""
    head = b"" if isinstance(data, bytes) else str(data.shape).encode()
    return hashlib.sha256(head + (data if isinstance(data, bytes) else data.tobytes())).hexdigest()
