"""Pictures as users bring them: paths, bytes, pictures and arrays, upright and eight bits deep."""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

PictureSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]
"""A path, the bytes of a picture file, a picture or an array."""
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
"""What sketches and photos come in: Pillow knows dozens more, and some run other programs on the file."""
MAX_MEGAPIXELS = 64.0
"""A picture that claims more is refused before it is decoded."""
warnings.filterwarnings(
    "ignore", category=Image.DecompressionBombWarning
)  # Pillow's own limit is lower than ours; once,
# for what is set around a call is set for all threads


def open_picture(
    source: PictureSource | object, max_megapixels: float = MAX_MEGAPIXELS, what: str = "picture"
) -> Image.Image:
    """A picture upright (EXIF), its first frame, of mode L, RGB or, where something may be transparent, RGBA.

    Arrays are [H, W], [H, W, 3] or [H, W, 4] of uint8, uint16, bool (True is white) or floats from 0 to 1.
    what: how errors call it.
    Raises ValueError for what is no picture, and for one of more than `max_megapixels`, before it is decoded.
    """
    if isinstance(source, np.ndarray):
        _check_size(source.shape[1::-1], max_megapixels, what)
        return _of_array(source, what)
    try:
        with _opened(source, what) as image:
            _check_size(image.size, max_megapixels, what)
            return _eight_bit(ImageOps.exif_transpose(image), what)
    except (MemoryError, _UnfitError):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, above which it does not even tell the size
        raise ValueError(f"{error}: scale the {what} down") from None
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        words = re.sub(r"\s*<_io\.BytesIO[^>]*>", "", str(error))  # where bytes lie in memory
        seen = f"{type(error).__name__}: {words}"[:200]
        raise ValueError(f"the {what} cannot be read ({seen}): give one of {', '.join(FORMATS)}") from None


class _UnfitError(ValueError):
    """A picture that we refuse, not Pillow."""


def _check_size(size: tuple[int, ...], max_megapixels: float, what: str) -> None:
    megapixels = size[0] * size[1] / 1e6 if len(size) == 2 else 0.0
    if megapixels > max_megapixels:
        raise _UnfitError(
            f"the {what} is {size[0]}x{size[1]}, {megapixels:.0f} megapixels; the limit is {max_megapixels:g}: "
            "scale it down"
        )


def _opened(source: PictureSource | object, what: str) -> AbstractContextManager[Image.Image]:
    """The picture, not decoded yet; closes what was opened here."""
    if isinstance(source, Image.Image):
        return contextlib.nullcontext(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Image.open(io.BytesIO(source), formats=FORMATS)
    if not isinstance(source, (str, os.PathLike)):
        raise _UnfitError(
            f"{_a(what)} cannot be a {type(source).__name__}: give a path, the bytes of a file, a PIL picture "
            "or a numpy array" + (", or a list of strokes" if what == "sketch" else "")
        )
    path = Path(source)
    if not path.is_file():
        raise _UnfitError(f"there is no file {os.fspath(path).encode(errors='backslashreplace').decode()}")
    return Image.open(path, formats=FORMATS)


def _of_array(array: NDArray[Any], what: str) -> Image.Image:
    """A picture of mode L, RGB or RGBA. Raises ValueError for shapes, types and values that are none."""
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise ValueError(
            f"an array of shape {array.shape} is no {what}: give [H, W], [H, W, 3] or [H, W, 4]"
            + (", and strokes as a list, [n, 2] or [n, 3]" if what == "sketch" else "")
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = _scaled(array, what)
    elif np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # also where one is not a number
            raise ValueError(f"{_a(what)} of floats holds {low:g} to {high:g}: scale it to 0 (black) to 1 (white)")
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(
            f"{_a(what)} of {array.dtype} is not known: give uint8 (0 to 255), bool or floats (0 to 1)"
            + ("; strokes [n, 3] hold offsets and a pen state of 0 or 1" if what == "sketch" else "")
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _eight_bit(image: Image.Image, what: str) -> Image.Image:
    """The first frame of mode L, RGB or, where something may be transparent, RGBA."""
    if image.mode.startswith(("I", "F")):  # 16 and 32 bit grey: convert("L") would clip it to white
        return Image.fromarray(_scaled(np.asarray(image), what))
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _scaled(deep: NDArray[Any], what: str) -> NDArray[np.uint8]:
    """Values of unknown range as uint8: they are taken to go to 1, 255 or 65535, the least that holds them."""
    values = deep.astype(np.float64)
    if not np.isfinite(values).all():
        raise _UnfitError(f"the {what} has values that are not finite: save it as 8 bit grey")
    top = next((top for top in (1.0, 255.0) if values.max(initial=0) <= top), 65535.0)
    return np.rint(np.clip(values / top * 255, 0, 255)).astype(np.uint8)


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"
