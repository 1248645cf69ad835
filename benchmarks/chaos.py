"""`make chaos`: a run whose workers, raylets and drivers are killed at random gives the bytes of one left alone.

python -m benchmarks.chaos                      20 kills over 2,000 instances and more
python -m benchmarks.chaos --kills 3 --scenes 60
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import tyro
from rich.console import Console

from sketchgen.output import RECORD, sha256_of
from sketchgen.storage import Storage
from sketchgen.verify import verify

ROLES = ("worker", "raylet", "driver")
HANG = 180.0
"""Seconds without a new record after which the run counts as stuck for good."""


@dataclass(frozen=True)
class Options:
    """How much is made, and how often it is disturbed."""

    kills: int = 20
    scenes: int = 340
    """Of shapeworld, some seven instances each."""
    images_per_shard: int = 4
    workers: int = 2
    seed: int = 0
    folder: str = ""
    """Where the outputs lie; empty = a temporary folder."""


@dataclass
class Outcome:
    """What happened. kills: by role; starts: of the driver."""

    kills: Counter[str]
    starts: int
    seconds: float
    problems: list[str]


def command(options: Options, out: Path, engine: str) -> list[str]:
    """The run, as a user would start it."""
    return [
        *(sys.executable, "-m", "pipelines.sketches", "shapeworld", "--out", str(out), "--engine.name", engine),
        *("--source.world.num-scenes", str(options.scenes), "--images-per-shard", str(options.images_per_shard)),
        *("--engine.workers", str(options.workers), "--report.previews", "0"),
    ]


def disturb(options: Options, out: Path) -> Outcome:
    """Run, kill, start again where the driver died, until all kills are done and the run ends by itself."""
    chance = random.Random(options.seed)
    kills: Counter[str] = Counter()
    starts, began, code = 0, time.monotonic(), 1
    while code != 0 or kills.total() < options.kills:
        if code == 0:  # it was faster than the killer: some of it has to be made once more
            for path in chance.sample(sorted(out.glob("0*.json")), options.scenes // options.images_per_shard // 3):
                path.unlink()
        starts += 1
        driver = subprocess.Popen(command(options, out, "ray"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before, role = _records(out), chance.choice(ROLES)
        while driver.poll() is None:
            if kills.total() < options.kills and _records(out) > before:
                time.sleep(chance.uniform(0, 2))
                if _kill(driver.pid, role, chance):
                    kills[role] += 1
                    before, role = _records(out), chance.choice(ROLES)  # something must get done between two kills
            _check_alive(out, driver)
            time.sleep(0.05)
        code = driver.returncode
    problems = [f"{p.file} {p.what}" for _, found in verify(Storage(str(out))) for p in found]
    return Outcome(kills, starts, time.monotonic() - began, problems)


_SEEN: dict[Path, tuple[int, float]] = {}


def _check_alive(out: Path, driver: subprocess.Popen[bytes]) -> None:
    """Raise where nothing was finished for so long that nothing will be."""
    done, (before, since) = _records(out), _SEEN.get(out, (-1, time.monotonic()))
    if done != before:
        _SEEN[out] = (done, time.monotonic())
    elif time.monotonic() - since > HANG:
        driver.kill()
        raise RuntimeError(f"no shard was finished for {HANG:g} s ({done} are)")


def _records(out: Path) -> int:
    return sum(bool(RECORD.fullmatch(path.name)) for path in out.glob("*.json"))


def _kill(driver: int, role: str, chance: random.Random) -> bool:
    """SIGKILL one process of that role; False where there is none now."""
    names = {"worker": "ray::_Actor", "raylet": "raylet/raylet"}
    try:
        found = [psutil.Process(driver)]
        if role != "driver":
            found = [p for p in found[0].children(recursive=True) if names[role] in " ".join(p.cmdline()[:1])]
        if not found:
            return False
        chance.choice(sorted(found, key=lambda p: p.pid)).send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True


def hashes(out: Path) -> dict[str, str]:
    """sha256 of every tar and ledger."""
    return {path.name: sha256_of(path) for pattern in ("*.tar", "0*.parquet") for path in sorted(out.glob(pattern))}


def chaos(options: Options, folder: Path) -> Outcome:
    """Both runs; `problems` holds what differs between them as well."""
    subprocess.run(command(options, folder / "calm", "local"), check=True, stdout=subprocess.DEVNULL)
    outcome = disturb(options, folder / "storm")
    calm, storm = hashes(folder / "calm"), hashes(folder / "storm")
    outcome.problems += [f"{n} differs" for n in sorted(calm.keys() | storm.keys()) if calm.get(n) != storm.get(n)]
    return outcome


def main() -> None:
    """Run it, say how it went, and exit with 1 where a byte differs."""
    options = tyro.cli(Options, description=__doc__)
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as place, console.status("in the storm"):
        outcome = chaos(options, Path(options.folder or place))
    killed = ", ".join(f"{outcome.kills[role]} {role}s" for role in ROLES)
    console.print(f"killed {killed}; the driver was started {outcome.starts} times, {outcome.seconds:.0f} s")
    for problem in outcome.problems:
        console.print(f"[red]{problem}[/]")
    console.print("every byte is as in the calm run" if not outcome.problems else f"{len(outcome.problems)} problems")
    sys.exit(bool(outcome.problems))


if __name__ == "__main__":
    main()
