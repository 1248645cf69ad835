"""Photos of the Sketchy Database: each shows an object of one class, and where is not known.

`256x256/photo/tx_000000000000/CLASS/PHOTO.jpg`; a photo belongs to the split that its drawings belong to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from sketchgen.banks.files import files_in, folders_in
from sketchgen.banks.sketchy import split_of_photo, testset
from sketchgen.instance import Instance
from sketchgen.seed import seed_of
from sketchgen.source import SourceConfig, SourceImage, SourceInstance, image_folder
from sketchgen.store import is_local, open_url

SIDE = 256
LICENSE = "ImageNet: research only"


def read(config: SourceConfig) -> Iterator[SourceImage]:
    """The photos of a split, mixed, so that those of a class do not lie side by side; the one instance of each has the
    whole photo for its box.

    Raises ValueError for a folder that is not laid out as above or not on a local disk, and for a name that is not
    UTF-8.
    """
    for path in sorted(_photos(config), key=lambda path: seed_of("order", path.name)):
        name, category = path.stem, path.parent.name
        whole = (0.0, 0.0, float(SIDE), float(SIDE))
        instance = SourceInstance(Instance(f"{name}/0", category, whole))
        yield SourceImage(name, f"{category}/{path.name}", SIDE, SIDE, LICENSE, (instance,))


def fingerprint(config: SourceConfig) -> str:
    """sha256 of the names. Raises ValueError as `read`."""
    names = "\n".join(f"{path.parent.name}/{path.name}" for path in _photos(config))
    return hashlib.sha256(names.encode()).hexdigest()


def _photos(config: SourceConfig) -> list[Path]:
    folder = image_folder(config)
    fs, path = open_url(folder, "source.images")
    if not is_local(fs):
        raise ValueError(f"source.images is {folder}: photos of {config.name} are listed one by one, on a local disk")
    if not config.root:  # the lists of photos and drawings that belong together lie there
        raise ValueError(
            "source.root is empty: name the folder of sketchy that holds 256x256/ and info/ (--source.root)"
        )
    test = testset(Path(config.root))
    return [
        photo
        for place in folders_in(Path(path))
        for photo in files_in(place, ".jpg")
        if split_of_photo(photo.stem, test) == config.split
    ]
