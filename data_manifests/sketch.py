"""Sketches as users bring them: files, arrays and strokes to the one form that the model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from data_manifests.notice import notice
from data_manifests.picture import MAX_MEGAPIXELS, PictureSource, open_picture
from data_manifests.schema import STRIP_SIDE
from data_manifests.strokes import INK, rasterise

SketchSource: TypeAlias = PictureSource | Sequence[Any]
"""A path, the bytes of a picture file, a picture, an array or strokes (see `as_sketch`)."""
MARGIN = 20
"""White around a fitted sketch, pixels: its ink spans 84 % of the square, where training sketches span 72 to 94 %."""
FITTED = 4
"""Pixels that the ink of a sketch may be off that frame and is left as it is: resampling again would blur it."""
DARK = 128
"""Grey values below are dark."""
INVERTED = 0.5
"""A picture is inverted where more than this share of it, and of its border, is dark."""
PAPER = 250
"""Paper of this grey value and above is white."""
SHADOW = 0.4
"""Paper may be darkened to this share of its brightest part; what is broad and darker counts as ink."""
WIDEST = 31
"""Strokes of a picture of 256 px on paper that is not white may be this wide; what is wider counts as its light."""
LINE = 9
"""Lines up to this wide, pixels of 256, tell whether dark paper is black or badly lit."""
BLUR, WIDE_BLUR = 1.5, 10.0
"""Sigma of the blur of the light, pixels of 256: to whiten paper, hardly any, for the edge of a shadow would become a
line; to tell a photo, much, for its light would follow its objects."""
NEAR_PAPER, INK_SHARE = 0.1, 0.35
"""Lightness, paper being 1: what is at most this far from it is paper, what is below this dark ink."""
PHOTO_SHARE = 0.25
"""A picture of which more is neither paper nor dark ink looks like a photo. Training sketches have up to 0.04, drawings
on paper in bad light up to 0.22."""
COLOURED = 48
"""Difference of a pixel's strongest and weakest channel (0 to 255, paper made white) from which it is coloured."""
COLOUR_SHARE = 0.2
"""A picture of which more is coloured is no line drawing; one with a coloured pen stays well below."""
CONTRAST = 8
"""Grey values that ink is darker than white paper by, at least."""
NOISE = 5.0
"""Paper that is not white becomes white with what is darker than it by this many times its noise: of the 65,536 pixels
of a picture chance makes none so dark."""
LEAST_INK = 4
"""Pixels of ink, of 256 x 256, below which a sketch is blank."""
FAINT = 128
"""Where the darkest twentieth of the ink is lighter than this, all ink is darkened."""


