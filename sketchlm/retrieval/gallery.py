"""Galleries: many photos, each of which the tower has looked at once.

    gallery.json            what made it and how many rows count; written anew, whole, after each block
    photos.jsonl            an `Event` a line: a photo is kept in a row, a duplicate, broken, gone; the last one holds
    features.npy            the tower's features [R, T, D] float16, one row a photo (left out on request)
    embeddings-ID.npy       what the coarse search compares [R, d] float32, by the fingerprint of what made it

What stands in a file behind what `gallery.json` counts did not happen: a build that was killed goes on behind the last
whole block. The tower's features belong to no connector and no adapter: models on one frozen tower share a gallery.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_manifests.picture import MAX_MEGAPIXELS
from sketchlm.photo import as_photo
from sketchlm.retrieval.catalogue import ABSENT, Catalogue, Event, from_line, to_line
from sketchlm.retrieval.embedding import Embedding, embedded
from sketchlm.retrieval.files import FileState, PhotoFiles, digest, find_photos, read_bytes, state_of
from sketchlm.retrieval.rows import append_rows, open_rows
from sketchlm.retrieval.scorer import Scorer

VERSION = 1
RECORD, EVENTS, FEATURES = "gallery.json", "photos.jsonl", "features.npy"
BLOCK = 64
"""Photos that are decoded, seen and written together: a kill costs at most the work on so many."""
THREADS = 4
"""Threads that read and decode."""
REMEDY = "build it in another folder, or remove this one and build it again"


@dataclass(frozen=True)
class GalleryRecord:
    """What `gallery.json` says."""

    tower: str
    """Fingerprint of the tower, and of the way from a file to its pixels."""
    keeps_features: bool
    version: int = VERSION
    rows: int = 0
    """Rows that count."""
    events: int = 0
    """Bytes of `photos.jsonl` that count."""
    shape: tuple[int, int] = (0, 0)
    """Tokens and width of a photo's features."""
    embeddings: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Rows that count, and numbers a row, by the fingerprint of what made them."""


@dataclass(frozen=True)
class Gallery:
    """Photos that can be searched: G of them, in R rows (the others belong to photos that have gone, have changed or
    were not asked for)."""

    names: tuple[str, ...]
    """Of each photo [G], in the order in which they came."""
    rows: NDArray[np.int64]
    """Row of each photo [G]."""
    embeddings: NDArray[np.float32] = field(repr=False)
    """[R, d], mapped into memory where it lies on disk."""
    features: NDArray[np.float16] | None = field(repr=False)
    """[R, T, D], mapped likewise; None where they were not kept."""
    duplicates: dict[str, str]
    """Names of files with the same bytes as a photo, and that photo's."""
    broken: dict[str, str]
    """Names of what could not be read, and why."""
    tower: str
    embedding: str
    """Fingerprints of what made features and embeddings."""
    states: tuple[FileState, ...] = field(default=(), repr=False)
    """Of each photo's file when it was read; empty for arrays."""
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Photos by name, as they were given, where they are no files."""

    def __len__(self) -> int:
        return len(self.names)

    def features_of(self, places: NDArray[np.int64], scorer: Scorer) -> Tensor:
        """The tower's features [N, T, D] of photos by their places in `names`, from their files where none are kept.

        Raises ValueError for a file that is gone or has changed since.
        """
        if self.features is not None:
            return torch.from_numpy(self.features[self.rows[places]])
        with ThreadPoolExecutor(THREADS) as pool:
            pixels = list(pool.map(lambda place: self._pixels(int(place), scorer), places))
        return scorer.features(np.stack(pixels))

    def changed(self) -> list[str]:
        """Names of photos whose files are gone, or have changed since they were read: build the gallery again."""
        return [name for name, state in zip(self.names, self.states, strict=False) if state_of(name) != state]

    def _pixels(self, place: int, scorer: Scorer) -> NDArray[np.uint8]:
        name = self.names[place]
        if state_of(name) != self.states[place]:
            raise ValueError(f"{name} has changed since the gallery was built: build the gallery again, in its folder")
        try:
            return scorer.processor.pixels(as_photo(read_bytes(name), math.inf))  # its size was let in once
        except ValueError as error:
            raise ValueError(f"{name}: {error}: build the gallery again, in its folder") from None


def gallery_of(photos: Iterable[tuple[str, NDArray[np.uint8]]], scorer: Scorer, embedding: Embedding) -> Gallery:
    """A gallery in memory, of ids and arrays [H, W, 3] uint8 RGB of any size; each is let go when it was looked at.

    Raises ValueError for an empty one, and names what is no photo.
    """
    catalogue = Catalogue()
    pixels: list[NDArray[np.uint8]] = []
    for name, rgb in photos:
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
            raise ValueError(f"photo {name!r} is {rgb.dtype} {rgb.shape}: give uint8 [H, W, 3], RGB")
        (event,) = catalogue.take(Event(name, "kept", sha256=digest(rgb)), len(pixels))
        if event.status == "kept":
            pixels.append(scorer.processor.pixels(rgb))
    if not pixels:
        raise ValueError("the gallery is empty: give one photo at least")
    features = as_half(scorer.features(np.stack(pixels)))
    found = _gallery(catalogue, embedded(embedding, features), features, scorer.tower, embedding.fingerprint)
    return replace(found, states=())


def build_gallery(
    folder: str | os.PathLike[str],
    photos: PhotoFiles,
    scorer: Scorer,
    embedding: Embedding,
    keep_features: bool = True,
    max_megapixels: float = MAX_MEGAPIXELS,
    seen: Callable[[int, int], None] = lambda done, of: None,
) -> Gallery:
    """Make the gallery of a folder, or bring it up to date: only what is new or has changed is looked at.

    The gallery holds `photos` alone. What the folder keeps of others, of an earlier build, stays there for when they
    are asked for again, unless their files are gone; `open_gallery` has them all. A build that was killed goes on where
    it was.
    keep_features: False keeps the embeddings alone (LLaVA-7B's features of 100,000 photos are 118 GB); what a search
    looks at more closely is then read from its file again. seen: told how many of how many files are done.
    Raises ValueError for another model's gallery, one that is damaged or that another process builds, and where no
    photo at all could be read.
    """
    root, paths = Path(folder), find_photos(photos)
    with _claimed(root):
        try:
            _Build(root, scorer, embedding, keep_features).bring_up_to_date(paths, max_megapixels, seen)
        except OSError as error:
            raise ValueError(f"cannot write the gallery in {root}: {error}; make room, and build it again") from None
    gallery = _opened(root, scorer, embedding, set(paths))
    if not len(gallery):
        named = "; ".join(f"{name} {reason}" for name, reason in list(gallery.broken.items())[:3])
        raise ValueError(f"the gallery is empty: none of {len(paths)} files could be read ({named}); give photos")
    return gallery


def open_gallery(folder: str | os.PathLike[str], scorer: Scorer, embedding: Embedding) -> Gallery:
    """All of a gallery that was built, for the model that it was built with; no photo is read.

    Embeddings that it lacks are made from its features, in memory (building makes them on disk).
    Raises ValueError where there is none, where it is damaged, and for another model.
    """
    return _opened(Path(folder), scorer, embedding)


def _opened(root: Path, scorer: Scorer, embedding: Embedding, names: Container[str] | None = None) -> Gallery:
    """What lies on disk, of some names or all."""
    record = read_record(root)
    _check_tower(root, record, scorer)
    features = None
    if record.keeps_features:
        features = open_rows(root / FEATURES, np.dtype(np.float16), record.shape, record.rows)
    embeddings = _stored(root, record, embedding)
    if len(embeddings) < record.rows:
        embeddings = np.concatenate([embeddings, _remaining(root, record, embedding, features)])
    catalogue = _read_catalogue(root, record)
    if names is not None:
        catalogue = catalogue.among(names)
    return _gallery(catalogue, embeddings, features, record.tower, embedding.fingerprint)


def as_half(features: Tensor) -> NDArray[np.float16]:
    """Features as a gallery keeps them. Raises ValueError where half precision cannot hold them."""
    half = features.to(torch.float16).cpu()
    if not bool(torch.isfinite(half).all()):
        raise ValueError(
            "the tower's features are not finite in half precision (65504 at most): load the bundle again, its weights "
            "seem to be damaged"
        )
    return half.numpy()


def _gallery(
    catalogue: Catalogue,
    embeddings: NDArray[np.float32],
    features: NDArray[np.float16] | None,
    tower: str,
    embedding: str,
) -> Gallery:
    kept = catalogue.kept()
    return Gallery(
        names=tuple(event.name for event in kept),
        rows=np.array([event.row for event in kept], np.int64),
        embeddings=embeddings,
        features=features,
        duplicates=catalogue.duplicates(),
        broken=catalogue.broken(),
        tower=tower,
        embedding=embedding,
        states=tuple(event.state for event in kept),
    )


# --- what lies on disk


def read_record(root: Path) -> GalleryRecord:
    """`gallery.json`, checked; raises ValueError where there is none, or it is damaged."""
    path = root / RECORD
    try:
        fields = json.loads(path.read_text())
        if fields["version"] != VERSION:
            raise ValueError(f"its version is {fields['version']!r}, this sketchlm reads {VERSION}")
        fields["shape"] = tuple(fields["shape"])
        fields["embeddings"] = {name: tuple(numbers) for name, numbers in fields["embeddings"].items()}
        record = GalleryRecord(**fields)
        numbers = [record.rows, record.events, *record.shape, *sum(record.embeddings.values(), ())]
        if len(record.shape) != 2 or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"its numbers {numbers} make no sense")
        return record
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"there is no gallery in {root} ({RECORD} is missing): build it first") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {error}): {REMEDY}") from None


def _write_record(root: Path, record: GalleryRecord) -> None:
    begun = root / f".tmp-{RECORD}"
    with begun.open("w") as file:
        json.dump(asdict(record), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    begun.replace(root / RECORD)


def _check_tower(root: Path, record: GalleryRecord, scorer: Scorer) -> None:
    if record.tower != scorer.tower:
        raise ValueError(
            f"gallery {root} was built with another model: its tower is {record.tower}, this one's {scorer.tower}; "
            f"open it with the model that built it, or {REMEDY}"
        )


def _read_catalogue(root: Path, record: GalleryRecord) -> Catalogue:
    path = root / EVENTS
    if not record.events:
        return Catalogue()
    try:
        with path.open("rb") as file:
            data = file.read(record.events)
        if len(data) < record.events:
            raise ValueError(f"it has {len(data)} bytes, {record.events} count")
        events = [from_line(line) for line in data.splitlines()]
        if any(not -1 <= event.row < record.rows for event in events):
            raise ValueError(f"it names rows that are not among the {record.rows}")
        return Catalogue(events)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): {REMEDY}") from None


def _embeddings_file(root: Path, embedding: Embedding) -> Path:
    return root / f"embeddings-{embedding.fingerprint}.npy"


def _stored(root: Path, record: GalleryRecord, embedding: Embedding) -> NDArray[np.float32]:
    """The embeddings that lie there, mapped into memory [r, d]: of all rows, or of the first ones, or of none."""
    rows, dim = record.embeddings.get(embedding.fingerprint, (0, embedding.dim))
    return open_rows(_embeddings_file(root, embedding), np.dtype(np.float32), (dim,), rows)


def _remaining(
    root: Path, record: GalleryRecord, embedding: Embedding, features: NDArray[np.float16] | None
) -> NDArray[np.float32]:
    """Those that do not. Raises ValueError where there are no features to make them of."""
    if features is None:
        made = ", ".join(record.embeddings) or "nothing"
        raise ValueError(
            f"gallery {root} holds embeddings made by {made}, this search compares those of {embedding.fingerprint}, "
            f"and no features were kept to make them of: search with the embedding that built it, or {REMEDY}"
        )
    return embedded(embedding, features[record.embeddings.get(embedding.fingerprint, (0, 0))[0] :])


@contextmanager
def _claimed(root: Path) -> Iterator[None]:
    """Make a folder, and keep other builds out of it. Raises ValueError where it cannot be, or one is in it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / ".lock").open("w")
    except OSError as error:
        raise ValueError(f"cannot build a gallery in {root}: {error}; choose another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process builds the gallery in {root}: wait for it, or choose another") from None
        except OSError:  # a file system without locks
            pass
        yield


