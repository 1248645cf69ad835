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


def _legs(dice: Dice, hips: tuple[float, ...], top: float, foot: float, width: float, tone: int = BASE) -> list[Part]:
    """Legs from `top` down to `foot`, in the group of the body; each swings a little."""
    parts = []
    for x in hips:
        swing = dice.between(-0.05, 0.05)
        parts.append(
            solid(tube(at(x, top, x + swing / 2, (top + foot) / 2, x + swing, foot), width, width * 0.8), tone, 0, 1)
        )
    return parts


def _eye(x: float, y: float, level: int = 1) -> Part:
    return patch(ellipse(x, y, 0.025), DARK, level)


def dog(dice: Dice) -> list[Part]:
    """A long snout with a dark nose, hanging ears, the tail up."""
    tail = smooth(at(-0.4, -0.08, -0.52, -0.2, -0.54, -0.36 - dice.between(0, 0.1)), False)
    snout = dice.between(0.16, 0.2)
    parts = [
        solid(tube(tail, 0.08, 0.04), BASE, 0, 1),
        *_legs(dice, (-0.36, -0.24, 0.1, 0.22), 0.0, 0.46, 0.1),
        solid(
            smooth(
                at(-0.46, -0.06, -0.3, -0.16, 0.05, -0.13, 0.26, -0.18, 0.3, 0.06, 0.1, 0.16, -0.2, 0.12, -0.42, 0.16)
            ),
            BASE,
            0,
            1,
        ),
        solid(tube(at(0.18, -0.02, 0.34, -0.32), 0.22, 0.2), BASE, 0, 1),
        solid(ellipse(0.36, -0.34, 0.16, 0.15), BASE, 0, 1),
        solid(
            smooth(at(0.38, -0.4, 0.48 + snout / 2, -0.33, 0.48 + snout, -0.31, 0.47 + snout, -0.21, 0.4, -0.2)),
            BASE,
            0,
            1,
        ),
        solid(
            smooth(at(0.27, -0.46, 0.36, -0.4, 0.33, -0.14 + dice.between(-0.06, 0.04), 0.22, -0.16, 0.2, -0.34)),
            SECOND,
            0,
        ),
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
    tail = smooth(at(-0.36, 0.06, -0.52, 0.04, -0.56, -0.2, -0.46, -0.38, -0.46 + curl, -0.44), False)
    x, y = 0.32, dice.between(-0.3, -0.24)
    parts = [
        solid(tube(tail, 0.08, 0.06), BASE, 0, 1),
        *_legs(dice, (-0.32, -0.21, 0.12, 0.23), 0.06, 0.42, 0.09),
        solid(
            smooth(
                at(-0.42, 0.04, -0.3, -0.12, 0.0, -0.11, 0.24, -0.16, 0.32, 0.06, 0.12, 0.19, -0.2, 0.18, -0.4, 0.2)
            ),
            BASE,
            0,
            1,
        ),
        solid(at(x - 0.21, y - 0.04, x - 0.2, y - 0.31, x - 0.02, y - 0.17), BASE, 0, 2),
        solid(at(x + 0.02, y - 0.17, x + 0.2, y - 0.31, x + 0.21, y - 0.04), BASE, 0, 2),
        solid(ellipse(x, y, 0.22, 0.19), BASE, 0, 2),
        _eye(x - 0.08, y - 0.04),
        _eye(x + 0.09, y - 0.04),
        patch(at(x - 0.03, y + 0.03, x + 0.03, y + 0.03, x, y + 0.07), DARK, 1),
    ]
    for side in (-1, 1):
        for drop in (0.0, 0.06):
            parts.append(line(at(x + side * 0.08, y + 0.07, x + side * 0.26, y + 0.03 + drop), 0 if drop else 1, 0.015))
    if dice.chance(0.5):
        parts += [line(at(-0.3 + k, -0.12, -0.26 + k, 0.02), 2, 0.045, SECOND) for k in (0.0, 0.12, 0.24)]
    return parts


def horse(dice: Dice) -> list[Part]:
    """Long legs, a rising neck with a mane, a long head, a hanging tail."""
    rise = dice.between(0.0, 0.08)
    head = np.array([0.4, -0.44 - rise])
    tail = smooth(at(-0.38, -0.12, -0.5, -0.06, -0.5, 0.16, -0.54, 0.3), False)
    mane = smooth(at(0.1, -0.16, 0.16, -0.36, 0.3, -0.56 - rise, 0.4, -0.56 - rise, 0.32, -0.36, 0.22, -0.12))
    return [
        solid(tube(tail, 0.1, 0.07), SECOND, 0),
        *_legs(dice, (-0.33, -0.24, 0.16, 0.24), 0.0, 0.56, 0.08),
        solid(
            smooth(
                at(-0.42, -0.08, -0.26, -0.18, 0.04, -0.13, 0.24, -0.18, 0.3, 0.04, 0.1, 0.13, -0.2, 0.1, -0.4, 0.12)
            ),
            BASE,
            0,
            1,
        ),
        solid(mane, SECOND, 0),
        solid(np.concatenate([at(0.12, -0.1, 0.26, -0.44 - rise), at(0.44, -0.38 - rise, 0.3, 0.04)]), BASE, 0, 1),
        solid(np.concatenate([at(0.29, -0.47 - rise, 0.29, -0.64 - rise, 0.38, -0.55 - rise)]), BASE, 0, 1),
        solid(
            smooth(
                at(
                    0.28,
                    -0.5 - rise,
                    0.4,
                    -0.56 - rise,
                    0.64,
                    -0.34 - rise,
                    0.61,
                    -0.25 - rise,
                    0.54,
                    -0.24 - rise,
                    0.36,
                    -0.34 - rise,
                )
            ),
            BASE,
            0,
            1,
        ),
        _eye(head[0], head[1] - 0.03),
        line(at(0.58, -0.28 - rise, 0.52, -0.29 - rise), 2),
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
        solid(cloud(x - 0.05, y - 0.12, 0.11, 0.07, 5, 0.2), BASE),
    ]
    for cx, cy in ((-0.18, -0.05), (0.04, 0.06), (-0.02, -0.14), (-0.24, 0.1)):
        parts.append(line(arc(cx, cy, 0.06, 0.05, 180, 370, 8), 2, 0.02))
    return parts


def fish(dice: Dice) -> list[Part]:
    """A lens with a forked tail, fins, an eye and a gill."""
    ry, fork = dice.between(0.22, 0.3), dice.between(0.2, 0.28)
    body = smooth(
        at(
            0.55,
            0.0,
            0.38,
            -ry * 0.72,
            0.06,
            -ry,
            -0.26,
            -ry * 0.5,
            -0.36,
            0,
            -0.26,
            ry * 0.5,
            0.06,
            ry,
            0.38,
            ry * 0.72,
        )
    )
    parts = [
        solid(
            smooth(
                at(
                    -0.3,
                    0,
                    -0.42,
                    -0.06,
                    -0.6,
                    -fork,
                    -0.62,
                    -fork * 0.8,
                    -0.52,
                    0,
                    -0.62,
                    fork * 0.8,
                    -0.6,
                    fork,
                    -0.42,
                    0.06,
                )
            ),
            SECOND,
        ),
        solid(smooth(at(0.2, -ry * 0.8, 0.04, -ry - 0.14, -0.16, -ry - 0.1, -0.14, -ry * 0.6)), SECOND),
        solid(smooth(at(0.06, ry * 0.8, -0.06, ry + 0.12, -0.12, ry * 0.6)), SECOND),
        solid(body),
        patch(ellipse(0.38, -0.06, 0.045), LIGHT, 0),
        patch(ellipse(0.385, -0.06, 0.022), DARK, 1),
        line(arc(0.16, 0, 0.1, ry * 0.72, -70, 70), 1),
        line(at(0.52, 0.05, 0.44, 0.07), 2),
    ]
    parts += [
        line(arc(cx, cy, 0.06, 0.06, 110, 250, 7), 2, 0.02)
        for cx, cy in ((0.1, -0.08), (0.1, 0.08), (-0.03, 0), (-0.14, -0.07))
    ]
    return parts


def bird(dice: Dice) -> list[Part]:
    """A drop of a body with a round head and a beak, a wing, tail feathers, two thin legs."""
    tail, head = dice.between(-0.06, 0.1), dice.between(0.15, 0.18)
    wing = dice.between(-0.02, 0.08)
    body = smooth(at(-0.34, 0.0, -0.1, -0.16, 0.2, -0.22, 0.36, -0.1, 0.34, 0.1, 0.14, 0.26, -0.12, 0.22))
    return [
        *_legs(dice, (0.04, 0.15), 0.2, 0.46, 0.04, DARK),
        solid(at(-0.2, -0.06, -0.62, tail - 0.1, -0.66, tail + 0.02, -0.58, tail + 0.1, -0.2, 0.14), SECOND),
        solid(at(0.42, -0.34, 0.64, -0.25 + dice.between(-0.03, 0.03), 0.42, -0.2), DARK),
        solid(body, BASE, 0, 1),
        solid(ellipse(0.33, -0.26, head), BASE, 0, 1),
        patch(smooth(at(0.16, -0.06, 0.08, 0.12, -0.14, 0.14 + wing, -0.36, 0.12 + wing, -0.14, -0.06)), SECOND, 0),
        _eye(0.38, -0.3),
        line(at(0.0, 0.02, -0.2, 0.1), 2, 0.02),
        line(at(0.04, 0.07, -0.14, 0.14), 2, 0.02),
        patch(ellipse(0.385, -0.305, 0.01), LIGHT, 3),
    ]
