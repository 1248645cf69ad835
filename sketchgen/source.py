"""Sources: where photos and their boxes come from. Readers yield one `SourceImage` after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fsspec.core import url_to_fs

from data_manifests.packaged import packaged_file
from data_manifests.schema import source_manifest
from sketchgen.instance import Instance
from sketchgen.photo import PhotoError
from sketchgen.shapeworld import WorldConfig, render


@dataclass(frozen=True)
class SourceConfig:
    """Which source, and where it lies."""

    name: str = "sample"
    """A manifest of data_manifests/sources, `coco` for any folder in COCO form, or `shapeworld` (generated)."""
    annotations: str = ""
    """Annotation file (COCO json); empty for packaged sources."""
    images: str = ""
    """Folder of the images, a local path or fsspec URL; empty for packaged sources."""
    label: str = ""
    """What the shards call it; empty = the name. Two sets that may meet in a mixture need two labels."""
    limit: int = 0
    """Only the first N images; 0 = all."""
    world: WorldConfig = field(default_factory=WorldConfig)
    """Which scenes; used by `shapeworld` only."""

    @property
    def generated(self) -> bool:
        """Whether its images are drawn when they are read."""
        return self.name == "shapeworld"

    @property
    def packaged(self) -> bool:
        """Whether its images lie inside installed packages."""
        return self.name != "coco" and not self.generated and source_manifest(self.name)[0].images == "packaged"


@dataclass(frozen=True, slots=True)
class SourceInstance:
    """One row of the source: the instance, and whether the plan takes it.

    status: `planned`, `dropped` or `crowd`; `reason` says why where it is not planned.
    """

    instance: Instance
    status: str = "planned"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image with all its rows. width and height in pixels as annotated, 0 where unknown.

    `file` is what `ImageFiles` takes: relative, so that a plan outlives a move of its images.
    """

    image_id: str
    file: str
    width: int
    height: int
    license: str
    instances: tuple[SourceInstance, ...]


class ImageFiles:
    """Reads the images of a source by the `file` of its rows."""

    def __init__(self, config: SourceConfig) -> None:
        """Raises ValueError where the folder of images is not there."""
        self._packaged = config.packaged
        self._world = config.world if config.generated else None
        if self._packaged or self._world:
            return
        if not config.images:
            raise ValueError("source.images is empty: name the folder that holds the images (--source.images)")
        try:
            self._fs, self._root = url_to_fs(config.images)
        except (ImportError, ValueError) as error:
            raise ValueError(f"source.images: cannot open {config.images}: {error}") from None
        if not self._fs.isdir(self._root):
            raise ValueError(f"source.images: there is no folder {config.images}")
        self._folder = config.images

    def read(self, file: str) -> bytes:
        """All bytes. Raises PhotoError (`image-missing`) where there is none; other OSErrors (a disk or
        network that fails) stay what they are, since a retry may mend them."""
        if self._world:
            return render(self._world, file)
        try:
            if self._packaged:
                return self._packaged_path(file).read_bytes()
            return bytes(self._fs.cat_file(f"{self._root}/{file}"))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise PhotoError("image-missing", f"{file} does not exist") from None

    def check(self, files: Sequence[str]) -> None:
        """Raises ValueError when none of these is there: the folder is another one than the annotations mean."""
        if self._world:
            return
        if self._packaged:
            for file in files:
                self._packaged_path(file)
        elif files and not any(self._fs.exists(f"{self._root}/{file}") for file in files):
            raise ValueError(
                f"source.images: none of the first {len(files)} images is in {self._folder} "
                f"(the first would be {files[0]}); is it the right folder?"
            )

    @staticmethod
    def _packaged_path(file: str) -> Path:
        place, _, sha256 = file.rpartition("#")
        package, _, path = place.partition("/")
        return packaged_file(package, path, sha256)
