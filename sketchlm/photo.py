"""Photos as users bring them: all that `open_picture` takes, and URLs, to upright RGB."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_manifests.picture import MAX_MEGAPIXELS, PictureSource, open_picture

PhotoSource: TypeAlias = PictureSource
"""A path, a URL (http, https, s3, gs, ...), the bytes of a picture file, a picture or an array."""
MAX_BYTES = 64 << 20
"""Of a picture behind a URL."""
SCHEMES = ("http", "https", "s3", "gs")
"""Others that fsspec knows read local files, or run programs."""
SECONDS = 30
"""For a picture behind a URL to arrive."""


def as_photo(source: PhotoSource, max_megapixels: float = MAX_MEGAPIXELS, name: str = "") -> NDArray[np.uint8]:
    """[H, W, 3] uint8 RGB, upright (EXIF), its first frame, what is transparent on white.

    Raises ValueError for what is no picture or cannot be fetched, and for one of more than `max_megapixels`, before it
    is decoded; the message names a path or URL, or `name` (where the bytes came from, say).
    """
    named = os.fspath(source) if isinstance(source, (str, os.PathLike)) else name
    try:
        data = fetched(source) if isinstance(source, str) and "://" in source else source
        picture = open_picture(data, max_megapixels, "image")
    except ValueError as error:
        raise ValueError(f"{named}: {error}" if named and named not in str(error) else str(error)) from None
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture.convert("RGB"), np.uint8)


def fetched(url: str) -> bytes:
    """What lies behind a URL. Raises ValueError where nothing can be had, for more than MAX_BYTES, and for a scheme
    that is none of SCHEMES."""
    import fsspec

    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise ValueError(f"{url}: images are fetched by {', '.join(SCHEMES)}; give the path of a file that is here")
    options: dict[str, Any] = {}
    if scheme.startswith("http"):
        import aiohttp

        options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=SECONDS)}}
    try:
        store = fsspec.filesystem(scheme, **options)
        with store.open(f"{scheme}://{url.partition('://')[2]}", "rb") as file:
            data = bytes(file.read(MAX_BYTES + 1))
    except Exception as error:  # each store has its own
        raise ValueError(f"{url}: the image cannot be fetched ({type(error).__name__}: {error})"[:300]) from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"{url}: the image has more than {MAX_BYTES >> 20} MiB: fetch it yourself, and scale it down")
    return data
