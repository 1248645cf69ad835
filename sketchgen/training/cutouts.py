"""Cut-outs: annotated objects and drawings with their alpha, pasted over photos with an exact mask.

Training augmentation of the segmenter, and the set that measures it where polygons cannot (they are coarse).
"""

from __future__ import annotations

import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from sketchgen.instance import Box, Instance, Mask
from sketchgen.segmenters.boxseg import PAD

Image = NDArray[np.uint8]
Affine = NDArray[np.float64]

DRAWING_GROUPS = ("activities", "animals-nature", "food-drink", "objects", "travel-places")
"""OpenMoji groups of things; the others are faces, people, flags and symbols."""


@dataclass(frozen=True)
class Cutout:
    """One object: the picture it is in, and its alpha, cropped.

    rgb: [H, W, 3] uint8, the whole photo; alpha: [h, w] uint8, whose corner lies at `origin` (x, y) of it.
    """

    name: str
    rgb: Image
    alpha: Image
    origin: tuple[int, int]
    box: Box
    outline: NDArray[np.float64] = field(repr=False)
    """[n, 2]: the convex hull of the alpha, in pixels of rgb; its bounds after a warp are the warped box."""
    pyramid: list[Image] = field(default_factory=list, repr=False)
    """rgb, halved again and again; photos share theirs among their cut-outs."""


@dataclass(frozen=True)
class Photo:
    """A decoded photo and the objects annotated in it."""

    image_id: int
    rgb: Image
    cutouts: list[Cutout]
    pyramid: list[Image] = field(repr=False)


def halves(image: Image, levels: int = 4) -> list[Image]:
    """[image, half of it, a quarter, ...]: what warps shrink from, so that they do not alias."""
    pyramid = [image]
    while len(pyramid) < levels and min(pyramid[-1].shape[:2]) >= 16:
        height, width = pyramid[-1].shape[:2]
        pyramid.append(cv2.resize(pyramid[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return pyramid


def warp(pyramid: Sequence[Image], affine: Affine, size: tuple[int, int], border: int = PAD) -> Image:
    """Warp a picture by [2, 3] `affine`: its pixels -> those of the result, both counted from corners."""
    scale = float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))
    level = int(np.clip(np.floor(np.log2(1.4 / max(scale, 1e-6))), 0, len(pyramid) - 1))
    source = pyramid[level]
    matrix = affine.copy()
    matrix[:, 0] *= pyramid[0].shape[1] / source.shape[1]
    matrix[:, 1] *= pyramid[0].shape[0] / source.shape[0]
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(
        source,
        matrix,
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(border,) * 3,
    )


def compose(second: Affine, first: Affine) -> Affine:
    """The affine map that does `first`, then `second`."""
    linear = second[:, :2] @ first
    linear[:, 2] += second[:, 2]
    return linear


def bounds(points: NDArray[np.float64], affine: Affine) -> Box:
    """Bounding box of [n, 2] points after an affine map."""
    moved = points @ affine[:, :2].T + affine[:, 2]
    (x0, y0), (x1, y1) = moved.min(axis=0), moved.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def alpha_of(segmentation: object, height: int, width: int) -> tuple[Image, tuple[int, int]] | None:
    """Cropped alpha (0 or 255) and its corner, of COCO polygons or RLE; None for an empty one.

    Polygons are filled at four times the resolution, so their edges are soft.
    """
    if isinstance(segmentation, dict):
        counts = segmentation
        if isinstance(counts["counts"], list):
            counts = rle.frPyObjects(counts, height, width)
        full = rle.decode(counts) * np.uint8(255)
        x, y, w, h = cv2.boundingRect(full)
        return (np.ascontiguousarray(full[y : y + h, x : x + w]), (x, y)) if w else None
    rings = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in segmentation if len(ring) >= 6]  # type: ignore[attr-defined]
    if not rings:
        return None
    points = np.concatenate(rings)
    x0, y0 = np.maximum(np.floor(points.min(axis=0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(points.max(axis=0)).astype(int), (width, height))
    if x1 <= x0 or y1 <= y0:
        return None
    fine = np.zeros(((y1 - y0) * 4, (x1 - x0) * 4), np.uint8)
    for ring in rings:  # one by one: COCO unites its polygons, cv2 would punch holes where they overlap
        cv2.fillPoly(fine, [np.round((ring - (x0, y0)) * 4).astype(np.int32)], 255)
    return cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA), (int(x0), int(y0))


def cutout(name: str, pyramid: list[Image], alpha: Image, origin: tuple[int, int], box: Box | None = None) -> Cutout:
    """Wrap a picture and an alpha; the box is the one given, else that of the alpha."""
    rows, cols = np.nonzero(alpha > 127)
    if len(rows) == 0:
        rows, cols = np.nonzero(alpha)
    corners = np.stack([cols, rows], axis=1).astype(np.int32)
    steps = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], np.int32)  # the four corners of a pixel
    hull = cv2.convexHull((corners[:, None] + steps).reshape(-1, 2))
    outline = hull[:, 0].astype(np.float64) + origin
    if box is None:
        box = bounds(outline, np.eye(2, 3))
    return Cutout(name, pyramid[0], alpha, origin, box, outline, pyramid)


