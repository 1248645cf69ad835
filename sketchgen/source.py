"""Sources: where photos and their boxes come from. Readers yield one `SourceImage` after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_manifests.packaged import packaged_file
from data_manifests.schema import Split, source_manifest
from sketchgen.downloads import Downloads
from sketchgen.instance import Instance
from sketchgen.photo import PhotoError
from sketchgen.shapeworld import WorldConfig, render
from sketchgen.store import is_local, open_url


@dataclass(frozen=True)
class SourceConfig:
    """Which source, and where it lies."""

    name: str = "sample"
    """A manifest of data_manifests/sources (sample, coco, objects365, openimages; pixmo_count, vqav2 and sketchy, which
    know no boxes and can only be asked about), or `shapeworld` (generated)."""
    root: str = ""
    """Folder of the source, laid out as its manifest says: a local path or fsspec URL."""
    split: str = "train"
    """Which part of it: train, val, ..."""
    annotations: str = ""
    """Annotation file, where it is not the one that root and split mean."""
    images: str = ""
    """Folder of the images, where it is not the one that root and split mean."""
    label: str = ""
    """What the shards call it; empty = the name (and the split, unless that is train). Two sets that may meet in a
    mixture need two labels."""
    limit: int = 0
    """Only the first N images with an instance; 0 = all."""
    index: str = ""
    """Folder where indexes of sources are kept, local; empty = $XDG_CACHE_HOME/sketchgen."""
    world: WorldConfig = field(default_factory=WorldConfig)
    """Which scenes; used by `shapeworld` only."""

    @property
    def generated(self) -> bool:
        """Whether its images are drawn when they are read."""
        return self.name == "shapeworld"

    @property
    def packaged(self) -> bool:
        """Whether its images lie inside installed packages."""
        return not self.generated and source_manifest(self.name)[0].packaged

    @property
    def knows(self) -> str:
        """What it says of an image: see the manifest's field."""
        return "boxes" if self.generated else source_manifest(self.name)[0].knows

    @property
    def called(self) -> str:
        """What the shards call it."""
        plain = self.generated or self.packaged or self.split == "train"
        return self.label or (self.name if plain else f"{self.name}-{self.split}")


UNCOUNTED = frozenset({"crowd", "group", "depiction", "fake", "inside"})
"""Reasons of rows that are no plain object of their class (a box of many, a picture of one): whoever counts leaves
their class out."""
TWICE = "duplicate"
"""Reason of a row that says again what an earlier one said: no object of its own."""


@dataclass(frozen=True, slots=True)
class SourceInstance:
    """One row of the source; `reason` says why the plan leaves it out, "" where it is planned."""

    instance: Instance
    reason: str = ""

    @property
    def status(self) -> str:
        """`planned`, `dropped` or `crowd`."""
        return "crowd" if self.reason in UNCOUNTED else "dropped" if self.reason else "planned"


