"""Textures: grey tiles, made once a process from fixed seeds, that backgrounds and objects are cut from.

Only whole-number operations of OpenCV make them, so that they are the same on every machine.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.shapeworld.dice import Dice

Tile = NDArray[np.uint8]
SIDE = 640
"""Side of a tile, pixels."""


@cache
def grounds() -> tuple[Tile, ...]:
    """Tiles [SIDE, SIDE] of backgrounds: clouds, grass, wood, floor tiles, bricks, cloth, gravel, bokeh."""
    makers = (_clouds, _grass, _wood, _floor, _bricks, _cloth, _gravel, _bokeh)
    return tuple(make(Dice("ground", make.__name__, n)) for make in makers for n in range(2))


@cache
def coats() -> tuple[Tile, ...]:
    """Tiles [SIDE, SIDE, 3] of objects, grey, around 128: plain, noise, stripes, dots, checks."""
    dice = Dice("coat")
    plain = np.full((SIDE, SIDE), 128, np.uint8)
    tiles = [plain, plain, _faint(_noise(dice, 8), 0.5), _faint(_noise(dice, 24), 0.6), _faint(_grass(dice), 0.4)]
    for pitch in (10, 16, 24):
        tiles.append(_faint(_stripes(pitch, dice.between(0, 180)), 0.3))
        tiles.append(_faint(_dots(pitch + 4), 0.3))
    tiles.append(_faint(_checks(20), 0.25))
    return tuple(cv2.merge([tile] * 3) for tile in tiles)


@cache
def grain() -> Tile:
    """Noise [SIDE, SIDE, 3] of 0 to 12 in each channel."""
    return Dice("grain").array().integers(0, 13, (SIDE, SIDE, 3), np.uint8)


def _faint(tile: Tile, strength: float) -> Tile:
    """Its contrast around 128 scaled."""
    shifted = (tile.astype(np.int32) - 128) * round(strength * 256) // 256
    return np.clip(shifted + 128, 0, 255).astype(np.uint8)


def _noise(dice: Dice, grain: int) -> Tile:
    """Smooth noise, blobs of about `grain` pixels."""
    small = dice.array().integers(0, 256, (SIDE // grain + 2, SIDE // grain + 2), np.uint8)
    return np.asarray(cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR_EXACT))


def _mean(*tiles: Tile) -> Tile:
    return (np.sum([tile.astype(np.int32) for tile in tiles], axis=0) // len(tiles)).astype(np.uint8)


def _clouds(dice: Dice) -> Tile:
    return _mean(_noise(dice, 160), _noise(dice, 160), _noise(dice, 60), _noise(dice, 20))


def _gravel(dice: Dice) -> Tile:
    return _mean(_noise(dice, 4), _noise(dice, 8), _noise(dice, 90))


def _cloth(dice: Dice) -> Tile:
    ramp = np.arange(SIDE) * dice.whole(24, 40)
    weave = (np.abs(ramp[:, None] % 256 - 128) + np.abs(ramp[None, :] % 256 - 128)).astype(np.uint8)
    return _mean(weave, _noise(dice, 100), _noise(dice, 3))


def _grass(dice: Dice) -> Tile:
    """Short blades, most of them upright."""
    tile = _mean(_noise(dice, 80), _noise(dice, 12))
    for _ in range(7000):
        x, y = dice.whole(0, SIDE), dice.whole(0, SIDE)
        end = (x + dice.whole(-5, 5), y - dice.whole(5, 14))
        cv2.line(tile, (x, y), end, dice.whole(20, 235), 1)
    return tile


def _wood(dice: Dice) -> Tile:
    """Planks with a grain along them."""
    tile = np.full((SIDE, SIDE), 128, np.uint8)
    height = dice.whole(46, 80)
    for top in range(0, SIDE, height):
        strip = dice.array().integers(40, 216, (height // 3 + 2, SIDE // 80 + 2), np.uint8)
        plank = cv2.resize(strip, (SIDE, height), interpolation=cv2.INTER_LINEAR_EXACT)
        plank = _mean(plank, np.full_like(plank, dice.whole(70, 190)))
        tile[top : top + height] = plank[: SIDE - top]
        tile[top : top + 2] = 30
        x = dice.whole(0, SIDE)
        tile[top : top + height, x : x + 2] = 40
    return tile


def _floor(dice: Dice) -> Tile:
    """Square tiles of two greys with joints."""
    tile, size, joint = _noise(dice, 70), dice.whole(34, 60), dice.whole(20, 220)
    greys = dice.whole(60, 120), dice.whole(140, 210)
    for row, y in enumerate(range(0, SIDE, size)):
        for col, x in enumerate(range(0, SIDE, size)):
            part = tile[y : y + size, x : x + size]
            part[:] = part // 5 + greys[(row + col) % 2] * 4 // 5
    tile[::size], tile[:, ::size] = joint, joint
    return tile


def _bricks(dice: Dice) -> Tile:
    """Rows of bricks, each row half a brick aside."""
    tile = np.full((SIDE, SIDE), dice.whole(170, 230), np.uint8)
    width, height = dice.whole(44, 64), dice.whole(20, 28)
    for row, y in enumerate(range(0, SIDE, height)):
        for x in range(-(row % 2) * width // 2, SIDE, width):
            tile[y + 2 : y + height, max(x + 2, 0) : x + width] = dice.whole(70, 140)
    return _mean(tile, tile, _noise(dice, 6))


def _bokeh(dice: Dice) -> Tile:
    """Soft discs of light."""
    tile = _mean(_noise(dice, 200), np.full((SIDE, SIDE), 60, np.uint8))
    for _ in range(150):
        layer = tile.copy()
        centre, radius = (dice.whole(0, SIDE), dice.whole(0, SIDE)), dice.whole(8, 40)
        cv2.circle(layer, centre, radius, dice.whole(110, 255), -1)
        tile = _mean(tile, layer)
    return np.asarray(cv2.blur(tile, (5, 5)))


def _stripes(pitch: int, angle: float) -> Tile:
    tile = np.zeros((SIDE, SIDE), np.uint8)
    step = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    along = np.array([-step[1], step[0]]) * 2 * SIDE
    for n in range(-SIDE // pitch - 20, SIDE // pitch + 20):
        middle = SIDE / 2 + step * n * pitch
        a, b = np.rint(middle - along).astype(int).tolist(), np.rint(middle + along).astype(int).tolist()
        cv2.line(tile, a, b, 255, pitch // 2)
    return tile


def _dots(pitch: int) -> Tile:
    tile = np.zeros((SIDE, SIDE), np.uint8)
    for row, y in enumerate(range(0, SIDE, pitch)):
        for x in range((row % 2) * pitch // 2, SIDE, pitch):
            cv2.circle(tile, (x, y), pitch // 4, 255, -1)
    return tile


def _checks(size: int) -> Tile:
    y, x = np.indices((SIDE, SIDE)) // size
    return ((x + y) % 2 * 255).astype(np.uint8)
