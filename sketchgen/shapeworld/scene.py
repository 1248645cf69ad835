"""Scenes: cluttered backgrounds, and the objects of a layout painted on them."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.layout import SHIFT, Placed, SceneObject, WorldConfig, fixed, place, scene_dice, seen
from sketchgen.shapeworld.shapes import BASE, DARK, LIGHT, SECOND, smooth, steps
from sketchgen.shapeworld.textures import SIDE, Tile, coats, grain, grounds

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]
JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class Scene:
    """rgb: [side, side, 3] uint8; objects from the farthest to the nearest."""

    rgb: Pixels
    objects: tuple[SceneObject, ...]


def make_scene(config: WorldConfig, index: int) -> Scene:
    """Scene `index` of the world: nothing but the settings and the index decide it."""
    placed = place(config, index)
    dice = scene_dice(config, index, "paint")
    rgb = _background(dice, config.side)
    light = dice.between(-1, 1), dice.between(0.3, 1)
    for one in placed:
        _paint(rgb, one, light, dice)
    return Scene(_grain(rgb, dice), tuple(seen(one) for one in placed))


def scene_file(config: WorldConfig, index: int) -> str:
    """What `render` takes: the name of a scene of this world."""
    return f"shapeworld/{config.split}/{index}"


def render(config: WorldConfig, file: str) -> bytes:
    """The scene of that name as a JPEG; the same bytes each time.

    Raises ValueError for a name that is no scene of this world.
    """
    place, _, number = file.rpartition("/")
    if place != f"shapeworld/{config.split}" or not number.isdecimal():
        raise ValueError(f"{file} is no scene of shapeworld/{config.split}: was the plan made with another split?")
    bgr = cv2.cvtColor(make_scene(config, int(number)).rgb, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def _colour(dice: Dice, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(dice.share(), dice.between(*saturation), dice.between(*value))
    return round(red * 255), round(green * 255), round(blue * 255)


def _crop(tile: Tile, height: int, width: int, dice: Dice) -> Tile:
    y, x = dice.whole(0, SIDE - height), dice.whole(0, SIDE - width)
    return tile[y : y + height, x : x + width]


def _background(dice: Dice, side: int) -> Pixels:
    """A texture between two colours, uneven light, blobs and lines that are no class."""
    grey = _crop(dice.among(grounds()), side, side, dice)
    if dice.chance(0.5):
        grey = grey.T if dice.chance(0.5) else grey[::-1]
    dark, bright = _colour(dice, (0.1, 0.7), (0.2, 0.6)), _colour(dice, (0.05, 0.5), (0.6, 1.0))
    rgb = cv2.applyColorMap(np.ascontiguousarray(grey), _ramp(dark, bright))
    wash = np.array([_colour(dice, (0.0, 0.5), (0.55, 1.0)) for _ in range(4)], np.uint8).reshape(2, 2, 3)
    rgb = cv2.multiply(rgb, cv2.resize(wash, (side, side), interpolation=cv2.INTER_LINEAR_EXACT), scale=1 / 190)
    _clutter(rgb, dice, side)
    return np.asarray(rgb)


def _ramp(dark: Colour, bright: Colour) -> Pixels:
    """A colour map [256, 1, 3] from one colour to another."""
    steps = np.arange(256)[:, None]
    return ((np.array(dark) * (255 - steps) + np.array(bright) * steps) // 255).astype(np.uint8)[:, None, :]


def _clutter(rgb: Pixels, dice: Dice, side: int) -> None:
    """Blobs, boxes and lines, some of them half transparent."""
    for _ in range(dice.whole(2, 7)):
        sheet = rgb.copy() if dice.chance(0.4) else rgb
        colour = _colour(dice, (0.1, 0.8), (0.2, 0.9))
        centre = np.array([dice.between(0, side), dice.between(0, side)])
        count = dice.whole(3, 8)
        turn = np.array(sorted(dice.between(0, 2 * np.pi) for _ in range(count)))
        reach = np.array([dice.between(0.05, 0.15) for _ in range(count)]) * side
        blob = centre + np.stack([np.cos(turn), np.sin(turn)], axis=1) * reach[:, None]
        if dice.chance(0.5):
            blob = smooth(blob)
        cv2.fillPoly(sheet, [fixed(blob)], colour, cv2.LINE_AA, SHIFT)
        if sheet is not rgb:
            cv2.addWeighted(sheet, 0.5, rgb, 0.5, 0, dst=rgb)
    for _ in range(dice.whole(1, 7)):  # from edge to edge: a thick one that ends in a blob would be a spoon
        near, far = (dice.whole(0, side), 0), (dice.whole(0, side), side)
        if dice.chance(0.5):
            near, far = near[::-1], far[::-1]
        cv2.line(rgb, near, far, _colour(dice, (0.1, 0.8), (0.1, 0.95)), dice.whole(1, max(2, side // 80)), cv2.LINE_AA)


def _grain(rgb: Pixels, dice: Dice) -> Pixels:
    """A little noise of a sensor."""
    noise = _crop(grain(), rgb.shape[0], rgb.shape[1], dice)
    return np.asarray(cv2.add(cv2.subtract(rgb, (6, 6, 6, 0)), noise))


def _palette(dice: Dice) -> tuple[Colour, Colour, Colour, Colour]:
    """Base, second, dark and light colour of one object; none of them tells its class."""
    base = _colour(dice, (0.15, 0.95), (0.5, 0.95))
    second = _colour(dice, (0.1, 0.9), (0.35, 0.95))
    dark = _colour(dice, (0.1, 0.6), (0.08, 0.25))
    light = _colour(dice, (0.0, 0.2), (0.85, 1.0))
    return base, second, dark, light


def _darker(colour: Colour, share: float) -> Colour:
    return tuple(int(value * share) for value in colour)  # type: ignore[return-value]


def _paint(rgb: Pixels, one: Placed, light: tuple[float, float], dice: Dice) -> None:
    """Shadow, then the object."""
    height, width = one.alpha.shape
    skin = _skin(one, dice)
    frame = max(height, width) // 8 + 1  # room for the shadow's soft edge
    soft = cv2.copyMakeBorder(one.alpha, frame, frame, frame, frame, cv2.BORDER_CONSTANT, value=(0,))
    soft = cv2.blur(soft, (2 * frame - 1, 2 * frame - 1))
    _shadow(rgb, soft, one.x - frame + round(-0.08 * light[0] * width), one.y - frame + round(0.08 * light[1] * height))
    inside = soft[frame:-frame, frame:-frame]
    away = (steps(width) - 0.5)[None, :] * light[0] + (steps(height) - 0.5)[:, None] * light[1]
    shade = np.clip(inside * 0.5 + 145 - 80 * away, 0, 255).astype(np.uint8)
    skin = cv2.multiply(skin, cv2.merge([shade] * 3), scale=1 / 190)
    area = rgb[one.y : one.y + height, one.x : one.x + width]
    area[:] = _blend(area, skin, one.alpha)


def _blend(below: Pixels, above: Pixels, alpha: Pixels) -> Pixels:
    weight = alpha.astype(np.uint16)[:, :, None]
    return ((below * (255 - weight) + above * weight + 127) // 255).astype(np.uint8)


def _shadow(rgb: Pixels, soft: Pixels, x: int, y: int) -> None:
    """A soft shadow with its corner at (x, y); what falls out of the scene is cut off."""
    part = soft[max(-y, 0) : rgb.shape[0] - y, max(-x, 0) : rgb.shape[1] - x]
    x, y = max(x, 0), max(y, 0)
    area = rgb[y : y + part.shape[0], x : x + part.shape[1]]
    keep = 255 - part // 2
    area[:] = cv2.multiply(area, cv2.merge([keep] * 3), scale=1 / 255)


def _skin(one: Placed, dice: Dice) -> Pixels:
    """The object's colours [h, w, 3], not shaded yet: solids under a texture, marks on top."""
    height, width = one.alpha.shape
    colours = _palette(dice)
    canvas = np.empty((2 * height, 2 * width, 3), np.uint8)
    cv2.rectangle(canvas, (0, 0), (2 * width, 2 * height), _darker(colours[BASE], 0.8), -1)
    parts = list(zip(one.parts, one.corners, strict=True))
    for part, corners in parts:
        if part.solid:
            cv2.fillPoly(canvas, [corners], colours[part.tone], cv2.LINE_8, SHIFT)
            if part.group == 0:
                edge = _darker(colours[part.tone], 0.55)
                cv2.polylines(canvas, [corners], True, edge, max(1, height // 28), cv2.LINE_8, SHIFT)
    coat = _crop(dice.among(coats()), 2 * height, 2 * width, dice)
    cv2.multiply(canvas, coat, dst=canvas, scale=1 / 128)
    for part, corners in parts:
        if part.closed and not part.solid:
            cv2.fillPoly(canvas, [corners], colours[part.tone], cv2.LINE_8, SHIFT)
        elif not part.solid:
            thick = max(1, round(part.width * (height + width) * 0.9))
            cv2.polylines(canvas, [corners], False, colours[part.tone], thick, cv2.LINE_8, SHIFT)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA))


assert (BASE, SECOND, DARK, LIGHT) == (0, 1, 2, 3)  # the order of a palette
