"""The Sketchy Database: five drawings and more of each of 12,500 photos, in 125 classes.

`256x256/sketch/tx_*/CLASS/PHOTO-N.png` is the N-th drawing of `256x256/photo/tx_*/CLASS/PHOTO.jpg`;
`info/invalid-*.txt` names drawings that were found wanting, `info/testset.txt` the photos of the test set.
"""

from __future__ import annotations

import re
from pathlib import Path

from sketchgen.bank import split_of
from sketchgen.banks.files import files_in, folders_in, printable

SOURCE = "sketchy"
TRANSFORM = "tx_000100000000"
"""Centred, the object spanning 78 % of the square."""


def sketchy_files(folder: Path, split: str) -> dict[str, list[Path]]:
    """The valid drawings of a split, by class, in the order of their names.

    split: train or val, by photo, so that no photo has drawings in both. Raises ValueError for a folder that is not
    laid out as above or has no drawing of this split, for a list that cannot be read, and for a name that is not UTF-8.
    """
    root = folder / "256x256" / "sketch" / TRANSFORM
    if not root.is_dir():
        raise ValueError(
            f"{printable(folder)} does not look like Sketchy: there is no folder 256x256/sketch/{TRANSFORM}"
        )
    invalid = {name for path in (folder / "info").glob("invalid*.txt") for name in _names(path)}
    test = testset(folder)
    found: dict[str, list[Path]] = {}
    for place in folders_in(root):
        files = [
            path
            for path in files_in(place, ".png")
            if path.stem not in invalid and split_of_photo(photo_of(path), test) == split
        ]
        if files:
            found[place.name] = files
    if not found:
        raise ValueError(
            f"{printable(root)} holds no drawing for {split}: CLASS/PHOTO-N.png is expected there"
            + (
                f", of photos that info/testset.txt {'names' if split == 'val' else 'does not name'}"
                if test is not None
                else ""
            )
        )
    return found


def testset(folder: Path) -> set[str] | None:
    """Names of the photos of the test set; None where there is no list of them. ValueError for one that is damaged."""
    listed = folder / "info" / "testset.txt"
    return set(_names(listed)) if listed.is_file() else None


def photo_of(drawing: Path) -> str:
    """`n02691156_58` for its drawing `n02691156_58-1.png`."""
    matched = re.fullmatch(r"(.*)-\d+", drawing.stem)
    return matched[1] if matched else drawing.stem


def split_of_photo(photo: str, test: set[str] | None) -> str:
    """Which split a photo and all its drawings belong to. test: names of the test set; None = chance decides."""
    if test is None:
        return split_of(SOURCE, photo)
    return "val" if photo in test else "train"


def _names(path: Path) -> list[str]:
    """Names without folder and ending, one a line. Raises ValueError for a list that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{printable(path)} is no list of names that can be read ({error}): copy it again") from None
    return [Path(line.strip()).stem for line in text.splitlines() if line.strip()]
