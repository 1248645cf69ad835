"""Photos of the web: fetched once, checked, kept; rotten links and hostile answers are told from each other."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sketchgen import downloads
from sketchgen.downloads import UNREACHABLE, Downloads
from sketchgen.photo import PhotoError

PHOTO = b"the bytes of a photo" * 100
SHA = hashlib.sha256(PHOTO).hexdigest()


class Web(ThreadingHTTPServer):
    """/ok, /busy-once, /busy, /gone, /other, /endless, /silent, /drip; counts what is asked for."""

    asked: Counter[str]


class Answers(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        kind = self.path.strip("/")
        if kind == "silent":
            return
        busy = kind == "busy" or (kind == "busy-once" and self.server.asked[self.path] == 1)
        self.send_response(503 if busy else 404 if kind == "gone" else 200)
        if busy:
            self.send_header("Retry-After", "3600")
        self.end_headers()
        if kind == "drip":
            self._drip()
            return
        if kind == "endless":
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                return
        self.wfile.write(b"another photo" if kind == "other" else PHOTO)

    def _drip(self) -> None:
        try:
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        except OSError:
            return

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web(("127.0.0.1", 0), Answers)
    server.asked = Counter()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def url(web: Web, kind: str) -> str:
    return f"http://127.0.0.1:{web.server_port}/{kind}"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT", (2.0, 0.5))
    monkeypatch.setattr(downloads, "BACKOFF", 0.01)
    monkeypatch.setattr(downloads, "LONGEST", 1.0)


def test_a_photo_is_fetched_once_and_kept(web: Web, tmp_path: Path) -> None:
    for _ in range(2):
        assert Downloads(tmp_path / "kept").read(url(web, "ok"), SHA) == PHOTO
    assert web.asked == {"/ok": 1}
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [SHA]


def test_a_kept_photo_needs_no_web(tmp_path: Path) -> None:
    (tmp_path / SHA).write_bytes(PHOTO)
    assert Downloads(tmp_path).read("http://127.0.0.1:9/nobody", SHA) == PHOTO


def test_a_kept_photo_that_is_broken_is_fetched_again(web: Web, tmp_path: Path) -> None:
    (tmp_path / SHA).write_bytes(PHOTO[:-1])
    assert Downloads(tmp_path).read(url(web, "ok"), SHA) == PHOTO
    assert (tmp_path / SHA).read_bytes() == PHOTO


def test_a_busy_server_is_asked_again_but_not_for_ever(web: Web, tmp_path: Path) -> None:
    assert Downloads(tmp_path).read(url(web, "busy-once"), SHA) == PHOTO
    with pytest.raises(PhotoError, match="503") as error:
        Downloads(tmp_path / "new").read(url(web, "busy"), SHA)
    assert error.value.reason == UNREACHABLE
    assert web.asked["/busy"] == 1 + downloads.RETRIES


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("gone", "image-gone"),
        ("other", "image-changed"),
        ("endless", "image-too-large"),
        ("silent", UNREACHABLE),
        ("drip", UNREACHABLE),
    ],
)
def test_what_is_not_the_photo_is_told_apart_and_not_kept(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    monkeypatch.setattr(downloads, "LARGEST", 1024**2)
    with pytest.raises(PhotoError) as error:
        Downloads(tmp_path).read(url(web, kind), SHA)
    assert error.value.reason == reason
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "address", ["file:///etc/hostname", "/etc/hostname", "ftp://127.0.0.1/x", "", "http://", "http://[::bad/x"]
)
def test_a_list_from_the_web_names_no_file_of_this_machine(tmp_path: Path, address: str) -> None:
    with pytest.raises(PhotoError) as error:
        Downloads(tmp_path).read(address, SHA)
    assert error.value.reason == "image-gone"


@pytest.mark.parametrize("sha256", ["", "../secret", SHA.upper(), SHA[:-1], f"{SHA}/x"])
def test_what_is_no_checksum_is_no_name_of_a_file(tmp_path: Path, sha256: str) -> None:
    (tmp_path / "secret").write_bytes(PHOTO)
    with pytest.raises(PhotoError, match="no sha256"):
        Downloads(tmp_path / "kept").read("http://127.0.0.1:9/", sha256)


def test_many_at_once(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "LONGEST", 30.0)  # sixteen threads on a busy machine take their time
    kept = Downloads(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: kept.read(url(web, "ok"), SHA), range(40)))
    assert set(found) == {PHOTO}
    assert [path.name for path in tmp_path.iterdir()] == [SHA]
