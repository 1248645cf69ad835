"""Animals, seen from the side, looking to the right."""

from __future__ import annotations

import numpy as np

from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.shapes import (
    BASE,
    DARK,
    LIGHT,
    SECOND,
    Part,
    arc,
    at,
    cloud,
    ellipse,
    line,
    patch,
    smooth,
    solid,
    tube,
)

BODY, HEAD = 1, 2
"""Groups: what flows together."""


def _legs(dice: Dice, hips: tuple[float, ...], top: float, foot: float, width: float, tone: int = BASE) -> list[Part]:
    """Legs from `top` down to `foot`, in the group of the body; each swings a little."""
    parts = []
    for x in hips:
        swing = dice.between(-0.05, 0.05)
        middle = at(x, top, x + swing / 2, (top + foot) / 2, x + swing, foot)
        parts.append(solid(tube(middle, width, width * 0.8), tone, 0, BODY))
    return parts


def _eye(x: float, y: float) -> Part:
    return patch(ellipse(x, y, 0.025), DARK, 1)


def dog(dice: Dice) -> list[Part]:
    """A long snout with a dark nose, hanging ears, the tail up."""
    snout, lobe = dice.between(0.16, 0.2), dice.between(-0.2, -0.1)
    tail = smooth(at(-0.4, -0.08, -0.52, -0.2, -0.54, -0.36 - dice.between(0, 0.1)), closed=False)
    trunk = at(-0.46, -0.06, -0.3, -0.16, 0.05, -0.13, 0.26, -0.18, 0.3, 0.06, 0.1, 0.16, -0.2, 0.12, -0.42, 0.16)
    muzzle = at(0.38, -0.4, 0.48 + snout / 2, -0.33, 0.48 + snout, -0.31, 0.47 + snout, -0.21, 0.4, -0.2)
    parts = [
        solid(tube(tail, 0.08, 0.04), BASE, 0, BODY),
        *_legs(dice, (-0.36, -0.24, 0.1, 0.22), 0.0, 0.46, 0.1),
        solid(smooth(trunk), BASE, 0, BODY),
        solid(tube(at(0.18, -0.02, 0.34, -0.32), 0.22, 0.2), BASE, 0, BODY),
        solid(ellipse(0.36, -0.34, 0.16, 0.15), BASE, 0, BODY),
        solid(smooth(muzzle), BASE, 0, BODY),
        solid(smooth(at(0.27, -0.46, 0.36, -0.4, 0.33, lobe, 0.22, -0.16, 0.2, -0.34)), SECOND),
        patch(ellipse(0.48 + snout, -0.3, 0.045), DARK, 0),
        _eye(0.42, -0.38),
        line(at(0.46 + snout, -0.22, 0.44, -0.23), 2),
    ]
    if dice.chance(0.6):
        parts.append(line(at(0.18, -0.16, 0.3, -0.06), 1, 0.05, SECOND))
    return parts


def cat(dice: Dice) -> list[Part]:
    """A round head with two pointed ears and whiskers, a long tail that curls up."""
    curl = dice.between(0.06, 0.14)
    x, y = 0.32, dice.between(-0.3, -0.24)
    tail = smooth(at(-0.36, 0.06, -0.52, 0.04, -0.56, -0.2, -0.46, -0.38, -0.46 + curl, -0.44), closed=False)
    trunk = at(-0.42, 0.04, -0.3, -0.12, 0.0, -0.11, 0.24, -0.16, 0.32, 0.06, 0.12, 0.19, -0.2, 0.18, -0.4, 0.2)
    parts = [
        solid(tube(tail, 0.08, 0.06), BASE, 0, BODY),
        *_legs(dice, (-0.32, -0.21, 0.12, 0.23), 0.06, 0.42, 0.09),
        solid(smooth(trunk), BASE, 0, BODY),
        solid(at(x - 0.21, y - 0.04, x - 0.2, y - 0.31, x - 0.02, y - 0.17), BASE, 0, HEAD),
        solid(at(x + 0.02, y - 0.17, x + 0.2, y - 0.31, x + 0.21, y - 0.04), BASE, 0, HEAD),
        solid(ellipse(x, y, 0.22, 0.19), BASE, 0, HEAD),
        _eye(x - 0.08, y - 0.04),
        _eye(x + 0.09, y - 0.04),
        patch(at(x - 0.03, y + 0.03, x + 0.03, y + 0.03, x, y + 0.07), DARK, 1),
    ]
    for side in (-1, 1):
        for drop, level in ((0.0, 1), (0.06, 0)):
            parts.append(line(at(x + side * 0.08, y + 0.07, x + side * 0.26, y + 0.03 + drop), level, 0.015))
    if dice.chance(0.5):
        parts += [line(at(-0.3 + k, -0.12, -0.26 + k, 0.02), 2, 0.045, SECOND) for k in (0.0, 0.12, 0.24)]
    return parts


