"""`python -m tests.datasets DIR`: a small folder in the exact shape of every dataset, to try things out on."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from pipelines.exits import clean_exit
from tests.datasets.folders import write_all


def write(folder: Annotated[Path, tyro.conf.Positional], size: int = 1, seed: int = 0) -> None:
    """Write a small folder in the exact shape of every dataset. Nothing in them is real.

    The links of pixmo_count are file:// URLs, which readers refuse: but for those in its cache, its photos are gone.

    Args:
        folder: Where they are written; new or empty.
        size: So many times the photos and drawings.
        seed: Another seed, other photos and drawings.
    """
    console = Console(highlight=False)
    begun = time.monotonic()
    for place in write_all(folder, size, seed):
        files = [path for path in place.rglob("*") if path.is_file()]
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        seconds, begun = time.monotonic() - begun, time.monotonic()
        console.print(
            f"{place}: {len(files):,} files, {megabytes:.1f} MB, {seconds:.1f} s", markup=False, soft_wrap=True
        )


if __name__ == "__main__":
    with clean_exit("run the same command with an empty folder"):
        tyro.cli(write, prog="python -m tests.datasets")
    sys.exit(0)
