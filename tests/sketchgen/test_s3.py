"""Input and output in an object store: a real S3 server (moto) in a process of its own, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import s3fs

from sketchgen.run import run
from sketchgen.source import SourceConfig
from sketchgen.storage import Storage
from sketchgen.verify import verify
from tests.sketchgen.test_run import config, quiet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server with the empty buckets `input` and `output`; the environment points at it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    program = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(program, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",  # nobody asks the address where a cloud would tell credentials
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        patch.setenv(name, value)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        store = s3fs.S3FileSystem()
        store.mkdir("input")
        store.mkdir("output")
        yield url
    finally:
        patch.undo()
        process.kill()
        process.wait()


@pytest.fixture
def folder(server: str, coco_folder) -> tuple[str, str]:
    """The same twelve photos and their annotations, on S3."""
    annotations, images = coco_folder(12)
    store = s3fs.S3FileSystem()
    store.put(str(images) + "/", "input/images/", recursive=True)
    store.put(str(annotations), "input/instances.json")
    return "s3://input/instances.json", "s3://input/images"


def files(out: str) -> dict[str, bytes]:
    """What decides the training: shards, ledgers, records, plan."""
    storage = Storage(out)
    return {name: storage.read(name) for name in storage.names() if name.endswith((".tar", ".parquet", ".json"))}


def test_s3_gives_the_bytes_of_a_local_run_killed_or_not(folder: tuple[str, str], tmp_path: Path) -> None:
    local = config((tmp_path / "instances.json", tmp_path / "images"), tmp_path / "out")
    assert run(local, quiet()) == 0
    arguments = [
        "--source.annotations", folder[0], "--source.images", folder[1], "--segmenter.name", "annotation",
        "--sketcher.name", "none", "--draw.images-per-batch", "2", "--images-per-shard", "3", "--report.previews", "4",
        "--engine.name", "local", "--out", "s3://output/killed",
    ]  # fmt: skip
    command = [sys.executable, "-m", "pipelines.sketches", "coco", *arguments]
    storage = Storage("s3://output/killed")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    for _ in range(600):
        if "000001.json" in storage.names() or process.poll() is not None:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "000000.json" in storage.names()
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    ours, theirs = files("s3://output/killed"), files(str(tmp_path / "out"))
    assert set(ours) == set(theirs)
    assert {name for name in ours if ours[name] != theirs[name]} == {"run.json"}  # it names the places
    assert [found for _, found in verify(storage) if found] == []
    assert not [name for name in storage.names() if ".tmp-" in name]


def said(arguments: list[str], **environment: str | None) -> str:
    """What a command line says that must end with 2 and one line."""
    known = {key: value for key, value in (os.environ | environment).items() if value is not None}
    command = [sys.executable, "-m", "pipelines.sketches", "coco", "--engine.name", "local", "--sketcher.name", "none"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=known)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    return done.stderr


def test_what_is_wrong_with_a_store_is_said_in_one_line(folder: tuple[str, str]) -> None:
    source = ["--source.annotations", folder[0], "--source.images", folder[1]]
    text = said([*source, "--out", "s3://nosuch/run"])
    assert "cannot write to the output folder s3://nosuch/run: The specified bucket does not exist" in text
    assert not s3fs.S3FileSystem().exists("nosuch")  # a typing mistake makes no bucket
    text = said(
        ["--source.annotations", "s3://input/other.json", "--source.images", folder[1], "--out", "s3://output/x"]
    )
    assert "s3://input/other.json does not exist: source.annotations must name an annotation file" in text
    text = said(["--source.annotations", folder[0], "--source.images", "s3://input/other", "--out", "s3://output/x"])
    assert "source.images: there is no folder s3://input/other" in text
    text = said([*source, "--out", "s3://output/x"], AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert "s3://input/instances.json: Unable to locate credentials (NoCredentialsError)" in text
    with socket.socket() as dead:  # bound, but nobody listens
        dead.bind(("127.0.0.1", 0))
        text = said([*source, "--out", "s3://output/x"], AWS_ENDPOINT_URL=f"http://127.0.0.1:{dead.getsockname()[1]}")
    assert "s3://input/instances.json: Could not connect to the endpoint URL" in text


def test_a_photo_that_is_gone_is_a_row_and_its_shard_is_repaired(folder: tuple[str, str], tmp_path: Path) -> None:
    settings = config((tmp_path / "instances.json", tmp_path / "images"), tmp_path / "unused")
    source = SourceConfig("coco", annotations=folder[0], images=folder[1])
    settings = replace(settings, source=source, out="s3://output/r")
    store = s3fs.S3FileSystem()
    store.mv("input/images/0005.jpg", "input/aside.jpg")
    assert run(settings, quiet()) == 0
    before = files("s3://output/r")
    store.mv("input/aside.jpg", "input/images/0005.jpg")
    retry = [sys.executable, "-m", "pipelines.outputs", "retry", "s3://output/r", "--reason", "image-missing"]
    done = subprocess.run(retry, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 shards hold such rows: 000001" in done.stdout
    after = files("s3://output/r")
    assert {name for name in after if after[name] != before[name]} == {"000001.tar", "000001.parquet", "000001.json"}