def read_coco(annotations: Path, images: Path, modulus: int, holdout: bool, min_area: float = 0.0) -> list[Photo]:
    """Photos of a COCO folder with their non-crowd objects, of one side of the split.

    A photo is held out when `image_id % modulus == 0`; modulus 0 holds nothing out. min_area: of the box,
    in pixels. Raises FileNotFoundError or ValueError naming the file that is missing or unreadable.
    """
    if not annotations.is_file():
        raise FileNotFoundError(
            f"no annotations at {annotations}: name a COCO instances JSON (--annotations FILE --images DIR)"
        )
    document = json.loads(annotations.read_text())
    rows: dict[int, list[dict]] = {}
    for row in document["annotations"]:
        rows.setdefault(row["image_id"], []).append(row)
    photos = []
    for entry in document["images"]:
        if (modulus > 0 and entry["id"] % modulus == 0) != holdout:
            continue
        path = images / entry["file_name"]
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"cannot read the photo {path}, which {annotations} names")
        pyramid = halves(np.ascontiguousarray(bgr[..., ::-1]))
        cutouts = []
        for row in rows.get(entry["id"], []):
            x, y, w, h = row["bbox"]
            if row.get("iscrowd") or w * h <= min_area or w < 1 or h < 1 or not row.get("segmentation"):
                continue
            found = alpha_of(row["segmentation"], *bgr.shape[:2])
            if found:
                cutouts.append(cutout(str(row["id"]), pyramid, *found, box=(x, y, x + w, y + h)))
        photos.append(Photo(entry["id"], pyramid[0], cutouts, pyramid))
    return photos


def is_whole(candidate: Cutout, min_side: int = 48) -> bool:
    """Whether a photographed object is worth pasting elsewhere: large, not cut by the border, compact."""
    x0, y0, x1, y1 = candidate.box
    height, width = candidate.rgb.shape[:2]
    filled = np.count_nonzero(candidate.alpha > 127) / max((x1 - x0) * (y1 - y0), 1)
    inner = min(x0, y0, width - x1, height - y1) > 2
    return bool(min(x1 - x0, y1 - y0) >= min_side and inner and filled > 0.3)


def read_drawings(tarball: Path, holdout: bool, side: int = 192) -> list[Cutout]:
    """Colour drawings of things in the npm package `openmoji`, with their alpha; one in ten is held out.

    The split goes by the CRC of the file name, so it survives a new release of the package.
    """
    import resvg_py  # training only

    # The sources lie in folders by group but carry a frame; the finished drawings are all in one folder.
    source = re.compile(rf"package/src/({'|'.join(DRAWING_GROUPS)})/[^/]+/([0-9A-F-]+)\.svg")
    finished = re.compile(r"package/color/svg/([0-9A-F-]+)\.svg")
    names, texts = set(), {}
    with tarfile.open(tarball) as archive:
        for member in archive:
            if match := source.fullmatch(member.name):
                names.add(match[2])
            elif match := finished.fullmatch(member.name):
                stream = archive.extractfile(member)
                assert stream is not None, member.name
                texts[match[1]] = stream.read().decode()
    drawings = []
    for name in sorted(names & texts.keys()):
        if (zlib.crc32(name.encode()) % 10 == 0) != holdout:
            continue
        png = resvg_py.svg_to_bytes(svg_string=texts[name], width=side, height=side)
        rgba = cv2.imdecode(np.frombuffer(bytes(png), np.uint8), cv2.IMREAD_UNCHANGED)
        if rgba is None or rgba.shape[2] != 4 or np.count_nonzero(rgba[..., 3] > 127) < 400:
            continue
        rgb = np.ascontiguousarray(rgba[..., 2::-1])
        drawings.append(cutout(name, halves(rgb, 2), np.ascontiguousarray(rgba[..., 3]), (0, 0)))
    return drawings


def alpha_warp(source: Cutout, affine: Affine, size: tuple[int, int]) -> Image:
    """The alpha of a cut-out after the same warp as its picture."""
    shift = np.array([[1, 0, source.origin[0]], [0, 1, source.origin[1]]], np.float64)
    return warp(halves(source.alpha), compose(affine, shift), size, border=0)


