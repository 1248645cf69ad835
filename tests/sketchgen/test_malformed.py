"""What users have on disk and should not: each case ends as a row with its reason, or as one clear error."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sketchgen.config import RunConfig
from sketchgen.output import read_log
from sketchgen.plan import read_plan
from sketchgen.run import run
from sketchgen.source import SourceConfig
from sketchgen.storage import Storage
from sketchgen.verify import verify
from tests.datasets import objects365_row, openimages_row, write_objects365, write_openimages
from tests.sketchgen.test_run import config, hashes, ledger, quiet


@dataclass(frozen=True)
class Case:
    """A way to spoil a sound folder of two photos, and what is said: `row` is the reason of image 1's instance,
    `error` the text of the one error."""

    name: str
    spoil: Callable[[Path], Any]
    row: str = ""
    error: str = ""
    kind: str = "coco"


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the annotations as data."""

    def spoil(root: Path) -> None:
        path = root / "instances.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return spoil


def text(change: Callable[[bytes], bytes], name: str = "instances.json") -> Callable[[Path], None]:
    """Change a file as bytes."""

    def spoil(root: Path) -> None:
        (root / name).write_bytes(change((root / name).read_bytes()))

    return spoil


def photo(change: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Change photo 1."""
    return lambda root: change(root / "images" / "0001.jpg")


def set_row(**fields: Any) -> Callable[[Path], None]:
    return edit(lambda data: data["annotations"][0].update(fields))


def bomb(path: Path) -> None:
    """A PNG of 100,000 x 100,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def saved(path: Path, image: Image.Image, **options: Any) -> None:
    image.save(path, **{"format": "PNG"} | options)


BOXES = "oidv6-train-annotations-bbox.csv"
NAMES = "oidv7-class-descriptions-boxable.csv"
O365 = "zhiyuan_objv2_train.json"
CASES = [
    # annotation files in COCO form
    Case("empty", text(lambda b: b""), error="not valid JSON .*download complete"),
    Case("cut in the middle", text(lambda b: b[: len(b) // 2]), error="not valid JSON .*download complete"),
    Case("cut by one byte", text(lambda b: b[:-1]), error="not valid JSON"),
    Case("two files in one", text(lambda b: b + b), error="goes on after its end"),
    Case("a list", text(lambda b: b"[" + b + b"]"), error="not in COCO form: no list 'images'"),
    Case("a web page", text(lambda b: b"<!DOCTYPE html><title>404"), error="not valid JSON"),
    Case("a zip archive", text(lambda b: b"PK\x03\x04\xff\xfe\x00" * 99), error="JSON|decode|utf-8"),
    Case("UTF-16", text(lambda b: b.decode().encode("utf-16")), error="JSON|decode|utf-8"),
    Case("deeply nested", text(lambda b: b'{"a":' + b"[" * 100_000), error="nested too deep"),
    Case("a number of 5000 digits", text(lambda b: b'{"images": [' + b"9" * 5000 + b"]}"), error="not valid JSON"),
    Case("annotations missing", edit(lambda d: d.pop("annotations")), error="no list 'annotations'"),
    Case("annotations a dict", edit(lambda d: d.update(annotations={})), error="no list 'annotations'"),
    Case("images null", edit(lambda d: d.update(images=None)), error="no list 'images'"),
    Case("an image without id", edit(lambda d: d["images"][0].pop("id")), error="images must have id and file_name"),
    Case("an image id twice", edit(lambda d: d["images"].append(d["images"][0])), error="image id 1 appears twice"),
    Case("a row id twice", edit(lambda d: d["annotations"].append(d["annotations"][0])), error="id 101 appears twice"),
    Case("a row of no image", set_row(image_id=77), error=r"does not list .*first image_id: 77"),
    Case("a surrogate in a name", edit(lambda d: d["images"][0].update(file_name="\ud800")), error="must have id and"),
    Case(
        "a path that leads out", edit(lambda d: d["images"][0].update(file_name="../../etc/passwd")), error="leads out"
    ),
    Case("no annotation at all", edit(lambda d: d.update(annotations=[])), error="nothing to work on"),
    Case("crowds alone", edit(lambda d: [a.update(iscrowd=1) for a in d["annotations"]]), error="all left out.*crowd"),
    # rows
    Case("a box of three", set_row(bbox=[1, 2, 3]), row="box-invalid"),
    Case("a box of words", set_row(bbox=["a", "b", "c", "d"]), row="box-invalid"),
    Case("a box that is none", set_row(bbox=None), row="box-invalid"),
    Case("a box without size", set_row(bbox=[5, 5, 0, 9]), row="box-empty"),
    Case("a box of infinite size", set_row(bbox=[0, 0, 1e400, 9]), row="box-invalid"),
    Case("a box outside", set_row(bbox=[5000, 5, 50, 50]), row="box-outside"),
    Case("a class without a name", set_row(category_id=999), row="category-unknown"),
    Case("a polygon of words", set_row(segmentation=[["a"] * 6]), row="mask-empty"),
    Case("a polygon of 1e9", set_row(segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]), row="mask-empty"),
    Case("runs of another size", set_row(segmentation={"size": [9, 9], "counts": [81]}), row="mask-empty"),
    # photos
    Case("photo gone", photo(Path.unlink), row="image-missing"),
    Case("photo empty", photo(lambda p: p.write_bytes(b"")), row="image-unreadable"),
    Case("photo cut", photo(lambda p: p.write_bytes(p.read_bytes()[:2000])), row="image-unreadable"),
    Case("photo a web page", photo(lambda p: p.write_text("<html>gone")), row="image-unreadable"),
    Case("photo a folder", photo(to_folder), row="image-missing"),
    Case("photo a link to itself", photo(to_loop), error="[Ll]evels of symbolic links|loop"),
    Case("photo a bomb", photo(bomb), row="image-too-large"),
    Case("photo of another shape", photo(lambda p: saved(p, Image.new("RGB", (300, 30)))), row="image-size"),
    # Open Images
    Case("csv empty", text(lambda b: b"", BOXES), error="no table of boxes", kind="openimages"),
    Case("csv of one column", text(lambda b: b"a\n1\n", BOXES), error="has no column ImageID", kind="openimages"),
    Case("csv row too short", text(lambda b: b + b"0a,x\n", BOXES), error="Expected 21 columns", kind="openimages"),
    Case("csv binary", text(lambda b: os.urandom(4000), BOXES), error="table of boxes|no column", kind="openimages"),
    Case("classes empty", text(lambda b: b"", NAMES), error="holds no class", kind="openimages"),
    Case("classes not UTF-8", text(lambda b: b"\xff\xfe\xff", NAMES), error="utf-8|decode", kind="openimages"),
    Case("classes gone", lambda root: (root / NAMES).unlink(), error="names of the classes", kind="openimages"),
    # Objects365
    Case("json gone", lambda root: (root / O365).unlink(), error="zhiyuan_objv2_train.json", kind="objects365"),
    Case("json cut", text(lambda b: b[:-9], O365), error="not valid JSON", kind="objects365"),
    Case("photos gone", lambda root: (root / "train").rename(root / "else"), error="folder of", kind="objects365"),
]


@pytest.fixture
def root(tmp_path: Path, coco_folder) -> Path:
    """A folder that is a sound source of each kind."""
    coco_folder(2)
    write_openimages(tmp_path, [openimages_row("0a", (0.1, 0.1, 0.7, 0.7)), openimages_row("0b", (0.1, 0.1, 0.7, 0.7))])
    write_objects365(tmp_path, [objects365_row(1, 1, (30, 20, 80, 80))])
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_each_case_is_a_row_or_one_clear_error(root: Path, case: Case) -> None:
    case.spoil(root)
    settings = config((root / "instances.json", root / "images"), root / "out")
    if case.kind != "coco":
        settings = replace(settings, source=SourceConfig(case.kind, root=str(root)))
    try:
        failed = run(settings, quiet())
    except (ValueError, OSError) as error:
        assert case.error, f"an error where a row was expected: {error}"
        assert re.search(case.error, str(error)), error
        assert "\n" not in str(error)
        return
    if case.error:  # a shard that could not be made, said by name
        assert failed
        return
    reasons = {row.object_id: row.reason for row in ledger(root / "out")}
    left_out = read_plan(Storage(str(root / "out"))).left_out
    assert reasons.get("101", next(iter(left_out), "")) == case.row
    assert reasons["102"] == ""  # the other photo is drawn as ever


def test_there_are_forty_of_them() -> None:
    assert len(CASES) >= 40
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES)


def small_disk() -> None:
    """No file may grow beyond 3 kB: writing on gives an error like that of a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def command(
    out: Path | str, root: Path, first: Callable[[], None] | None = None, **environment: str
) -> tuple[int, str]:
    """Run the command line as a user does; returns its code and all that it says."""
    flags = ["--source.annotations", str(root / "instances.json"), "--source.images", str(root / "images")]
    flags += ["--segmenter.name", "annotation", "--sketcher.name", "none", "--engine.name", "local", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.sketches", "coco", *flags],
        capture_output=True, text=True, preexec_fn=first, env=os.environ | environment,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_full_disk_is_said_and_nothing_half_written_stays(root: Path) -> None:
    code, said = command(root / "out", root, small_disk, XDG_CACHE_HOME=str(root / "cache"))
    assert code != 0
    assert re.search(os.strerror(errno.EFBIG), said)
    assert "Traceback" not in said
    assert not [p for p in (root / "out").rglob("*") if p.suffix == ".tar"]


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="needs to become somebody else")
def test_a_folder_that_may_not_be_written_is_one_error(root: Path) -> None:
    calm = config((root / "instances.json", root / "images"), root / "calm")
    calm = replace(calm, source=replace(calm.source, index=str(root / "index")))
    assert run(calm, quiet()) == 0  # all that is imported late is there
    temporary = Path(tempfile.gettempdir())
    ours = (path for path in root.parents if temporary in path.parents)
    for path in (*root.rglob("*"), root, *ours):
        path.chmod(0o755)
    said = as_nobody(replace(calm, out=str(root / "out")))
    assert re.search(r"cannot write to the output folder .*Permission denied.*choose another --out", said)
    said = as_nobody(replace(calm, source=replace(calm.source, index=str(root / "other"))))
    assert re.search(r"cannot keep the index in .*Permission denied.*choose another --source\.index", said)


def as_nobody(settings: RunConfig) -> str:
    """What the run's ValueError says, in a process that may not write here (root may)."""
    context = multiprocessing.get_context("fork")
    found: Any = context.Queue()

    def attempt() -> None:
        os.setuid(65534)
        try:
            run(settings, quiet())
        except ValueError as error:
            found.put(str(error))

    process = context.Process(target=attempt)
    process.start()
    said: str = found.get(timeout=60)
    process.join()
    return said


@pytest.mark.slow
@pytest.mark.parametrize("url", ["gs://bucket/out", "what://ever"])  # s3 is installed: test_s3.py
def test_a_url_that_nothing_installed_takes_says_what_to_install(root: Path, url: str) -> None:
    code, said = command(url, root)
    assert code == 2
    assert re.search(r"error: cannot open the output folder .*(gcsfs|Protocol not known)", said.replace("\n", " "))


def test_a_clock_that_goes_back_loses_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a flat battery: all that an earlier run left lies in the future, and each look at the clock is earlier
    than the one before."""
    settings = replace(config((root / "instances.json", root / "images"), root / "out"), images_per_shard=1)
    assert run(settings, quiet()) == 0
    before = hashes(root / "out")
    (root / "out" / "000001.json").unlink()
    for path in (root, *root.rglob("*")):
        os.utime(path, (4e9, 4e9))
    clock = iter(range(1_000_000_000, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    assert run(settings, quiet()) == 0
    assert hashes(root / "out") == before
    assert all(entry["elapsed"] >= 0 for entry in read_log(Storage(settings.out)))
    assert [found for _, found in verify(Storage(settings.out)) if found] == []
