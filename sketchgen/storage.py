"""The output folder: a local path or fsspec URL where a file is whole or absent."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.core import url_to_fs

TEMPORARY = ".tmp-"
"""Prefix of files that are being written; what still carries it belongs to a killed run."""


class Storage:
    """Files of one output folder, by name. Cheap to pickle: workers open their own connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs: fsspec.AbstractFileSystem
        self._fs, self._root = url_to_fs(url)

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        return Storage, (self.url,)

    @property
    def local(self) -> Path | None:
        """The folder as a path, None where it is remote."""
        protocol = self._fs.protocol
        return Path(self._root) if "file" in ([protocol] if isinstance(protocol, str) else protocol) else None

    def prepare(self) -> None:
        """Make the folder, and remove what a killed run left half-written (call under the lock only).

        Raises ValueError when it cannot be made or written to.
        """
        try:
            self._fs.makedirs(self._root, exist_ok=True)
            for name in self.names():
                if name.rpartition("/")[2].startswith(TEMPORARY):
                    self._fs.rm_file(self._path(name))
            self.write(f"{TEMPORARY}probe", b"")
            self._fs.rm_file(self._path(f"{TEMPORARY}probe"))
        except OSError as error:
            raise ValueError(f"cannot write to the output folder {self.url}: {error}; choose another --out") from None

    def names(self) -> list[str]:
        """Names of all files, relative to the folder, sorted."""
        start = len(self._root.rstrip("/")) + 1
        return sorted(path[start:] for path in self._fs.find(self._root))

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
