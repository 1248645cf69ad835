"""Rows on disk: an array whose first axis grows, as a `.npy` that any program can map into memory.

What counts is the number of rows that the gallery's record names. Rows behind it were being written when a build was
killed: they are cut off before the next ones are appended.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

REMEDY = "remove the gallery's folder and build it again"


def append_rows(path: Path, rows: NDArray[Any], done: int) -> None:
    """Put rows [N, ...] behind the first `done` of a file, and bring them to the disk; makes the file for done = 0.

    Raises ValueError for a file that holds fewer than `done` rows, or others.
    """
    assert len(rows), "there is nothing to append"
    if not done:
        with path.open("wb") as file:
            _write_head(file, rows.dtype, (0, *rows.shape[1:]))
    start = _start(path, rows.dtype, rows.shape[1:], done)
    with path.open("r+b") as file:
        file.truncate(start + done * rows[:1].nbytes)
        file.seek(0, os.SEEK_END)
        file.write(np.ascontiguousarray(rows).data)
        file.seek(0)
        _write_head(file, rows.dtype, (done + len(rows), *rows.shape[1:]))
        assert file.tell() == start, f"the header of {path} grew to {file.tell()} bytes"
        file.flush()
        os.fsync(file.fileno())


def open_rows(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], done: int) -> NDArray[Any]:
    """The first `done` rows of a file, mapped into memory [done, *shape]; nothing is read yet.

    Raises ValueError for a file that is missing, damaged, cut short or of other rows.
    """
    if not done:
        return np.zeros((0, *shape), dtype)
    start = _start(path, dtype, shape, done)
    return np.memmap(path, dtype, "r", start, (done, *shape))


def _write_head(file: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """NumPy leaves room in it for the first axis to grow."""
    npy.write_array_header_1_0(file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})


def _start(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], done: int) -> int:
    """Where the rows begin, bytes; checks the header and that `done` rows are there."""
    try:
        with path.open("rb") as file:
            version = npy.read_magic(file)
            seen, fortran, kind = npy.read_array_header_1_0(file) if version == (1, 0) else ((), True, dtype)
            start = file.tell()
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: {REMEDY}") from None
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise ValueError(f"{path} is no array that can be read ({error}): {REMEDY}") from None
    if fortran or kind != dtype or seen[1:] != shape:
        raise ValueError(f"{path} holds {kind} {seen}, {dtype} {(done, *shape)} is wanted: {REMEDY}")
    needed = start + done * dtype.itemsize * int(np.prod(shape))
    if size < needed:
        raise ValueError(f"{path} has {size} bytes, its {done} rows take {needed}: it was cut short; {REMEDY}")
    return start
