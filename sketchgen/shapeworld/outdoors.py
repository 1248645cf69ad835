"""Outdoors: plants, and what stands or is carried there."""

from __future__ import annotations

import numpy as np

from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.shapes import (
    DARK,
    LIGHT,
    SECOND,
    Part,
    arc,
    at,
    cloud,
    ellipse,
    line,
    moved,
    patch,
    rectangle,
    smooth,
    solid,
    tube,
    turned,
)

CROSS = 1
"""Group of the two bars of a cross."""


def leaf(dice: Dice) -> list[Part]:
    """An almond with a stem, a midrib and veins; lies across."""
    wide, tip = dice.between(0.22, 0.29), dice.between(0.5, 0.58)
    belly = dice.between(-0.14, 0.06)
    upper = at(tip, 0, belly + 0.3, -wide * 0.72, belly, -wide, belly - 0.22, -wide * 0.6, -0.44, -0.02)
    outline = np.concatenate([smooth(upper, False), smooth(upper[::-1] * (1, -1), False)])
    bend = dice.between(-0.1, 0.1)
    parts = [
        solid(tube(smooth(at(-0.42, 0, -0.56, bend / 2, -0.68, bend), False), 0.05, 0.06), DARK),
        solid(outline),
        line(at(-0.44, 0, tip - 0.06, 0), 0, 0.03),
    ]
    for x in (-0.24, -0.04, 0.16):
        reach = wide * (0.62 - abs(x - belly) * 0.6)
        parts += [line(at(x, 0, x + 0.16, side * reach), 1, 0.02) for side in (-1, 1)]
    return moved(parts, turned(np.eye(2), dice.between(-52, -38)))


def tree(dice: Dice) -> list[Part]:
    """A trunk under a leafy crown, or under the three tiers of a fir."""
    wide = dice.between(0.12, 0.18)
    if dice.chance(0.3):
        half = dice.between(0.3, 0.36)
        tiers = [
            at(0, top, half * size, low, -half * size, low)
            for top, low, size in ((-0.28, 0.34, 1.0), (-0.42, 0.1, 0.82), (-0.56, -0.14, 0.6))
        ]
        return [solid(rectangle(-wide / 2, 0.3, wide / 2, 0.54), DARK), *[solid(tier) for tier in tiers]]
    rx, ry = dice.between(0.36, 0.44), dice.between(0.3, 0.38)
    trunk = at(-wide / 2, -0.1, -wide / 2, 0.38, -wide, 0.54, wide, 0.54, wide / 2, 0.38, wide / 2, -0.1)
    parts = [
        solid(trunk, SECOND),
        solid(cloud(0, -0.2, rx, ry, dice.whole(7, 9), dice.between(0.14, 0.22), dice.between(0, 0.6))),
        line(at(0.01, 0.22, 0.0, 0.48), 2, 0.02),
    ]
    for x, y in ((-0.2, -0.2), (0.02, -0.36), (0.16, -0.22), (-0.04, -0.08)):
        parts.append(line(arc(x, y, 0.08, 0.07, 200, 340, 8), 1, 0.025))
    return parts


def mushroom(dice: Dice) -> list[Part]:
    """A dotted cap, round above and flat below, on a thick stem."""
    half, high, wide = dice.between(0.44, 0.52), dice.between(0.4, 0.5), dice.between(0.11, 0.16)
    cap = np.concatenate([arc(0, 0, half, high, 180, 360, 19), arc(0, 0, half, dice.between(0.06, 0.1), 0, 180, 11)])
    stem = at(-wide, 0.02, -wide, 0.26, -wide - 0.05, 0.46, wide + 0.05, 0.46, wide, 0.26, wide, 0.02)
    parts = [solid(smooth(stem), LIGHT), solid(cap)]
    for x, y, r in ((-0.24, -0.12, 0.06), (0.02, -0.26, 0.08), (0.25, -0.1, 0.055), (-0.02, -0.06, 0.05)):
        parts.append(
            patch(ellipse(x + dice.between(-0.03, 0.03), y * high / 0.45, r, r * 0.85), LIGHT, 1 if r > 0.055 else 2)
        )
    parts.append(line(at(-wide * 0.5, 0.14, -wide * 0.5, 0.36), 2, 0.02))
    return parts


