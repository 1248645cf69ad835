"""The shelf: shards that are ready to be read, fetched if they are remote, compared with their checksums, indexed.

It belongs to the main process; workers get a path and offsets. Shards are made ready in the background
before they are needed, and leave when others need the room and all that was taken from them is consumed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from sketchlm.shards import Entry, Shard, ShardError, broken, check_bytes, index_tar

FOLDER = "shards-"
"""Prefix of the folders of fetched shards in the cache, one for each running loader."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A shard that can be read: its local path, and where its samples lie."""

    path: Path
    entries: list[Entry]


class Shelf:
    """The ready shards of one part of a mixture; close it after use."""

    def __init__(self, shards: Sequence[Shard], room: int, verify: bool, cache: str) -> None:
        """room: shards kept at most, more only while samples of them are on their way.
        verify: compare the sha256 of each with its record, once. cache: parent of the folder for remote
        shards, "" = in the system's temporary folder.
        """
        self._shards = shards
        self._room = room
        self._verify = verify
        self._ready: dict[int, Future[Ready]] = {}  # least recently used first
        self._used: dict[int, int] = {}
        self._verified: set[int] = set()
        self._failed: dict[int, ShardError] = {}
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="shelf")
        self._folder: Path | None = None
        if any(_local(shard) is None for shard in shards):
            self._folder, lock = _own_folder(cache)
            self._remove = weakref.finalize(self, _remove, self._folder, lock, os.getpid())
        self.consumed = -1
        """Number of the last sample that was used up; set by the loader."""

    def prepare(self, shard: int, number: int) -> None:
        """Begin to make a shard ready: sample `number` of the order lies in it."""
        if shard in self._failed:
            return
        future = self._ready.pop(shard, None)
        if future is None:
            self._make_room()
            future = self._pool.submit(self._make, shard)
        self._ready[shard] = future
        self._used[shard] = number

    def take(self, shard: int, number: int) -> Ready:
        """The shard for sample `number`, waiting for it if need be; raises ShardError, the same each time."""
        if shard not in self._ready:
            self.prepare(shard, number)
        try:
            if shard in self._failed:
                raise self._failed[shard]
            ready = self._ready[shard].result()
        except ShardError as error:
            self._failed[shard] = error
            self._ready.pop(shard, None)
            raise error.with_traceback(None) from None  # kept for thousands of samples: not their frames too
        return ready

    def close(self) -> None:
        """Stop what is under way, and remove what was fetched."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ready.clear()
        if self._folder is not None:
            self._remove()

    def _make_room(self) -> None:
        for shard in [s for s in self._ready if self._used[s] <= self.consumed]:
            if len(self._ready) < self._room:
                return
            self._ready.pop(shard)
            if self._folder is not None:
                (self._folder / f"{shard}.tar").unlink(missing_ok=True)

    def _make(self, number: int) -> Ready:
        shard = self._shards[number]
        path = _local(shard) or self._fetch(number)
        if self._verify and (number not in self._verified or self._folder is not None):
            check_bytes(path, shard)
            self._verified.add(number)
        return Ready(path, index_tar(path, shard))

    def _fetch(self, number: int) -> Path:
        assert self._folder is not None
        shard, path = self._shards[number], self._folder / f"{number}.tar"
        temporary = path.with_suffix(".tmp")
        try:
            fs, source = url_to_fs(shard.url)
            fs.get_file(source, str(temporary))
        except Exception as error:  # each file system has its own
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ValueError(
                    f"no space left in {self._folder} for {shard.url} ({shard.record.tar_bytes} bytes; "
                    f"{self._room} shards a part are kept): give another cache, or a smaller window"
                ) from None
            raise broken(shard.url, f"cannot be fetched ({type(error).__name__}: {error})") from None
        return temporary.replace(path)


def _local(shard: Shard) -> Path | None:
    """The tar as a local path, None where it is remote."""
    fs, path = url_to_fs(shard.url)
    return Path(path) if isinstance(fs, LocalFileSystem) else None


def _own_folder(cache: str) -> tuple[Path, int]:
    """A new folder inside the cache and the handle that locks it; those of processes that died are removed."""
    parent = Path(cache).expanduser() if cache else Path(tempfile.gettempdir()) / f"sketchlm-{os.getuid()}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with (parent / ".lock").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)  # nobody takes a folder for dead before it is locked
            for folder in parent.glob(f"{FOLDER}*"):
                if (handle := _lock(folder)) is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(handle)
            own = Path(tempfile.mkdtemp(prefix=FOLDER, dir=parent))
            lock = _lock(own)
            assert lock is not None, f"{own} is new, and locked by somebody"
            return own, lock
    except OSError as error:
        raise ValueError(f"cannot keep remote shards in {parent}: {error}; give another cache") from None


def _lock(folder: Path) -> int | None:
    """A handle that holds the lock of a folder (as long as the process lives), None if another has it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _remove(folder: Path, lock: int, pid: int) -> None:
    """Remove the folder, unless this is a forked copy of the process that made it."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
