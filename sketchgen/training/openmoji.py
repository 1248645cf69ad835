"""Pairs from OpenMoji (npm package `openmoji`, v17, CC BY-SA 4.0): colours without lines, and the lines.

Each SVG of `color/svg` keeps its lines in groups of their own (`line`, `line-supplement`); the other groups
(`color`, `skin`, `hair`, ...) are the picture that a sketcher has to draw those lines from.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from sketchgen.svg import render

STROKE = 2.4
"""Width of drawn strokes in pixels of a 256 px square."""

SVG = "{http://www.w3.org/2000/svg}"
CONCRETE = {
    "activities": ("arts-crafts", "award-medal", "event", "game", "sport"),
    "animals-nature": (),
    "food-drink": (),
    "objects": (),
    "people-body": ("person", "person-activity", "person-role", "person-sport", "person-resting", "body-parts"),
    "travel-places": ("hotel", "place-building", "place-other", "place-religious", "transport-air",
                      "transport-ground", "transport-water"),
    "extras-openmoji": ("animals-nature", "food-drink", "gardening", "healthcare", "objects", "technology",
                        "travel-places"),
    "extras-unicode": ("food-drink",),
}  # fmt: skip
"""Groups with things that photos show, and their subgroups (empty: all)."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """One OpenMoji: its name, and the two layers as SVG text."""

    name: str
    picture: str
    lines: str


@dataclass(frozen=True, slots=True)
class Pair:
    """What a sketcher sees and should draw, on squares of equal side.

    rgb: [S, S, 3] uint8, white outside the mask; mask: [S, S] bool; target: [S, S] uint8, dark strokes on white.
    """

    name: str
    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    target: NDArray[np.uint8]


def is_held_out(name: str) -> bool:
    """True for a tenth of the names, chosen by a hash: they are never trained on."""
    return hashlib.sha256(name.encode()).digest()[0] % 10 == 0


def read_openmoji(path: Path) -> Iterator[Drawing]:
    """Concrete objects of the npm package, an unpacked folder or its .tgz, in the order of their code points.

    Skin tone variants are left out. Raises FileNotFoundError or ValueError that says how to get the package.
    """
    remedy = "get it with `npm pack openmoji@17` and name the .tgz or the unpacked folder"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: {remedy}")
    files = _files(path)
    if "data/openmoji.json" not in files:
        raise ValueError(f"{path} holds no data/openmoji.json, so it is not the openmoji package: {remedy}")
    rows = [row for row in json.loads(files["data/openmoji.json"]()) if _is_concrete(row)]
    for row in sorted(rows, key=lambda row: str(row["hexcode"])):
        read = files.get(f"color/svg/{row['hexcode']}.svg")
        if read is not None:
            yield Drawing(str(row["annotation"]), *split_layers(read()))


def _is_concrete(row: dict[str, str]) -> bool:
    # joined sequences repeat a drawing ("woman cook", "black cat"): in both halves of the split they would be a leak
    if "-200D" in row["hexcode"] and not row["hexcode"].startswith("1F9D1-"):
        return False
    subgroups = CONCRETE.get(row["group"])
    return not row["skintone"] and subgroups is not None and (not subgroups or row["subgroups"] in subgroups)


def _files(path: Path) -> dict[str, Callable[[], bytes]]:
    """Readers of the files needed, by their path inside the package."""
    if path.is_dir():
        root = path / "package" if (path / "package").is_dir() else path
        found = [root / "data/openmoji.json", *sorted((root / "color" / "svg").glob("*.svg"))]
        return {file.relative_to(root).as_posix(): file.read_bytes for file in found if file.is_file()}
    files: dict[str, Callable[[], bytes]] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                name = member.name.removeprefix("package/")
                if name == "data/openmoji.json" or name.startswith("color/svg/"):
                    stream = tar.extractfile(member)
                    if stream is not None:
                        content = stream.read()
                        files[name] = lambda content=content: content  # type: ignore[misc]
    except tarfile.TarError as error:
        raise ValueError(f"{path} is not a readable tarball ({error}); download it again") from None
    return files


def split_layers(svg: bytes) -> tuple[str, str]:
    """The SVG without its lines, and its lines alone."""
    ElementTree.register_namespace("", SVG[1:-1])
    root = ElementTree.fromstring(svg)
    texts = []
    for wants_lines in (False, True):
        layer = copy.copy(root)
        for child in list(root):
            # definitions (gradients, clips) belong to both
            is_drawn = child.tag == f"{SVG}g"
            if is_drawn and child.get("id", "").startswith("line") != wants_lines:
                layer.remove(child)
        texts.append(ElementTree.tostring(layer, encoding="unicode"))
    return texts[0], texts[1]


def drawing_pair(drawing: Drawing, side: int) -> Pair | None:
    """The picture with flat colours, and its lines at one stroke width, at `side` pixels.

    Lines that the picture does not show (no edge of a colour or of the silhouette within 2 % of the side) are
    dropped: whoever learns them learns to invent. None when they are more than half, or when nearly nothing is left.
    """
    picture, ink, solid = _fitted(drawing, side)
    mask = (picture[..., 3] > 127) | solid
    rgb = np.where(mask[..., None], picture[..., :3], np.uint8(255))
    rgb = np.where(solid[..., None], np.uint8(30), rgb)
    rgb, mask = _meet_under_lines(rgb, mask, (ink > 64) & ~solid)
    dots, shapes = _by_size(solid, 0.12 * side)
    lines = skeletonize(cv2.GaussianBlur(ink, (0, 0), side / 256) > 127) & ~solid
    lines |= shapes & ~(cv2.erode(shapes.view(np.uint8), np.ones((3, 3))) > 0)
    shown = lines & _near_edges(rgb, mask, reach=_odd(side * 0.02))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(shown.view(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= side * 0.03
    keep[0] = False
    shown = keep[labels]
    if shown.sum() < max(0.5 * lines.sum(), side) or mask.mean() < 0.05:
        return None
    target = np.minimum(ink_lines(shown, STROKE * side / 256), np.where(dots, np.uint8(0), np.uint8(255)))
    return Pair(drawing.name, rgb, mask, target)


def _fitted(drawing: Drawing, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """Picture [side, side, 4], ink [side, side] and its filled shapes, scaled and centred like the crops of photos."""
    fine = 3 * side // 2
    picture, ink = render(drawing.picture, fine), render(drawing.lines, fine)[..., 3]
    # eyes and the like: filled shapes among the lines are part of the picture too. Lines are 2 of 72 units wide, and
    # where they cross, a disc of 3.4 units does not fit
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(3.6 * fine / 72),) * 2)
    solid = cv2.morphologyEx((ink > 127).view(np.uint8), cv2.MORPH_OPEN, disc) * np.uint8(255)
    x, y, width, height = cv2.boundingRect(((picture[..., 3] > 127) | (solid > 0)).view(np.uint8))
    scale = side * (1 - 16 / 256) / max(width, height, 1)
    shift = [side / 2 - scale * (x + width / 2), side / 2 - scale * (y + height / 2)]
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    picture, ink, solid = (cv2.warpAffine(layer, matrix, (side, side)) for layer in (picture, ink, solid))
    return picture, ink, solid > 127


def _meet_under_lines(
    rgb: NDArray[np.uint8], mask: NDArray[np.bool_], under: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Picture and mask whose pixels under lines are those of the nearest pixel beside the line.

    OpenMoji's colours end anywhere under its broad lines; this way they, and the silhouette, end in the middle.
    """
    edge = 4  # lines may reach the border, and then there is nothing beside them
    around = ((edge, edge), (edge, edge))
    rgb, mask = np.pad(rgb, (*around, (0, 0)), constant_values=255), np.pad(mask, around)
    under = np.pad(under, around)
    _, labels = cv2.distanceTransformWithLabels(
        under.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # pixel numbers of the labels: each pixel beside the lines has a label of its own
    beside = np.zeros(labels.max() + 1, np.int64)
    beside[labels[~under]] = np.flatnonzero(~under)
    nearest = beside[labels][edge:-edge, edge:-edge]
    return rgb.reshape(-1, 3)[nearest], mask.ravel()[nearest]


def _by_size(solid: NDArray[np.bool_], limit: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Filled shapes up to `limit` pixels long, which stay filled, and the others, of which the outline is drawn."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(solid.view(np.uint8), connectivity=8)
    small = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) <= limit
    small[0] = False
    return small[labels], solid & ~small[labels]


def _odd(length: float) -> int:
    return 2 * round(length / 2) + 1


def _near_edges(rgb: NDArray[np.uint8], mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Pixels with an edge of the flat colours or of the silhouette in the window of `reach` pixels."""
    layers = np.dstack([rgb, mask.view(np.uint8) * np.uint8(255)])
    steps = cv2.morphologyEx(layers, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).max(axis=2)
    return cv2.dilate((steps > 24).view(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))) > 0


def ink_lines(lines: NDArray[np.bool_], width: float) -> NDArray[np.uint8]:
    """One pixel wide lines drawn as dark antialiased strokes of `width` pixels on white, [h, w] uint8."""
    if not lines.any():
        return np.full(lines.shape, 255, np.uint8)
    distance = cv2.distanceTransform((~lines).view(np.uint8), cv2.DIST_L2, 3)
    return (255 * (1 - np.clip(width / 2 + 0.5 - distance, 0, 1))).astype(np.uint8)


def make_pair(name: str, rgb: NDArray[np.uint8], mask: NDArray[np.bool_], target: NDArray[np.uint8], side: int) -> Pair:
    """The pair, centred on white squares of `side` pixels, none of it larger than that."""
    height, width = mask.shape
    assert max(height, width) <= side, (height, width, side)
    top, left = (side - height) // 2, (side - width) // 2
    borders = (top, side - height - top, left, side - width - left)

    def framed(picture: NDArray[np.uint8], value: int) -> NDArray[np.uint8]:
        return np.asarray(cv2.copyMakeBorder(picture, *borders, cv2.BORDER_CONSTANT, value=(value,) * 3), np.uint8)

    return Pair(name, framed(rgb, 255), framed(mask.view(np.uint8), 0).view(np.bool_), framed(target, 255))


# --- texture and shading ---------------------------------------------------------------------------


def shade(pair: Pair, rng: np.random.Generator) -> Pair:
    """The pair with other colours, and the texture, shading, blur, noise and compression that photos have."""
    side = len(pair.mask)
    rgb = np.asarray(pair.rgb / np.float32(255), np.float32)
    colours = _recoloured(rgb, rng)
    picture = _textured(colours, rgb, rng) * _light(pair.mask, rng)[..., None]
    picture = np.clip(picture, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.2)))
    picture += rng.normal(0, 0.03 * rng.random() ** 2 + 0.002, picture.shape).astype(np.float32)
    soft = abs(rng.normal(0, 0.8))
    if rng.random() < 0.3:  # a small object, enlarged
        small = round(side / rng.uniform(1.2, 3))
        picture = cv2.resize(cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA), (side, side),
                             interpolation=cv2.INTER_CUBIC)  # fmt: skip
    elif soft > 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), soft)
    coded = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))]
        coded = cv2.imdecode(cv2.imencode(".jpg", coded, quality)[1], cv2.IMREAD_COLOR)
    return Pair(pair.name, np.where(pair.mask[..., None], coded, np.uint8(255)), pair.mask, pair.target)


def _recoloured(rgb: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Colours mixed, turned down and shifted; sometimes inverted, so that dark things are not always small."""
    mixing = np.eye(3) + rng.normal(0, 0.25, (3, 3))
    mixing /= mixing.sum(axis=1, keepdims=True)
    grey = rgb.mean(axis=2, keepdims=True)
    muted = grey + (rgb - grey) * np.float32(rng.uniform(0.2, 1.1))
    mixed = np.clip(muted @ mixing.T.astype(np.float32), 0, 1)
    if rng.random() < 0.25:
        mixed = 1 - mixed
    low, high = rng.uniform(0, 0.3), rng.uniform(0.6, 1.0)
    return np.asarray(low + mixed * (high - low), np.float32)


def _noise(side: int, cells: float, rng: np.random.Generator, stretch: float = 1.0) -> NDArray[np.float32]:
    """Smooth random field [side, side], about unit variance, with about `cells` blobs a side."""
    rows, cols = max(2, round(cells)), max(2, round(cells * stretch))
    field = rng.normal(0, 1, (min(rows, side), min(cols, side))).astype(np.float32)
    return np.asarray(cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def _textured(
    colours: NDArray[np.float32], original: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Several fields of texture, each in its own regions: how much a colour gets is a random wave of that colour."""
    side = len(colours)
    picture = colours
    for _ in range(int(rng.integers(1, 4))):
        wave = np.sin(original @ rng.normal(0, 4, 3).astype(np.float32) + np.float32(rng.uniform(0, 7)))
        cells = np.exp(rng.uniform(np.log(4), np.log(side / 2)))
        field = _noise(side, cells, rng, float(np.exp(rng.normal(0, 0.8))))
        if rng.random() < 0.25:  # stripes or waves
            angle, rows = rng.uniform(0, np.pi), np.arange(side, dtype=np.float32) / side
            phase = rows[:, None] * np.sin(angle) + rows[None] * np.cos(angle)
            field = np.sin(phase * np.float32(rng.uniform(40, 300)) + 0.7 * field)
        strength = np.float32(0.16 * rng.random() ** 1.5)
        tint = (1 + rng.normal(0, 0.3, 3)).astype(np.float32)
        picture = picture + (strength * np.clip(wave + 0.5, 0, 1.5) * field)[..., None] * tint
    return picture


def _light(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Brightness field: light from one side on an inflated shape, and large soft shadows."""
    side = len(mask)
    depth = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 5)
    height = cv2.GaussianBlur(np.sqrt(depth), (0, 0), side / 40)
    rows, cols = np.gradient(height)
    angle = rng.uniform(0, 2 * np.pi)
    lit = (rows * np.sin(angle) + cols * np.cos(angle)) * np.float32(rng.uniform(0, 1.2))
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    fall = (ramp[:, None] * np.sin(angle + 1) + ramp[None] * np.cos(angle + 1)) * np.float32(rng.normal(0, 0.2))
    shadows = _noise(side, rng.uniform(2, 6), rng) * np.float32(0.15 * rng.random())
    return np.asarray(np.clip(1 + lit + fall + shadows, 0.3, 1.7), np.float32)
