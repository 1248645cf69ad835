"""TU-Berlin (Eitz et al. 2012): 80 drawings of each of 250 classes, `png/CLASS/NUMBER.png`.

The paper never trains on it: it measures how well drawings of an unseen style are read.
"""

from __future__ import annotations

from pathlib import Path

SOURCE = "tu_berlin"


def tu_berlin_files(folder: Path) -> dict[str, list[Path]]:
    """All drawings by class, in the order of their numbers. ValueError for a folder that is not laid out as above."""
    root = folder / "png" if (folder / "png").is_dir() else folder
    found = {}
    for place in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ():
        files = sorted(place.glob("*.png"), key=lambda path: (len(path.stem), path.stem))
        if files:
            found[place.name] = files
    if not found:
        raise ValueError(f"{folder} does not look like TU-Berlin: png/CLASS/NUMBER.png is expected there")
    return found
