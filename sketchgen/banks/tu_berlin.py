"""TU-Berlin (Eitz et al. 2012): 80 drawings of each of 250 classes, `png/CLASS/NUMBER.png`.

The paper never trains on it: it measures how well drawings of an unseen style are read.
"""

from __future__ import annotations

from pathlib import Path

from sketchgen.banks.files import files_in, folders_in, printable

SOURCE = "tu_berlin"


def tu_berlin_files(folder: Path) -> dict[str, list[Path]]:
    """All drawings by class, in the order of their numbers.

    Raises ValueError for a folder that is not laid out as above, and for a name that is not UTF-8.
    """
    root = folder / "png" if (folder / "png").is_dir() else folder
    found = {}
    for place in folders_in(root) if root.is_dir() else ():
        files = sorted(files_in(place, ".png"), key=lambda path: (len(path.stem), path.stem))
        if files:
            found[place.name] = files
    if not found:
        raise ValueError(f"{printable(folder)} does not look like TU-Berlin: png/CLASS/NUMBER.png is expected there")
    return found
