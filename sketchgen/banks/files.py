"""Files of banks: which of a folder are data, and how an error names them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

AGAIN = "copy it again, or remove it"
"""What helps against a damaged file of a bank."""


def files_in(folder: Path, ending: str) -> list[Path]:
    """Its files of this ending, by name; hidden ones (`._x.png` of macOS) are no data.

    Raises ValueError for a name that is not UTF-8, and for a folder that cannot be listed.
    """
    return _entries(folder, lambda entry: entry.name.endswith(ending) and not entry.is_dir())


def folders_in(folder: Path) -> list[Path]:
    """Its folders, by name; hidden ones, and what is raised, as `files_in`."""
    return _entries(folder, lambda entry: entry.is_dir())


def printable(path: Path) -> str:
    """The path as any ledger and terminal takes it: bytes that are not UTF-8 are escaped."""
    return str(path).encode(errors="backslashreplace").decode()


def check_ink(image: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """The same drawing. image: [256, 256] uint8. Raises ValueError for one that is white all over."""
    if (image == 255).all():
        raise ValueError(f"{printable(path)} draws nothing: {AGAIN}")
    return image


def _entries(folder: Path, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[Path]:
    try:
        with os.scandir(folder) as entries:  # asks the disk once: a class of a bank has hundreds of files
            names = [entry.name for entry in entries if not entry.name.startswith(".") and is_wanted(entry)]
    except OSError as error:
        raise ValueError(f"{printable(folder)} cannot be listed ({error.strerror}): is the disk there?") from None
    for name in names:
        _check_name(folder / name)
    return [folder / name for name in sorted(names)]


def _check_name(path: Path) -> None:
    """A name is what splits are drawn from, and what shards and reports hold."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name of {printable(path)} is not UTF-8: rename it") from None