def umbrella(dice: Dice) -> list[Part]:
    """A canopy with a scalloped hem and ribs, on a thin pole that ends in a hook."""
    half, high = dice.between(0.5, 0.56), dice.between(0.38, 0.46)
    bumps = dice.whole(3, 4)
    step = 2 * half / bumps
    hem = [arc(half - step * (n + 0.5), 0, step / 2, 0.09, 0, -180, 8) for n in range(bumps)]
    hook = arc(0.09, 0.42, 0.09, 0.1, 180, 0, 9)
    pole = np.concatenate([at(0, -0.1, 0, 0.3), hook])
    parts = [
        solid(tube(pole, 0.055), DARK),
        solid(rectangle(-0.02, -high - 0.1, 0.02, -high + 0.03), DARK),
        solid(np.concatenate([arc(0, 0, half, high, 180, 360, 19), *hem])),
    ]
    for n in range(1, bumps):
        x = half - step * n
        parts.append(line(smooth(at(0, -high, x * 0.7, -high * 0.6, x, 0), False), 1, 0.025))
    return parts


def house(dice: Dice) -> list[Part]:
    """Walls under a gable roof, a door, windows, mostly a chimney."""
    half, eave, top = dice.between(0.36, 0.44), dice.between(-0.14, -0.04), dice.between(-0.56, -0.46)
    parts = []
    if dice.chance(0.7):
        x = half * 0.55
        parts.append(solid(rectangle(x, top + 0.04, x + 0.12, eave), DARK))
    door = dice.among((-0.22, 0.0, 0.18))
    parts += [
        solid(rectangle(-half, eave, half, 0.46)),
        solid(at(-half - 0.1, eave, 0, top, half + 0.1, eave), SECOND),
        patch(rectangle(door - 0.08, 0.16, door + 0.08, 0.46), DARK, 0),
        patch(ellipse(door + 0.05, 0.32, 0.015), LIGHT, 3),
    ]
    for x in (-0.24, 0.24):
        if abs(x - door) > 0.2:
            parts += [
                patch(rectangle(x - 0.09, 0.08, x + 0.09, 0.25), LIGHT, 1),
                line(at(x, 0.08, x, 0.25), 2, 0.02),
                line(at(x - 0.09, 0.165, x + 0.09, 0.165), 2, 0.02),
            ]
    return parts


def tent(dice: Dice) -> list[Part]:
    """A triangle on the ground with an open flap, and its side slanting away."""
    half, top, depth = dice.between(0.36, 0.44), dice.between(-0.42, -0.34), dice.between(0.22, 0.34)
    x = -0.16
    parts = [
        solid(at(x, top, x + depth + 0.1, top + 0.06, x + half + depth, 0.3, x + half, 0.36), SECOND),
        solid(at(x, top, x + half, 0.36, x - half, 0.36)),
        patch(at(x, top + 0.2, x + half * 0.36, 0.36, x - half * 0.36, 0.36), DARK, 0),
        line(at(x, top, x, top + 0.2), 1, 0.02),
        line(at(x + half + depth * 0.3, 0.34, x + depth * 0.5, top + 0.03), 2, 0.02),
    ]
    if dice.chance(0.5):
        parts.insert(0, solid(tube(at(x - 0.03, top + 0.08, x + 0.03, top - 0.1), 0.04), DARK))
    return parts


def church(dice: Dice) -> list[Part]:
    """A nave beside a tower with a spire and a cross."""
    roof, spire, wide = dice.between(-0.16, -0.08), dice.between(-0.42, -0.36), dice.between(0.13, 0.16)
    x = -0.26
    cross = spire - 0.06
    arch = np.concatenate([arc(x, 0.24, 0.07, 0.1, 180, 360, 9), at(x + 0.07, 0.46, x - 0.07, 0.46)])
    parts = [
        solid(rectangle(x - 0.02, cross - 0.16, x + 0.02, cross + 0.1), DARK, 0, CROSS),
        solid(rectangle(x - 0.09, cross - 0.11, x + 0.09, cross - 0.07), DARK, 0, CROSS),
        solid(rectangle(x, 0.1, 0.46, 0.46)),
        solid(at(x, 0.1, x + 0.1, roof - 0.06, 0.38, roof - 0.06, 0.52, 0.1), SECOND),
        solid(rectangle(x - wide, -0.14, x + wide, 0.46)),
        solid(at(x - wide - 0.04, -0.14, x, spire - 0.06, x + wide + 0.04, -0.14), SECOND),
        patch(arch, DARK, 0),
        patch(ellipse(x, 0.0, 0.055), LIGHT, 1),
    ]
    for window in (0.1, 0.3):
        pane = np.concatenate(
            [arc(window, 0.24, 0.05, 0.07, 180, 360, 7), at(window + 0.05, 0.38, window - 0.05, 0.38)]
        )
        parts.append(patch(pane, LIGHT, 1 if window < 0.2 else 2))
    return parts
