"""Stores: local folders and object stores behind one interface (fsspec). Failures are OSErrors that name the URL."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
"""Which extra of ours installs the client of a protocol."""
WITHOUT_FOLDERS = frozenset({*EXTRAS, "abfs", "abfss", "az", "memory"})
"""Protocols of stores where a folder is but the start of a name: to make one would make its bucket, typing mistakes
included."""


def open_url(url: str, what: str) -> tuple[AbstractFileSystem, str]:
    """File system and path of a URL. Raises ValueError, naming `what` it is, for one that cannot be opened."""
    try:
        fs, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(url.partition("://")[0])
        remedy = f" (pip install 'sketchlm[{extra}]')" if extra and isinstance(error, ImportError) else ""
        raise ValueError(f"cannot open {what} {url}: {error}{remedy}") from None
    return (fs if is_local(fs) else cast(AbstractFileSystem, _Named(fs, url))), path


def is_local(fs: AbstractFileSystem) -> bool:
    """Whether its paths are those of this machine."""
    return "file" in protocols(fs)


def protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    """What its URLs may begin with."""
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


class _Named:
    """A remote file system. Each client has errors of its own (missing credentials, no network): they become OSErrors,
    with the URL; "there is no such file" stays what it is. Clients try again by themselves before they raise."""

    def __init__(self, fs: AbstractFileSystem, url: str) -> None:
        self._fs, self._url = fs, url

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._fs, name)
        return self._wrapped(value) if callable(value) else value

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError, FileExistsError):
                raise
            except Exception as error:
                kind = type(error) if isinstance(error, OSError) else OSError
                raise kind(f"{self._url}: {str(error) or 'no answer'} ({type(error).__name__})") from error

        return wrapper