def horse(dice: Dice) -> list[Part]:
    """Long legs, a rising neck with a mane, a long head, a hanging tail."""
    y = -0.44 - dice.between(0.0, 0.08)  # of the head
    tail = smooth(at(-0.38, -0.12, -0.5, -0.06, -0.5, 0.16, -0.54, 0.3), closed=False)
    trunk = at(-0.42, -0.08, -0.26, -0.18, 0.04, -0.13, 0.24, -0.18, 0.3, 0.04, 0.1, 0.13, -0.2, 0.1, -0.4, 0.12)
    mane = at(0.1, -0.16, 0.16, -0.36, 0.3, y - 0.12, 0.4, y - 0.12, 0.32, -0.36, 0.22, -0.12)
    head = at(0.28, y - 0.06, 0.4, y - 0.12, 0.64, y + 0.1, 0.61, y + 0.19, 0.54, y + 0.2, 0.36, y + 0.1)
    return [
        solid(tube(tail, 0.1, 0.07), SECOND),
        *_legs(dice, (-0.33, -0.24, 0.16, 0.24), 0.0, 0.56, 0.08),
        solid(smooth(trunk), BASE, 0, BODY),
        solid(smooth(mane), SECOND),
        solid(at(0.12, -0.1, 0.26, y, 0.44, y + 0.06, 0.3, 0.04), BASE, 0, BODY),
        solid(at(0.29, y - 0.03, 0.29, y - 0.2, 0.38, y - 0.11), BASE, 0, BODY),
        solid(smooth(head), BASE, 0, BODY),
        _eye(0.4, y - 0.03),
        line(at(0.58, y + 0.16, 0.52, y + 0.15), 2),
        line(at(0.18, -0.28, 0.27, -0.36), 2),
    ]


def sheep(dice: Dice) -> list[Part]:
    """A woolly cloud on four thin legs, a small dark face with an ear."""
    rx, ry = dice.between(0.4, 0.45), dice.between(0.27, 0.31)
    x, y = rx + 0.03, dice.between(-0.16, -0.06)
    parts = [
        *_legs(dice, (-0.24, -0.12, 0.12, 0.24), 0.14, 0.46, 0.07, DARK),
        solid(cloud(0, 0, rx, ry, dice.whole(9, 12), dice.between(0.16, 0.24), dice.between(0, 0.5))),
        solid(ellipse(x - 0.1, y - 0.03, 0.11, 0.05, 200), DARK),
        solid(ellipse(x, y + 0.04, 0.11, 0.16, -24), DARK),
        patch(ellipse(x + 0.03, y, 0.025), LIGHT, 1),
        solid(cloud(x - 0.05, y - 0.12, 0.11, 0.07, 5, 0.2)),
    ]
    for curl in ((-0.18, -0.05), (0.04, 0.06), (-0.02, -0.14), (-0.24, 0.1)):
        parts.append(line(arc(*curl, 0.06, 0.05, 180, 370, 8), 2, 0.02))
    return parts


def fish(dice: Dice) -> list[Part]:
    """A lens with a forked tail, fins, an eye and a gill."""
    ry, fork = dice.between(0.22, 0.3), dice.between(0.2, 0.28)
    back = at(0.55, 0, 0.38, -ry * 0.72, 0.06, -ry, -0.26, -ry * 0.5, -0.36, 0)
    tail = at(-0.3, 0, -0.42, -0.06, -0.6, -fork, -0.62, -fork * 0.8, -0.52, 0)
    parts = [
        solid(smooth(np.concatenate([tail, tail[3:0:-1] * (1, -1)])), SECOND),
        solid(smooth(at(0.2, -ry * 0.8, 0.04, -ry - 0.14, -0.16, -ry - 0.1, -0.14, -ry * 0.6)), SECOND),
        solid(smooth(at(0.06, ry * 0.8, -0.06, ry + 0.12, -0.12, ry * 0.6)), SECOND),
        solid(smooth(np.concatenate([back, back[3:0:-1] * (1, -1)]))),
        patch(ellipse(0.38, -0.06, 0.045), LIGHT, 0),
        patch(ellipse(0.385, -0.06, 0.022), DARK, 1),
        line(arc(0.16, 0, 0.1, ry * 0.72, -70, 70), 1),
        line(at(0.52, 0.05, 0.44, 0.07), 2),
    ]
    for scale in ((0.1, -0.08), (0.1, 0.08), (-0.03, 0.0), (-0.14, -0.07)):
        parts.append(line(arc(*scale, 0.06, 0.06, 110, 250, 7), 2, 0.02))
    return parts


def bird(dice: Dice) -> list[Part]:
    """A drop of a body with a round head and a beak, a wing, tail feathers, two thin legs."""
    tail, beak, wing = dice.between(-0.06, 0.1), dice.between(-0.28, -0.22), dice.between(0.1, 0.2)
    trunk = at(-0.34, 0.0, -0.1, -0.16, 0.2, -0.22, 0.36, -0.1, 0.34, 0.1, 0.14, 0.26, -0.12, 0.22)
    return [
        *_legs(dice, (0.04, 0.15), 0.2, 0.46, 0.04, DARK),
        solid(at(-0.2, -0.06, -0.62, tail - 0.1, -0.66, tail + 0.02, -0.58, tail + 0.1, -0.2, 0.14), SECOND),
        solid(at(0.42, -0.34, 0.64, beak, 0.42, -0.2), DARK),
        solid(smooth(trunk), BASE, 0, BODY),
        solid(ellipse(0.33, -0.26, dice.between(0.15, 0.18)), BASE, 0, BODY),
        patch(smooth(at(0.16, -0.06, 0.08, 0.12, -0.14, wing + 0.02, -0.36, wing, -0.14, -0.06)), SECOND, 0),
        _eye(0.38, -0.3),
        line(at(0.0, 0.02, -0.2, 0.1), 2, 0.02),
        line(at(0.04, 0.07, -0.14, 0.14), 2, 0.02),
    ]
