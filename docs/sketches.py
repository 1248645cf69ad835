"""Draws docs/sketches.png from a finished run of the sample: `python docs/sketches.py out/sketches/sample`.

Only photos in the public domain or under CC0 / CC BY 2.0 are shown (see data_manifests/sources/sample.json).
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from sketchgen.preview import PANELS, TILE, preview_counts, read_previews
from sketchgen.storage import Storage

SHOWN = {"1": "space shuttle", "3": "cup", "5": "person", "7": "pagoda", "8": "flower", "9": "person"}
"""Image id and the class of its instance."""
COLUMNS = 2
HEAD = 26


def main(folder: str) -> None:
    """Stack the chosen previews in COLUMNS columns under the panels' names."""
    strips = {}
    storage = Storage(folder)
    for preview in read_previews(storage, preview_counts(storage)):
        if SHOWN.get(preview.image_id) == preview.category and not preview.reason:
            strips.setdefault(preview.image_id, cv2.imdecode(np.frombuffer(preview.jpeg, np.uint8), cv2.IMREAD_COLOR))
    assert strips.keys() == SHOWN.keys(), f"not in the run: {SHOWN.keys() - strips.keys()}"
    head = np.full((HEAD, TILE * len(PANELS), 3), 255, np.uint8)
    for number, name in enumerate(PANELS):
        cv2.putText(head, name, (TILE * number + 8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (90, 90, 90), 1, cv2.LINE_AA)
    rows = list(strips.values())
    columns = [np.vstack([head, *rows[start::COLUMNS]]) for start in range(COLUMNS)]
    gap = np.full((columns[0].shape[0], 24, 3), 255, np.uint8)
    cv2.imwrite(str(Path(__file__).with_suffix(".png")), np.hstack([columns[0], gap, columns[1]]))


if __name__ == "__main__":
    main(sys.argv[1])