class SketchWarning(UserWarning):
    """A sketch was not as expected: the text says what was seen and what was made of it."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """Shares of a picture: dark, dark of its border, neither paper nor dark ink; and whether it was inverted."""

    dark: float
    border: float
    odd: float
    inverted: bool


def as_sketch(
    source: SketchSource,
    fit: bool = False,
    strict: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    name: str = "",
) -> NDArray[np.uint8]:
    """A user's sketch as the model was trained to see it: [256, 256] uint8, dark strokes on white, aspect kept.

    source: a path, the bytes of a file or a PIL picture (first frame, EXIF rotation honoured, any depth and colour
    space); an array [H, W], [H, W, 3] or [H, W, 4] of uint8, uint16, bool (True is white) or floats from 0 to 1; or
    strokes, y down:
    - as in Quick, Draw!, `[[[x, ...], [y, ...]], ...]`, or as a list of [n, 2] arrays. A stroke that is a list holds
      axes, one that is an array holds points; a single one need not be in a list;
    - an array [n, 3], as in the npz files of Quick, Draw! (stroke-3): each row holds the offset from the point before,
      dx and dy, and 1 where the pen is lifted after it, else 0.
    Strokes have no frame: they are always fitted (see `rasterise`).
    fit: crop to the ink, with a margin of 20 px. Off by default, since a sketch of a shard has to arrive pixel for
    pixel, and drawings of Sketchy and TU-Berlin are trained on in the frame of their files. All training sketches span
    72 to 94 % of the square, so that one which is small in its page is better read with it.
    strict: refuse what looks like a photo or is coloured, instead of warning.
    name: which of many it is, for errors and warnings (its path, say).

    The rules, in this order; tests/data_manifests/test_sketch.py measures them:
    - transparent: put on white; where less than half of it shows and that is light, put on black and inverted;
    - inverted: where more than half of the picture and more than half of its border are darker than 128; unless it is
      not quite black and its lines are darker than what is around them, as on paper in a dim room;
    - a photo, where more than 25 % is neither paper nor dark ink: left as it is, in grey. More than 20 % coloured is
      told likewise, and treated by its grey values;
    - paper that is not white (its median below 250, what is darker than 128 aside): divided by its blurred background;
    - faint ink (its darkest twentieth lighter than 128): darkened to the grey of a training sketch.
    Warns with SketchWarning of what was inverted, looks like a photo or is coloured.
    Raises ValueError for what is no picture, one of more than `max_megapixels`, and one without ink.
    """
    told: list[str] = []
    try:
        strokes = _strokes_of(source)
        if strokes is not None:
            return _drawn(strokes)
        return _read(open_picture(source, max_megapixels, "sketch"), fit, strict, told)
    except ValueError as error:
        if not name or name in str(error):
            raise
        raise ValueError(f"{name}: {error}") from None
    finally:
        for text in told:
            notice(f"{name}: {text}" if name else text, SketchWarning)


def _read(image: Image.Image, fit: bool, strict: bool, told: list[str]) -> NDArray[np.uint8]:
    """A picture as a sketch; what was not as expected is added to `told`."""
    picture = _on_paper(image, told)
    grey = picture.convert("L")
    sketch, seen = _normalised(_contained(grey, STRIP_SIDE))
    _tell(seen, _colour_share(picture), strict, told)
    sketch = _centred(sketch)
    if fit and not _is_fitted(sketch):
        sketch = _fitted(_normalised(_contained(grey, 4 * STRIP_SIDE))[0])
        sketch = _normalised(sketch)[0]  # thin lines have become faint again
    return sketch


def _on_paper(image: Image.Image, told: list[str]) -> Image.Image:
    """What is transparent put on the paper that shows its ink."""
    if image.mode != "RGBA":
        return image
    shown = np.asarray(image.getchannel("A")) >= 32  # less is a soft shadow
    light = np.asarray(image.convert("L"))[shown] >= DARK
    is_light = 0 < shown.mean() < 0.5 and light.mean() > 0.99  # more than half is a sheet, not ink
    paper = Image.new("RGBA", image.size, "black" if is_light else "white")
    flat = Image.alpha_composite(paper, image).convert("RGB")
    if not is_light:
        return flat
    told.append("the sketch is light ink on a transparent ground: inverted to dark on white")
    return ImageOps.invert(flat)


def _drawn(strokes: Sequence[Any]) -> NDArray[np.uint8]:
    """Strokes as `rasterise` draws them. Raises ValueError for what are none, and for no point at all."""
    try:
        with np.errstate(over="ignore"):  # 1e39 becomes infinite, which rasterise refuses
            lines = [_points(stroke) for stroke in strokes]
    except (TypeError, OverflowError, ValueError) as error:
        raise ValueError(
            f"a list has to hold strokes, [[x, ...], [y, ...]] or an [n, 2] array of points each ({error})"
        ) from None
    if not any(len(line) for line in lines):
        raise ValueError(f"the sketch is blank: its {len(lines)} strokes have no point")
    return rasterise(lines)


def is_strokes(source: Any) -> bool:
    """Whether a list is one sketch, strokes or a single one, and not a list of sketches. An empty one is neither."""
    if not isinstance(source, (list, tuple)) or not source:
        return False
    return _is_stroke(source) or all(map(_is_stroke, source))


def _strokes_of(source: Any) -> Sequence[Any] | None:
    """A list of strokes of whatever holds some; None of a picture."""
    if isinstance(source, np.ndarray) and _are_offsets(source):
        points = np.cumsum(source[:, :2], axis=0, dtype=np.float64)
        return np.split(points, np.flatnonzero(source[:-1, 2]) + 1)
    if _is_stroke(source):
        return [source]
    return source if isinstance(source, (list, tuple)) else None


def _are_offsets(array: NDArray[Any]) -> bool:
    """Whether an array is stroke-3 and no picture: one three pixels wide, the last of them black, draws nothing."""
    is_table = array.ndim == 2 and array.shape[1] == 3 and len(array) > 0 and array.dtype.kind in "iuf"
    return is_table and bool(np.isin(array[:, 2], (0, 1)).all())


def _is_stroke(one: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.ndim == 2 and one.shape[1] == 2 and one.dtype.kind in "iuf"
    return isinstance(one, (list, tuple)) and len(one) in (2, 3) and all(map(_is_axis, one))


def _is_axis(one: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.ndim == 1
    return isinstance(one, (list, tuple)) and all(isinstance(value, (int, float, np.number)) for value in one)


def _points(stroke: Any) -> NDArray[np.float32]:
    if isinstance(stroke, np.ndarray):
        points = stroke.astype(np.float32)
    elif isinstance(stroke, (list, tuple)) and len(stroke) in (2, 3):  # the third are times
        points = np.stack([np.asarray(axis, np.float32) for axis in stroke], axis=-1)[..., :2]
    else:
        raise ValueError(
            f"one is a {type(stroke).__name__}" + (f" of {len(stroke)}" if hasattr(stroke, "__len__") else "")
        )
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"one has shape {points.shape}")
    return points


def _contained(grey: Image.Image, side: int) -> NDArray[np.uint8]:
    """The picture [h, w], its longer side `side` pixels."""
    width, height = grey.size
    longer = max(width, height)
    size = (max(1, round(width / longer * side)), max(1, round(height / longer * side)))
    return np.asarray(grey.resize(size, Image.Resampling.LANCZOS), np.uint8)


def _normalised(grey: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], _Seen]:
    """Dark strokes on white [h, w] uint8 of such a picture of any polarity, paper and light; and what was seen.

    One that is clean already comes back as it is. Raises ValueError for one without ink.
    """
    inside = _without_bars(grey)
    content = grey[inside]
    dark, border = float((content < DARK).mean()), float((_border(content) < DARK).mean())
    turned = dark > INVERTED and border > INVERTED and _is_light_on_dark(content)
    upright = 255 - content if turned else content
    lightness, _ = _lightness(upright, _light(upright, WIDE_BLUR))
    odd = float(((lightness >= INK_SHARE) & (np.abs(lightness - 1) > NEAR_PAPER)).mean())
    is_photo = odd > PHOTO_SHARE
    sketch = np.full_like(grey, 255)
    if is_photo:
        sketch[inside] = content
    else:
        light = _light(upright, BLUR)
        white = upright if light is None else _whitened(*_lightness(upright, light))
        sketch[inside] = _strengthened(white)
    return sketch, _Seen(dark, border, odd, turned and not is_photo)


def _without_bars(grey: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Rows and columns between white bars on two opposite sides, with which a picture was padded to a square."""
    rows, cols = (np.flatnonzero((grey < 255).any(axis=axis)) for axis in (1, 0))
    height, width = grey.shape
    if not len(rows):
        return slice(None), slice(None)
    top, bottom, left, right = rows[0], height - 1 - rows[-1], cols[0], width - 1 - cols[-1]
    if left == right == 0 and abs(top - bottom) <= 1:
        return slice(top, height - bottom), slice(None)
    if top == bottom == 0 and abs(left - right) <= 1:
        return slice(None), slice(left, width - right)
    return slice(None), slice(None)


