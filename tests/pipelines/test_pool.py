"""Jobs side by side: results as they come, and what is left when one fails or the run is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.experiments.pool import side_by_side, terminated_as_interrupted


def double(number: int) -> int:
    return 2 * number


def fail_or_note(job: tuple[int, str]) -> int:
    number, folder = job
    if number == 0:
        raise ValueError("the first is broken")
    time.sleep(1)
    (Path(folder) / str(number)).touch()
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.slow
def test_every_job_has_its_result() -> None:
    assert dict(side_by_side(double, [3, 1, 2], 2)) == {3: 6, 1: 2, 2: 4}
    assert list(side_by_side(double, [], 2)) == []


@pytest.mark.slow
def test_a_job_is_begun_when_the_one_before_it_is_done(tmp_path: Path) -> None:
    jobs = [
        (str(tmp_path / name), str(tmp_path / needs) if needs else "")
        for name, needs in (("a", ""), ("b", ""), ("c", "a"), ("d", "c"))
    ]
    done = list(side_by_side(make, jobs, 4, {2: 0, 3: 2}))
    assert {job for job, _ in done} == set(jobs) and all(fine for _, fine in done)


def make(job: tuple[str, str]) -> bool:
    place, needs = job
    there = not needs or Path(needs).exists()
    Path(place).touch()
    return there


@pytest.mark.slow
def test_what_fails_is_said_at_once_and_nothing_else_is_begun(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the first is broken"):
        list(side_by_side(fail_or_note, [(n, str(tmp_path)) for n in range(8)], 1))
    assert len(list(tmp_path.iterdir())) <= 1


@pytest.mark.slow
def test_a_process_that_dies_is_said_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="processes died.*--workers 1"):
        list(side_by_side(die, [1, 2], 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "work"),
    [(signal.SIGTERM, "wait"), (signal.SIGTERM, "saved"), (signal.SIGINT, "saved"), (signal.SIGKILL, "saved")],
)
def test_none_is_left_behind_and_none_begun(how: signal.Signals, work: str, tmp_path: Path) -> None:
    code = (
        f"import signal\nfrom tests.pipelines.test_pool import {work}\n"
        "from pipelines.experiments.pool import side_by_side\n"
        # where tests run in the background, the shell has SIGINT ignored
        "if __name__ == '__main__':\n    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"    list(side_by_side({work}, [f'{tmp_path}/{{n}}' for n in 'abcdef'], 2))\n"
    )
    script = tmp_path / "main.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": os.getcwd()})
    try:
        until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(how)
        parent.wait(30)
    finally:
        parent.kill()
    until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))
    assert {place.name[0] for place in tmp_path.iterdir() if place != script} == {"a", "b"}
    if work == "saved" and how == signal.SIGTERM:
        assert {place.name for place in tmp_path.glob("*.saved")} == {"a.saved", "b.saved"}


def saved(place: str) -> int:
    """As training does: a signal ends it, but what it has is written first."""
    with terminated_as_interrupted():
        try:
            return wait(place)
        except KeyboardInterrupt:
            Path(f"{place}.saved").touch()
            raise


def wait(place: str) -> int:
    Path(place).touch()
    time.sleep(600)
    return 0


def until(there: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not there():  # type: ignore[operator]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)