def blend(rng: np.random.Generator, front: Image, back: Image, alpha: Image, match: float = 0.5) -> Image:
    """Paste `front` over `back` through [H, W] alpha: soft edges, colours moved towards the background.

    match: up to which share the mean and contrast of the pasted pixels move to those behind them.
    """
    inside = alpha > 127
    weight = rng.uniform(0, match)
    pasted = front.astype(np.float32)
    if inside.any():
        own, behind = pasted[inside], back[inside].astype(np.float32)
        target_std = (1 - weight) * own.std(axis=0) + weight * behind.std(axis=0)
        gain = np.clip(target_std / (own.std(axis=0) + 1e-3), 0.5, 1.5)
        pasted = (pasted - own.mean(axis=0)) * gain + (1 - weight) * own.mean(axis=0) + weight * behind.mean(axis=0)
    sigma = rng.uniform(0.3, 1.2)
    # Eroding first keeps the fringe of the old background, which polygons include, out of the picture.
    soft = cv2.erode(alpha, np.ones((3, 3), np.uint8)) if rng.random() < 0.5 else alpha
    soft = cv2.GaussianBlur(soft, (0, 0), sigma)[..., None].astype(np.float32) / 255
    return np.clip(pasted * soft + back * (1 - soft), 0, 255).astype(np.uint8)


def textured(rng: np.random.Generator, drawing: Image, texture: Image) -> Image:
    """A flat drawing with the grain of a photo and a shading gradient on it; both [H, W, 3] uint8."""
    height, width = drawing.shape[:2]
    grain = cv2.cvtColor(texture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grain = (grain - grain.mean()) / (grain.std() + 1) * rng.uniform(5, 30)
    angle = rng.uniform(0, 2 * np.pi)
    ramp_x, ramp_y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
    ramp = np.cos(angle) * ramp_x[None] + np.sin(angle) * ramp_y[:, None]
    tint = rng.uniform(0.7, 1.15, 3)
    shaded = drawing * tint * (1 + rng.uniform(0, 0.4) * ramp[..., None]) + grain[..., None]
    return np.clip(shaded, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Scene:
    """A photo, and the true mask of each instance that is asked for."""

    image: Image
    instances: list[Instance]
    masks: list[Mask]


def paste_scene(rng: np.random.Generator, photo: Photo, objects: Sequence[Cutout], drawings: Sequence[Cutout]) -> Scene:
    """Paste one to three cut-outs over a photo; later ones may hide parts of earlier ones.

    Each covers 12 to 60 % of the shorter side of the photo; one of which less than half stays visible is
    not asked for.
    """
    image = photo.rgb
    height, width = image.shape[:2]
    layers: list[tuple[Cutout, str, NDArray[np.bool_]]] = []
    for _ in range(int(rng.integers(1, 4))):
        drawn = bool(drawings) and rng.random() < 0.5
        pool = drawings if drawn else objects
        chosen = pool[int(rng.integers(len(pool)))]
        affine = _placement(rng, chosen, width, height)
        front, alpha = (
            warp(chosen.pyramid, affine, (width, height)),
            alpha_warp(chosen, affine, (width, height)),
        )
        if drawn:
            front = textured(rng, front, image)
        image = blend(rng, front, image, alpha)
        layers.append((chosen, "drawing" if drawn else "photo", alpha > 127))
    instances, masks = [], []
    hidden = np.zeros((height, width), np.bool_)
    for chosen, kind, full in reversed(layers):
        visible = full & ~hidden
        hidden |= full
        if visible.sum() < 0.5 * full.sum() or visible.sum() < 16:
            continue
        x, y, w, h = cv2.boundingRect(visible.astype(np.uint8))
        instances.append(Instance(chosen.name, kind, (float(x), float(y), float(x + w), float(y + h))))
        masks.append(Mask(x, y, visible[y : y + h, x : x + w]))
    return Scene(image, instances, masks)


def _placement(rng: np.random.Generator, chosen: Cutout, width: int, height: int) -> Affine:
    x0, y0, x1, y1 = bounds(chosen.outline, np.eye(2, 3))
    scale = rng.uniform(0.12, 0.6) * min(width, height) / max(x1 - x0, y1 - y0)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    w, h = (x1 - x0) * scale, (y1 - y0) * scale
    center_x, center_y = rng.uniform(w / 2, width - w / 2), rng.uniform(h / 2, height - h / 2)
    return np.array(
        [
            [flip * scale, 0, center_x - flip * scale * (x0 + x1) / 2],
            [0, scale, center_y - scale * (y0 + y1) / 2],
        ]
    )


def paste_scenes(seed: int, count: int, photos: Sequence[Photo], drawings: Sequence[Cutout]) -> Iterator[Scene]:
    """A reproducible set of pasted scenes: cut-outs of `photos`, and `drawings`, over `photos`."""
    objects = [candidate for photo in photos for candidate in photo.cutouts if is_whole(candidate)]
    if not objects:
        raise ValueError("no object of these photos is large and whole enough to be pasted")
    rng = np.random.default_rng(seed)
    for index in range(count):
        yield paste_scene(rng, photos[index % len(photos)], objects, drawings)
