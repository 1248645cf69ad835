"""A real Ray cluster of two nodes (two raylets on this machine): used whole, and survived when one is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.chaos import hashes
from sketchgen.run import run
from sketchgen.segmenter import SegmenterConfig
from sketchgen.worker import DrawConfig
from tests.sketchgen.test_run import config, quiet

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[tuple[str, psutil.Process]]:
    """(address, raylet of the second node): a head and a node of one CPU each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ray-") as place:  # Ray's paths must be short
        environment = os.environ | QUIET
        node = ["--num-cpus=1", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000"]
        head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={place}"]
        try:
            subprocess.run([*RAY, "start", *head, *node], check=True, env=environment, stdout=subprocess.DEVNULL)
            before = {p.pid for p in raylets(place)}
            join = [*RAY, "start", f"--address=127.0.0.1:{port}", *node]
            subprocess.run(join, check=True, env=environment, stdout=subprocess.DEVNULL)
            (second,) = [p for p in raylets(place) if p.pid not in before]
            yield f"127.0.0.1:{port}", second
        finally:
            for process in psutil.process_iter(["cmdline"]):
                if place in " ".join(process.info["cmdline"] or []):
                    process.kill()


def raylets(place: str) -> list[psutil.Process]:
    """The raylets whose session lies in this folder."""
    found = psutil.process_iter(["name", "cmdline"])
    return [p for p in found if p.info["name"] == "raylet" and place in " ".join(p.info["cmdline"] or [])]


def start(folder: tuple[Path, Path], out: Path, address: str) -> subprocess.Popen[str]:
    flags = ["--source.annotations", str(folder[0]), "--source.images", str(folder[1]), "--out", str(out)]
    flags += ["--images-per-shard", "2", "--segmenter.name", "grabcut", "--sketcher.name", "none"]
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.sketches", "coco", *flags],
        env=os.environ | QUIET | {"RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def workers_of(raylet: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in raylet.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it may have ended since
            if "ray::_Actor" in process.name() + str(process.cmdline()):
                found.append(process)
    return found


def test_both_nodes_work_and_a_lost_one_costs_nothing(
    coco_folder, tmp_path: Path, cluster: tuple[str, psutil.Process]
) -> None:
    folder = coco_folder(60)
    other = {"images_per_shard": 2, "segmenter": SegmenterConfig("grabcut"), "draw": DrawConfig()}
    calm = config(folder, tmp_path / "calm", **other)
    assert run(calm, quiet()) == 0
    address, second = cluster
    driver = start(folder, tmp_path / "out", address)
    deadline = time.monotonic() + 120
    while not workers_of(second) or len(list((tmp_path / "out").glob("0*.json"))) < 4:
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline, "the second node got no work"
        time.sleep(0.05)
    second.send_signal(signal.SIGKILL)
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, said
    assert len(hashes(tmp_path / "calm")) == 60
    assert hashes(tmp_path / "out") == hashes(tmp_path / "calm")