@dataclass(frozen=True, slots=True)
class SourceQuery:
    """A question that the source itself asks of an image, with the answer; what it does not ask keeps its sentinel.

    `category` is the class that a sketch has to show, "" for a question in words alone. `reason` says why it is not
    taken, "" where it is.
    """

    query_id: str
    task: str
    category: str = ""
    count: int = -1
    question: str = ""
    answers: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image with all its rows. width and height in pixels as annotated, 0 where unknown.

    `file` is what `ImageFiles` takes: relative, so that a plan outlives a move of its images. relative: boxes are
    shares of width and height, in [0, 1], not pixels.
    """

    image_id: str
    file: str
    width: int
    height: int
    license: str
    instances: tuple[SourceInstance, ...]
    relative: bool = False
    asked: tuple[SourceQuery, ...] = ()


def annotation_files(config: SourceConfig) -> tuple[str, str]:
    """URLs of the annotations and of the names of their classes ("" where they have none of their own): what `config`
    names, else what its manifest expects below `root`.

    Raises ValueError with what was expected and what was found.
    """
    manifest, path = source_manifest(config.name)
    split = manifest_split(config)
    if manifest.packaged:
        return config.annotations or str(path.parent / split.annotations[0]), ""
    if config.root:
        annotations = config.annotations or first_of(config, split.annotations, "the annotations")
        return annotations, first_of(config, split.classes, "the names of the classes") if split.classes else ""
    if config.annotations and not split.classes:
        return config.annotations, ""
    raise ValueError(
        f"source.root is empty: name the folder of {config.name} (--source.root DIR). {manifest.obtain.strip()}"
        if manifest.kind != "coco"
        else "source.annotations is empty: name the COCO json and the folder of its images, e.g. "
        "--source.annotations instances_val2017.json --source.images val2017, or the folder that holds all of "
        "COCO 2017: --source.root DIR"
    )


def image_folder(config: SourceConfig) -> str:
    """URL of the folder of images. Raises ValueError as `annotation_files`; looks at no annotations, which a worker may
    not reach."""
    if config.images or not config.root:
        if not config.images:
            raise ValueError("source.images is empty: name the folder that holds the images (--source.images)")
        return config.images
    return first_of(config, manifest_split(config).images, "the folder of the images")


def manifest_split(config: SourceConfig) -> Split:
    """Its split in the manifest. Raises ValueError for one that there is not."""
    splits = source_manifest(config.name)[0].splits
    if config.split not in splits:
        raise ValueError(f"{config.name} has no split {config.split!r} (--source.split), only {list(splits)}")
    return splits[config.split]


def first_of(config: SourceConfig, names: Sequence[str], what: str) -> str:
    """The first of these that is there below `root`, as a URL."""
    fs, root = open_url(config.root, "source.root")
    for name in names:
        if fs.exists(f"{root}/{name}"):
            return f"{config.root.rstrip('/')}/{name}"
    try:
        there = sorted(entry.rstrip("/").rpartition("/")[2] for entry in fs.ls(root, detail=False))
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"source.root: there is no folder {config.root}") from None
    found = ", ".join(there[:20]) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
    raise ValueError(
        f"{config.root} does not look like {config.name} ({config.split}): {what} should be {' or '.join(names)}; "
        f"found {found or 'nothing'}"
    )


class ImageFiles:
    """Reads the images of a source by the `file` of its rows."""

    def __init__(self, config: SourceConfig) -> None:
        """Raises ValueError where the folder of images is not there."""
        self._packaged = config.packaged
        self._world = config.world if config.generated else None
        self.downloads = _downloads(config)
        """Of a source whose photos are fetched from the web; else None."""
        if self._packaged or self._world or self.downloads:
            return
        self._folder = image_folder(config)
        self._fs, self._root = open_url(self._folder, "source.images")
        if not self._fs.isdir(self._root):
            raise ValueError(f"source.images: there is no folder {self._folder}")
        kind = source_manifest(config.name)[0].kind
        self._spell = SPELLINGS.get(kind, _plain)
        self._usual = 0

    def read(self, file: str) -> bytes:
        """All bytes. Raises PhotoError (`image-missing`) where there is none; other OSErrors (a disk or
        network that fails) stay what they are, since a retry may mend them."""
        if self._world:
            return render(self._world, file)
        if self.downloads:
            return self.downloads.read(*file.rsplit("#", 1))
        if self._packaged:
            try:
                return self._packaged_path(file).read_bytes()
            except FileNotFoundError:
                raise PhotoError("image-missing", f"{file} does not exist") from None
        places = self._spell(file)
        for number in sorted(range(len(places)), key=lambda n: n != self._usual):
            try:
                data = bytes(self._fs.cat_file(f"{self._root}/{places[number]}"))
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                continue
            self._usual = number  # the next one lies like this one, so that a remote store is asked once
            return data
        raise PhotoError("image-missing", f"{' nor '.join(places)} does not exist")

    def check(self, files: Sequence[str]) -> None:
        """Raises ValueError when none of these is there: the folder is another one than the annotations mean."""
        if self._world or self.downloads:
            return
        if self._packaged:
            for file in files:
                self._packaged_path(file)
        elif files and not any(self._fs.exists(f"{self._root}/{place}") for f in files for place in self._spell(f)):
            raise ValueError(
                f"source.images: none of the first {len(files)} images is in {self._folder} "
                f"(the first would be {' or '.join(self._spell(files[0]))}); is it the right folder?"
            )

    @staticmethod
    def _packaged_path(file: str) -> Path:
        place, _, sha256 = file.rpartition("#")
        package, _, path = place.partition("/")
        return packaged_file(package, path, sha256)


def _downloads(config: SourceConfig) -> Downloads | None:
    if config.generated or source_manifest(config.name)[0].kind != "pixmo_count":
        return None
    folder = config.images or f"{config.root.rstrip('/')}/{manifest_split(config).images[0]}"
    fs, path = open_url(folder, "source.images")
    if not is_local(fs):
        raise ValueError(f"source.images is {folder}: photos that are fetched are kept on a local disk")
    return Downloads(Path(path))


def _plain(file: str) -> list[str]:
    return [file]


def _patched(file: str) -> list[str]:
    """Where a photo of Objects365 may lie: `images/v1/patch8/x.jpg` of the annotations is `patch8/x.jpg` on disk."""
    parts = PurePosixPath(file).parts
    ways = ["/".join(parts[-2:]), parts[-1], file]
    return list(dict.fromkeys(ways))


def _renamed(file: str) -> list[str]:
    """What COCO 2017 calls a photo, and what COCO 2014 did."""
    return [file, f"COCO_train2014_{file}", f"COCO_val2014_{file}"]


SPELLINGS = {"objects365": _patched, "vqav2": _renamed}
"""By kind of source: where a photo may lie; elsewhere it lies where its row says."""
