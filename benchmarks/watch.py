"""The memory of a run over time: driver and workers, asked from outside."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from sketchgen.output import RECORD

MIB = 1024**2


@dataclass
class Curve:
    """Resident memory over one run, MiB. size: items of the run; done: of them in finished shards when it was asked."""

    size: int
    seconds: float = 0.0
    done: list[int] = field(default_factory=list)
    driver: list[float] = field(default_factory=list)
    workers: list[float] = field(default_factory=list)
    """The largest of them."""

    def growth(self, memory: list[float]) -> float:
        """MiB gained from the first tenth of the run to its last tenth (medians), start-up left out."""
        begun = [value for done, value in zip(self.done, memory, strict=True) if done > 0 and value == value]
        tenth = max(1, len(begun) // 10)
        return float(np.median(begun[-tenth:]) - np.median(begun[:tenth])) if begun else float("nan")


def watched(command: Sequence[str], out: Path, size: int, per_shard: int) -> Curve:
    """Run a command that makes shards in `out`, and ask its processes for their memory twice a second.

    size: items of the run; per_shard: of a shard. Raises RuntimeError where the command fails.
    """
    curve = Curve(size)
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        shards = sum(bool(RECORD.fullmatch(name)) for name in os.listdir(out)) if out.exists() else 0
        try:
            children = driver.children(recursive=True)
            actors = [child for child in children if "ray::_Actor" in child.name() + " ".join(child.cmdline())]
            resident = driver.memory_info().rss / MIB
        except psutil.Error:
            continue
        if not resident:  # it has just ended
            continue
        curve.driver.append(resident)
        curve.workers.append(max(map(_resident, actors), default=float("nan")))
        curve.done.append(min(size, shards * per_shard))
        time.sleep(0.5)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    curve.seconds = time.monotonic() - start
    return curve


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss / MIB)
    except psutil.Error:
        return 0.0
