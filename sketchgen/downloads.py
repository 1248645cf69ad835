"""Photos that a source only links: fetched when they are read, checked against their sha256, and kept."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from sketchgen.photo import PhotoError

TIMEOUT = (10.0, 30.0)
"""Seconds to connect, and between two pieces of an answer."""
LONGEST = 120.0
"""Seconds for one photo, from a server that drips."""
UNREACHABLE = "image-unreachable"
RETRIES = 2
BACKOFF = 1.0
"""Seconds before the second of them; twice as long before each further one."""
BUSY = (429, 500, 502, 503, 504)
"""Answers after which the same is asked again, later."""
LARGEST = 64 * 1024**2
"""Bytes; an answer that is longer is not read to its end."""
PIECE = 256 * 1024
AGENT = "Mozilla/5.0 (compatible; sketchgen)"


class Downloads:
    """A folder of photos, each under its sha256. Several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._session = _session()

    def read(self, url: str, sha256: str) -> bytes:
        """The photo, from the folder or else from the web.

        Raises PhotoError: `image-gone` (the server says that there is none, or it is no address), `image-unreachable`
        (no server, or a busy one: gone for good, or to be had another time), `image-changed` (another picture than the
        one that was annotated), `image-too-large`.
        """
        if not re.fullmatch("[0-9a-f]{64}", sha256):  # it becomes the name of a file
            raise PhotoError("image-changed", f"{sha256!r:.80} is no sha256: nothing says which picture was annotated")
        path = self._folder / sha256
        try:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                return data  # else it is broken, and fetched again
        except FileNotFoundError:
            pass
        data = self._fetch(url)
        seen = hashlib.sha256(data).hexdigest()
        if seen != sha256:
            raise PhotoError("image-changed", f"{url} has sha256 {seen[:12]}..., annotated was {sha256[:12]}...")
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = path.with_name(f".{sha256}.{os.getpid()}.{threading.get_ident()}")
        begun.write_bytes(data)
        begun.replace(path)
        return data

    def _fetch(self, url: str) -> bytes:
        if not url.startswith(("http://", "https://")):  # a list from the web names no file of this machine
            raise PhotoError("image-gone", f"{url!r:.200} is no address of the web")
        begun = time.monotonic()
        try:
            with self._session.get(url, timeout=TIMEOUT, stream=True) as answer:
                if 400 <= answer.status_code < 500 and answer.status_code not in BUSY:
                    raise PhotoError("image-gone", f"{url}: {answer.status_code} {answer.reason}")
                answer.raise_for_status()
                data = bytearray()
                # what has come, however little: a piece that is waited for may never be whole
                while piece := answer.raw.read1(PIECE, decode_content=True):
                    data += piece
                    if time.monotonic() - begun > LONGEST:
                        raise PhotoError(UNREACHABLE, f"{url}: {len(data)} bytes in {LONGEST:.0f} s, and no end")
                    if len(data) > LARGEST:
                        raise PhotoError("image-too-large", f"{url} is longer than {LARGEST // 1024**2} MiB")
        except (requests.exceptions.InvalidURL, ValueError) as error:  # urllib3 raises ValueErrors on odd addresses
            raise PhotoError("image-gone", f"{url}: {error}"[:300]) from None
        except (requests.RequestException, HTTPError, OSError) as error:
            raise PhotoError(UNREACHABLE, f"{url}: {error}"[:300]) from None
        return bytes(data)


def _session() -> requests.Session:
    """Waits by itself where a server is busy, for no longer than we say: what servers ask for may be hours."""
    session = requests.Session()
    session.headers["User-Agent"] = AGENT
    retry = Retry(
        RETRIES, status_forcelist=BUSY, backoff_factor=BACKOFF, raise_on_status=False, respect_retry_after_header=False
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=32))
    return session
