"""Storage: a file is whole or absent, whatever goes wrong while it is written."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from sketchgen.storage import Storage


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path: Path) -> Storage:
    store = Storage(str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}")
    store.prepare()
    return store


def test_write_read_remove(storage: Storage) -> None:
    storage.write("a.txt", b"one")
    storage.write("deep/b.txt", b"two")
    assert storage.names() == ["a.txt"]
    assert storage.names("deep") == ["deep/b.txt"]
    assert storage.sizes("deep") == {"deep/b.txt": 3}
    assert storage.names("nowhere") == []
    assert storage.read("deep/b.txt") == b"two"
    storage.write("a.txt", b"three")
    assert storage.open("a.txt").read() == b"three"
    storage.remove("a.txt")
    storage.remove("a.txt")
    assert not storage.exists("a.txt")


def test_an_error_leaves_the_old_file(storage: Storage) -> None:
    storage.write("a.txt", b"old")
    with pytest.raises(RuntimeError), storage.replacing("a.txt") as path:
        path.write_bytes(b"half")
        raise RuntimeError
    assert storage.read("a.txt") == b"old"
    assert storage.names() == ["a.txt"]


def test_it_travels_by_its_url(storage: Storage) -> None:
    storage.write("a.txt", b"one")
    assert pickle.loads(pickle.dumps(storage)).read("a.txt") == b"one"


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, signal; from sketchgen.storage import Storage\n"
        f"with Storage({str(tmp_path)!r}).replacing('x.tar') as path:\n"
        "    path.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".tmp-")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / ".tmp-mine").touch()  # a folder of somebody else is none of our business
    Storage(str(tmp_path)).prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
    assert (tmp_path / "theirs" / ".tmp-mine").exists()


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write .*file/out.*--out"):
        Storage(str(tmp_path / "file" / "out")).prepare()