def _border(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels of a frame, a 32nd of the longer side wide."""
    wide = max(1, max(grey.shape) // 32)
    frame = np.ones(grey.shape, np.bool_)
    frame[wide:-wide, wide:-wide] = False
    return grey[frame]


def _is_light_on_dark(grey: NDArray[np.uint8]) -> bool:
    """Whether a dark picture [h, w] is black paper, or its lines are lighter than what is around them: paper in a dim
    room is as dark as a blackboard, and its lines are darker."""
    if _light(255 - grey, BLUR) is None:
        return True
    wide = max(LINE, LINE * max(grey.shape) // STRIP_SIDE)
    box = np.ones((wide, wide), np.uint8)
    light, dark = (cv2.morphologyEx(grey, how, box).astype(float) for how in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT))
    return bool((light**2).sum() >= (dark**2).sum())


def _light(grey: NDArray[np.uint8], blur: float) -> NDArray[np.float32] | None:
    """The light [h, w] (0 to 255) on paper that is not white; None where the paper is white.

    It is what a closing by a disc leaves, which fills strokes up to an eighth of the picture wide and keeps the sides
    of shadows. blur: sigma, pixels of 256.
    """
    scale = min(1.0, STRIP_SIDE / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (WIDEST, WIDEST))
    closed = cv2.morphologyEx(small, cv2.MORPH_CLOSE, disc)
    bright = closed[closed >= DARK]  # broad ink is no paper
    if len(bright) > closed.size / 10 and np.median(bright) >= PAPER:
        return None
    light = cv2.GaussianBlur(closed.astype(np.float32), (0, 0), blur, borderType=cv2.BORDER_REPLICATE)
    light = np.maximum(light, max(SHADOW * float(np.percentile(light, 95)), 1.0))
    return np.asarray(cv2.resize(light, grey.shape[::-1]) if scale < 1 else light, np.float32)


def _lightness(grey: NDArray[np.uint8], light: NDArray[np.float32] | None) -> tuple[NDArray[np.float32], float]:
    """Lightness [h, w], 1 where there is paper, whatever light fell on it; and the noise of the paper (sigma)."""
    if light is None:
        return np.asarray(grey / np.float32(255), np.float32), 0.0
    lightness = np.asarray(grey / light, np.float32)
    lightness = np.asarray(lightness / max(float(np.median(lightness)), 1e-3), np.float32)
    return lightness, 1.4826 * float(np.median(np.abs(lightness - 1)))


def _whitened(lightness: NDArray[np.float32], noise: float) -> NDArray[np.uint8]:
    """Grey values of which the paper and its noise are white."""
    white = 1 - np.clip(NOISE * noise, 0.02, 0.5)
    return np.rint(255 * np.clip(lightness / white, 0, 1)).astype(np.uint8)


def _strengthened(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Faint ink on white darkened in proportion, its darkest twentieth to that of a training sketch; other sketches as
    they are. Raises ValueError where there is no ink."""
    lightest = 255 - CONTRAST
    ink = grey[grey <= lightest]
    if len(ink) < LEAST_INK:
        raise ValueError(
            f"the sketch is blank: {len(ink)} of its pixels are darker than the paper by {CONTRAST} grey values, "
            f"{LEAST_INK} are wanted: draw with a darker or wider pen, or crop the picture to the drawing"
        )
    level = float(np.percentile(ink, 5))
    if level <= FAINT:
        return grey
    depth = np.maximum(lightest + 1.0 - grey, 0)
    return np.rint(255 - np.minimum(depth * ((255 - INK) / (lightest + 1 - level)), 255 - INK)).astype(np.uint8)


def _centred(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[h, w] in the middle of a white square."""
    square = np.full((STRIP_SIDE, STRIP_SIDE), 255, np.uint8)
    top, left = (round((STRIP_SIDE - length) * 0.5) for length in grey.shape)
    square[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return square


def _ink_box(grey: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is darker than three quarters white; of any ink where nothing is."""
    ink = grey < 192 if (grey < 192).any() else grey < 255
    rows, cols = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


def _is_fitted(square: NDArray[np.uint8]) -> bool:
    """Whether the ink of a sketch [256, 256] is framed as `_fitted` would frame it."""
    left, top, right, bottom = _ink_box(square)
    span = max(right - left, bottom - top)
    off = max(abs(left + right - STRIP_SIDE), abs(top + bottom - STRIP_SIDE)) / 2
    return max(abs(span - (STRIP_SIDE - 2 * MARGIN)), off) <= FITTED


def _fitted(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The ink of a sketch [h, w] of any size, centred in a square [256, 256] with a margin."""
    left, top, right, bottom = _ink_box(grey)
    span = STRIP_SIDE - 2 * MARGIN
    scale = span / max(right - left, bottom - top)
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return _centred(np.asarray(cv2.resize(grey[top:bottom, left:right], size, interpolation=how), np.uint8))


def _colour_share(picture: Image.Image) -> float:
    """Share of coloured pixels of a picture, as if its paper were white and not that of a warm lamp."""
    if picture.mode == "L":
        return 0.0
    rgb = np.asarray(picture.resize((STRIP_SIDE // 2,) * 2, Image.Resampling.BOX), np.float32)
    paper = np.maximum(np.percentile(rgb.reshape(-1, 3), 75, axis=0), 1)
    white = np.minimum(rgb * (255 / paper), 255)
    return float((white.max(axis=2) - white.min(axis=2) > COLOURED).mean())


def _tell(seen: _Seen, colour: float, strict: bool, told: list[str]) -> None:
    """Add to `told` what was not as expected; with `strict`, raise ValueError for a photo."""
    if seen.inverted:
        told.append(
            f"the sketch is light on dark ({seen.dark:.0%} of it and {seen.border:.0%} of its border are darker than "
            f"{DARK}): inverted to dark on white"
        )
    if seen.odd <= PHOTO_SHARE and colour <= COLOUR_SHARE:
        return
    what = (
        f"the sketch looks like a photo or is coloured: {seen.odd:.0%} of it is neither paper nor dark ink "
        f"(at most {PHOTO_SHARE:.0%} expected), {colour:.0%} is coloured (at most {COLOUR_SHARE:.0%})"
    )
    if strict:
        raise ValueError(f"{what}: give a line drawing, dark on white")
    told.append(f"{what}; it is used in grey: a line drawing, dark on white, would be read better")
