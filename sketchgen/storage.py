"""The output folder: a local path or fsspec URL where a file is whole or absent."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sketchgen.store import WITHOUT_FOLDERS, is_local, open_url, protocols

TEMPORARY = ".tmp-"
"""Prefix of files that are being written; what still carries it belongs to a killed run."""
PREVIEWS = "previews"
"""The one folder inside it."""


class Storage:
    """Files of one output folder, by name. Cheap to pickle: workers open their own connection."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for a URL that no installed file system takes."""
        self.url = url
        self._fs, self._root = open_url(url, "the output folder")

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        return Storage, (self.url,)

    @property
    def local(self) -> Path | None:
        """The folder as a path, None where it is remote."""
        return Path(self._root) if is_local(self._fs) else None

    def make(self) -> None:
        """Make the folder; raises ValueError when it cannot be made or written to."""
        try:
            if WITHOUT_FOLDERS.isdisjoint(protocols(self._fs)):
                self._fs.makedirs(self._root, exist_ok=True)
            self.write(f"{TEMPORARY}probe", b"")
            self.remove(f"{TEMPORARY}probe")
        except OSError as error:
            raise ValueError(f"cannot write to the output folder {self.url}: {error}; choose another --out") from None

    def prepare(self) -> None:
        """Make the folder, and remove what a killed run left half-written (call under the lock only)."""
        self.make()
        self.tidy()

    def tidy(self) -> None:
        """Remove what killed workers left half-written (call under the lock only, while nobody writes)."""
        for folder in ("", PREVIEWS):
            for name in self.names(folder):
                if name.rpartition("/")[2].startswith(TEMPORARY):
                    self.remove(name)

    def names(self, folder: str = "") -> list[str]:
        """Names of the files that lie directly in a folder of it, relative to the top, sorted."""
        return sorted(self.sizes(folder))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """The same names with their sizes in bytes."""
        place = f"{self._root}/{folder}".rstrip("/")
        try:
            entries = self._fs.ls(place, detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        prefix = f"{folder}/" if folder else ""
        return {
            prefix + entry["name"].rstrip("/").rpartition("/")[2]: int(entry["size"] or 0)
            for entry in entries
            if entry["type"] == "file"
        }

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return bool(self._fs.exists(self._path(name)))

    def open(self, name: str) -> IO[Any]:
        """Open for reading, binary."""
        return self._fs.open(self._path(name), "rb")

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return bytes(self._fs.cat_file(self._path(name)))

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, atomically."""
        with self.replacing(name) as path:
            path.write_bytes(data)

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        if self.exists(name):
            self._fs.rm_file(self._path(name))

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """A local path to write to; on a clean exit it becomes `name` in one step, else it vanishes.

        Local: written beside its target, fsync, rename. Remote: written to a temporary folder, then put
        (object stores show an object only when it is complete).
        """
        target = self._path(name)
        if self.local is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / Path(name).name
                yield path
                self._fs.put_file(str(path), target)
            return
        parent = Path(target).parent
        parent.mkdir(parents=True, exist_ok=True)
        path = parent / f"{TEMPORARY}{os.getpid()}-{Path(target).name}"
        try:
            yield path
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            path.replace(target)
        finally:
            path.unlink(missing_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