# --- building


class _Build:
    """A gallery that is being built."""

    def __init__(self, root: Path, scorer: Scorer, embedding: Embedding, keep_features: bool) -> None:
        """Raises ValueError for a folder that holds another model's gallery, or one with other settings."""
        self._root, self._scorer, self._embedding = root, scorer, embedding
        if not (root / RECORD).exists():
            if left := [name for name in (EVENTS, FEATURES) if (root / name).exists()]:
                raise ValueError(f"{root} holds {left[0]} and no {RECORD}: {REMEDY}")
            _write_record(root, GalleryRecord(scorer.tower, keep_features))
        self._record = read_record(root)
        _check_tower(root, self._record, scorer)
        if self._record.keeps_features != keep_features:
            keeps = "keeps" if self._record.keeps_features else "does not keep"
            raise ValueError(f"gallery {root} {keeps} features, keep_features is {keep_features}: {REMEDY}")
        self._catalogue = _read_catalogue(root, self._record)
        self._complete_embeddings()

    def bring_up_to_date(self, paths: Sequence[str], max_megapixels: float, seen: Callable[[int, int], None]) -> None:
        """Look at what is new or has changed, block by block, and forget what is gone."""
        given = set(paths)
        asked = [*(name for name in self._catalogue.names() if name not in given and state_of(name) is None), *paths]
        wanted = [name for name in asked if not self._catalogue.is_known(name, state_of(name) or ABSENT)]
        done = len(given) - sum(name in given for name in wanted)
        blocks = [wanted[start : start + BLOCK] for start in range(0, len(wanted), BLOCK)]
        seen(done, len(given))
        with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
            warnings.filterwarnings("ignore", module="PIL")  # of flaws that it can read past

            def begin(block: Sequence[str]) -> list[Future[_Look]]:
                return [pool.submit(_look, name, name in given, self._scorer, max_megapixels) for name in block]

            ahead = begin(blocks[0]) if blocks else []
            for number, block in enumerate(blocks):
                looks = [future.result() for future in ahead]
                ahead = begin(blocks[number + 1]) if number + 1 < len(blocks) else []  # decoded while the tower works
                self._take(looks)
                done += sum(name in given for name in block)
                seen(done, len(given))

    def _take(self, looks: Sequence[_Look]) -> None:
        """Bring a block to the disk; the record comes last."""
        came: list[Event] = []
        pixels: list[NDArray[np.uint8]] = []
        for look in looks:
            free = self._record.rows + len(pixels)
            events = self._catalogue.take(look.event, free)
            if events[-1].row == free and events[-1].status == "kept":
                assert look.pixels is not None, f"{look.event.name} has no pixels"
                pixels.append(look.pixels)
            came += events
        record = self._with_rows(pixels) if pixels else self._record
        text = "".join(map(to_line, came)).encode()
        _append_text(self._root / EVENTS, text, record.events)
        self._record = replace(record, events=record.events + len(text))
        _write_record(self._root, self._record)

    def _with_rows(self, pixels: Sequence[NDArray[np.uint8]]) -> GalleryRecord:
        """The record once features and embeddings of new photos are written."""
        record, features = self._record, as_half(self._scorer.features(np.stack(pixels)))
        if record.keeps_features:
            append_rows(self._root / FEATURES, features, record.rows)
        embeddings = embedded(self._embedding, features)
        append_rows(_embeddings_file(self._root, self._embedding), embeddings, record.rows)
        rows = record.rows + len(pixels)
        made = record.embeddings | {self._embedding.fingerprint: (rows, embeddings.shape[1])}
        return replace(record, rows=rows, shape=features.shape[1:], embeddings=made)

    def _complete_embeddings(self) -> None:
        """Those of another kind than an earlier build made, for the rows that are there."""
        record = self._record
        done, dim = record.embeddings.get(self._embedding.fingerprint, (0, self._embedding.dim))
        if done == record.rows:
            return
        features = None
        if record.keeps_features:
            features = open_rows(self._root / FEATURES, np.dtype(np.float16), record.shape, record.rows)
        missing = _remaining(self._root, record, self._embedding, features)
        append_rows(_embeddings_file(self._root, self._embedding), missing, done)
        made = record.embeddings | {self._embedding.fingerprint: (record.rows, dim)}
        self._record = replace(record, embeddings=made)
        _write_record(self._root, self._record)


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at a file gave: pixels [3, S, S] where it is a photo."""

    event: Event
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False)


def _look(name: str, is_given: bool, scorer: Scorer, max_megapixels: float) -> _Look:
    """In a thread, at one file. is_given: whether it was asked for, so that it is missed where it is gone."""
    state = state_of(name)
    if state is None:
        return _Look(Event(name, "broken", reason="is not there") if is_given else Event(name, "gone"))
    try:
        data = read_bytes(name)
        pixels = scorer.processor.pixels(as_photo(data, max_megapixels))
    except ValueError as error:
        return _Look(Event(name, "broken", state=state, reason=str(error)))
    return _Look(Event(name, "kept", sha256=digest(data), state=state), pixels)


def _append_text(path: Path, text: bytes, done: int) -> None:
    """Put text behind the first `done` bytes of a file, and bring it to the disk."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(done)
        file.seek(0, os.SEEK_END)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
