"""Photos: from untrusted source bytes to the RGB array and the JPEG that the shard stores.

What has a meaning is converted (EXIF rotation, CMYK, grey, 16 bit, palette, alpha on white, the first
frame of an animation); for everything else `PhotoError` carries the reason that the ledger will show.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from data_manifests.picture import FORMATS

ORIENTATION = 0x0112
SWAPPED = {5, 6, 7, 8}
"""EXIF orientations that exchange width and height."""
SIZE_TOLERANCE = 0.01
"""Relative difference of aspect ratios up to which a file counts as a resized copy of what was annotated."""


class PhotoError(Exception):
    """A photo that cannot be used; `reason` is the slug in the ledger, `str(error)` the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class PhotoConfig:
    """How photos are read and stored."""

    max_side: int = 1024
    """Longest side of the stored photo, pixels; larger ones are scaled down before anything else."""
    max_megapixels: float = 64.0
    """A file that claims more is refused before it is decoded."""
    jpeg_quality: int = 92
    """For photos that must be re-encoded; a sane JPEG keeps its bytes."""


@dataclass(frozen=True, slots=True)
class Photo:
    """rgb: [H, W, 3] uint8 as stored, or smaller by `reduced`; jpeg: its file; scale: (x, y) from annotated to stored
    pixels; size: (width, height) as stored."""

    rgb: NDArray[np.uint8]
    jpeg: bytes
    scale: tuple[float, float]
    size: tuple[int, int]
    reduced: int


def decode(
    data: bytes, declared: tuple[int, int], config: PhotoConfig, relative: bool = False, reduce: int = 1
) -> Photo:
    """Decode one photo.

    declared: (width, height) that the annotations give, 0 where they give none. It decides whether
    boxes were drawn before or after EXIF rotation, and lets a resized copy of the annotated file pass.
    relative: annotations are shares of width and height, not pixels. reduce: 2, 4 or 8 where the file is what is wanted
    and its pixels matter little: where its bytes are kept, `rgb` may be smaller by that much, which is several times
    faster. The file is read to its end all the same, so that none passes that is cut off.
    Raises PhotoError: `image-unreadable` (also for an empty file), `image-too-large`, `image-size`.
    """
    if not data:
        raise PhotoError("image-unreadable", "the file is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning: the limit below is ours
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            megapixels = image.width * image.height / 1e6
            if megapixels > config.max_megapixels:
                raise PhotoError(
                    "image-too-large",
                    f"{image.width}x{image.height} is {megapixels:.0f} megapixels, the limit is "
                    f"{config.max_megapixels:g} (--draw.photo.max-megapixels)",
                )
            rotate = _rotation_wanted(image, declared)
            sane = image.format == "JPEG" and image.mode == "RGB" and image.getexif().get(ORIENTATION, 1) == 1
            full = image.size
            # a JPEG that is to become much smaller is decoded at a half, a quarter or an eighth
            kept = sane and _fit(full, config.max_side) == full
            image.draft(None, (full[0] // reduce, full[1] // reduce) if kept else _fit(full, config.max_side))
            rgb = _to_rgb(ImageOps.exif_transpose(image) if rotate else image)
            if rotate and image.getexif().get(ORIENTATION, 1) in SWAPPED:
                full = full[::-1]
    except PhotoError:
        raise
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, above which it does not even tell the size
        raise PhotoError("image-too-large", f"{error} (--draw.photo.max-megapixels)"[:200]) from None
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        raise PhotoError("image-unreadable", f"{type(error).__name__}: {error}"[:200]) from None
    annotated = declared if min(declared) > 0 else full
    _check_aspect(full, annotated)
    if relative:
        annotated = (1, 1)
    stored = _fit(full, config.max_side)
    scale = (stored[0] / annotated[0], stored[1] / annotated[1])
    if kept:
        return Photo(np.asarray(rgb), data, scale, stored, round(full[0] / rgb.width))
    if stored != rgb.size:
        rgb = rgb.resize(stored, Image.Resampling.LANCZOS)
    return Photo(
        rgb=np.asarray(rgb),
        jpeg=_encode(rgb, config.jpeg_quality),
        scale=scale,
        size=stored,
        reduced=1,
    )


def _fit(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Width and height of the stored photo."""
    shrink = min(1.0, max_side / max(size))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def _rotation_wanted(image: Image.Image, declared: tuple[int, int]) -> bool:
    """EXIF rotation is honoured unless the annotations were plainly made on the raw pixels."""
    swapped = image.getexif().get(ORIENTATION, 1) in SWAPPED
    return not (swapped and image.width != image.height and declared == image.size)


def _to_rgb(image: Image.Image) -> Image.Image:
    """First frame, 8 bits, three channels, alpha on white."""
    if image.mode.startswith(("I", "F")):  # 16 and 32 bit grey: convert("RGB") would clip it to white
        deep = np.asarray(image, dtype=np.float64)
        top = 65535.0 if deep.size and deep.max() > 255 else 255.0
        return Image.fromarray(np.clip(deep / top * 255, 0, 255).astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _check_aspect(size: tuple[int, int], annotated: tuple[int, int]) -> None:
    ratio = (size[0] / annotated[0]) / (size[1] / annotated[1])
    slack = max(SIZE_TOLERANCE, 1.5 / min(*size, *annotated))  # rounding of a resized side
    if abs(ratio - 1) > slack:
        raise PhotoError(
            "image-size",
            f"the file is {size[0]}x{size[1]}, the annotations were made on {annotated[0]}x{annotated[1]}: "
            "another picture or a distorted copy",
        )


def _encode(image: Image.Image, quality: int) -> bytes:
    image.info.clear()  # comments and profiles of the source may not fit a JPEG
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()
