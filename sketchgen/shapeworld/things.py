"""Things: fruit and round ones, vessels, and the long ones with a head. Each function draws its own variation."""

from __future__ import annotations

import numpy as np

from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.shapes import (
    BASE,
    DARK,
    LIGHT,
    SECOND,
    Part,
    Points,
    arc,
    at,
    ellipse,
    line,
    mirrored_outline,
    moved,
    patch,
    rectangle,
    rounded,
    smooth,
    solid,
    tube,
    turned,
)


def apple(dice: Dice) -> list[Part]:
    """Broad, dipped at the top and a little at the bottom, with a stem in the dip and a leaf."""
    w, foot = dice.between(0.46, 0.54), dice.between(0.26, 0.34)
    right = at(0, -0.3, 0.16, -0.43, 0.36, -0.4, w, -0.16, w - 0.04, 0.12, foot, 0.4, 0.12, 0.47, 0, 0.42)
    lean = dice.between(-0.1, 0.14)
    leaf = at(0.03, -0.5, 0.2, -0.68, 0.4, -0.66, 0.3, -0.5, 0.14, -0.45)
    return [
        solid(tube(at(0, -0.26, lean / 2, -0.46, lean, -0.64), 0.06, 0.08), DARK),
        solid(smooth(leaf) * (dice.among((-1, 1)), 1), SECOND),
        solid(smooth(mirrored_outline(right))),
        line(arc(0, -0.36, 0.13, 0.09, 15, 165), 1),
        line(arc(-0.02, 0.04, 0.34, 0.32, 150, 225), 2, tone=LIGHT),
    ]


def pear(dice: Dice) -> list[Part]:
    """A narrow shoulder over a heavy belly, a stem, sometimes a leaf."""
    w, neck = dice.between(0.37, 0.45), dice.between(0.14, 0.19)
    right = at(0, -0.47, 0.12, -0.43, neck, -0.26, neck + 0.07, -0.06, w, 0.16, w - 0.03, 0.38, 0.2, 0.51, 0, 0.53)
    lean = dice.between(-0.12, 0.12)
    parts = [solid(tube(at(0, -0.4, lean / 2, -0.56, lean, -0.68), 0.06, 0.08), DARK)]
    if dice.chance(0.4):
        parts.append(solid(smooth(at(0.02, -0.52, 0.14, -0.64, 0.32, -0.6, 0.2, -0.5)), SECOND))
    parts += [
        solid(smooth(mirrored_outline(right))),
        line(arc(-0.06, 0.2, 0.26, 0.22, 110, 215), 1, tone=LIGHT),
        line(at(-0.05, 0.49, 0, 0.45, 0.05, 0.49), 2),
    ]
    return parts


def ball(dice: Dice) -> list[Part]:
    """A circle with seams: beach ball, basketball or tennis ball."""
    kind, turn = dice.whole(0, 2), dice.between(-20, 20)
    parts = [solid(ellipse(0, 0, 0.5))]
    if kind == 0:  # panels from a pole
        pole = np.array([dice.between(0.1, 0.2), -0.12])
        rays = [_panel(pole, angle) for angle in (20, 92, 164, 236, 308)]
        for first, second in ((0, 1), (2, 3)):
            between = arc(0, 0, 0.5, 0.5, 20 + 72 * first, 20 + 72 * second)
            parts.append(patch(np.concatenate([rays[first], between, rays[second][::-1]]), SECOND, 3))
        parts += [line(ray, 0) for ray in rays]
        parts.append(patch(ellipse(pole[0], pole[1], 0.06), DARK, 2))
    elif kind == 1:  # a cross and two arcs
        bend = dice.between(0.2, 0.28)
        parts += [
            line(at(-0.5, 0, 0.5, 0), 0),
            line(at(0, -0.5, 0, 0.5), 0),
            line(arc(-0.55, 0, bend + 0.06, 0.42, -62, 62), 1),
            line(arc(0.55, 0, bend + 0.06, 0.42, 118, 242), 1),
        ]
    else:  # two seams that bend away from each other
        parts += [
            line(arc(-0.6, 0, 0.42, 0.46, -60, 60), 0, 0.05, LIGHT),
            line(arc(0.6, 0, 0.42, 0.46, 120, 240), 0, 0.05, LIGHT),
        ]
    return moved(parts, _turn(turn))


def _panel(pole: Points, angle: float) -> Points:
    end = arc(0, 0, 0.5, 0.5, angle, angle, 1)[0]
    middle = (pole + end) / 2 + (end - pole)[::-1] * (0.12, -0.12)
    return smooth(np.stack([pole, middle, end]), closed=False)


def _turn(degrees: float) -> Points:
    return turned(np.eye(2), degrees)


def clock(dice: Dice) -> list[Part]:
    """A rim, a pale face with ticks, two hands; half of them alarm clocks with bells and feet."""
    parts = []
    if dice.chance(0.5):
        tilt = dice.between(24, 34)
        for side in (-1, 1):
            foot = turned(rectangle(-0.04, 0.4, 0.04, 0.62), -side * 30)
            bell = turned(
                np.concatenate([arc(0, -0.5, 0.17, 0.15, 180, 360, 9), at(0.17, -0.47, -0.17, -0.47)]), side * tilt
            )
            parts += [solid(foot, DARK), solid(bell, SECOND)]
    parts += [solid(ellipse(0, 0, 0.5)), patch(ellipse(0, 0, dice.between(0.39, 0.43)), LIGHT, 1)]
    ticks = dice.among((4, 12))
    for number in range(ticks):
        parts.append(line(turned(at(0, -0.37, 0, -0.31), number * 360 / ticks), 2, 0.03))
    hour = dice.between(0, 360)
    minute = hour + dice.between(60, 300)
    parts += [
        line(turned(at(0, 0.02, 0, -0.2), hour), 0, 0.055),
        line(turned(at(0, 0.02, 0, -0.31), minute), 0, 0.04),
        patch(ellipse(0, 0, 0.04), DARK, 2),
    ]
    return parts


def cup(dice: Dice) -> list[Part]:
    """Low and open, its handle an ear at one side; sometimes on a saucer."""
    top, foot, high = dice.between(0.34, 0.4), dice.between(0.22, 0.34), dice.between(0.56, 0.68)
    mouth = dice.between(0.07, 0.11)
    ear = arc(top - 0.06, high * 0.44, dice.between(0.22, 0.27), high * 0.3, -95, 100)
    side = smooth(at(top, 0, (top + foot) / 2 + 0.05, high * 0.6, foot, high), closed=False)
    other = side[::-1] * (-1, 1)
    parts = []
    if dice.chance(0.35):
        parts.append(solid(ellipse(0, high, top + 0.2, 0.09), SECOND))
    parts += [
        solid(tube(ear, dice.between(0.07, 0.1)), BASE),
        solid(np.concatenate([arc(0, 0, top, mouth, 180, 360), side, arc(0, high, foot, 0.05, 0, 180, 7), other])),
        patch(ellipse(0, 0, top - 0.03, mouth * 0.8), DARK, 0),
    ]  # fmt: skip
    if dice.chance(0.5):
        parts.append(line(arc(0, high * 0.42, (top + foot) / 2 + 0.03, 0.06, 165, 15), 2, 0.05, SECOND))
    return parts


def bucket(dice: Dice) -> list[Part]:
    """Much wider at the top, a thin bail from rim to rim above it."""
    top, foot, high = dice.between(0.42, 0.48), dice.between(0.25, 0.31), dice.between(0.62, 0.74)
    mouth = dice.between(0.09, 0.13)
    bail = arc(0, 0.03, top - 0.01, dice.between(0.36, 0.5), 182, 358, 21)
    parts = [
        solid(tube(bail, 0.05), DARK),
        solid(
            np.concatenate([arc(0, 0, top, mouth, 180, 360), arc(0, high, foot, 0.07, 0, 180, 9)])
        ),
        patch(ellipse(0, 0, top - 0.03, mouth * 0.78), DARK, 0),
        patch(ellipse(-top + 0.03, 0.07, 0.035), DARK, 2),
        patch(ellipse(top - 0.03, 0.07, 0.035), DARK, 2),
    ]  # fmt: skip
    for share in (0.3, 0.72)[: dice.whole(1, 2)]:
        half = top + (foot - top) * share
        parts.append(line(arc(0, high * share, half, 0.1, 170, 10), 1, 0.04, SECOND))
    return parts


def vase(dice: Dice) -> list[Part]:
    """A flaring lip, a slim neck, a round belly, a foot; bands of decoration."""
    lip, neck, belly = dice.between(0.2, 0.27), dice.between(0.1, 0.15), dice.between(0.32, 0.4)
    low, foot = dice.between(-0.02, 0.18), dice.between(0.17, 0.23)
    right = at(
        lip,
        -0.5,
        neck,
        -0.36,
        neck + 0.03,
        -0.25,
        belly,
        low - 0.08,
        belly,
        low + 0.08,
        foot - 0.02,
        0.42,
        foot + 0.02,
        0.5,
    )
    half = smooth(right, closed=False)
    parts = [
        solid(np.concatenate([half, half[::-1] * (-1, 1)])),
        patch(ellipse(0, -0.5, lip - 0.01, 0.045), DARK, 1),
    ]  # fmt: skip
    band = belly - 0.02
    zigzag = np.stack([np.linspace(-band, band, 9), low + np.array([0.06, -0.06] * 4 + [0.06])], axis=1)
    parts.append(
        line(zigzag, 1, 0.04, SECOND) if dice.chance(0.5) else line(at(-band, low, band, low), 1, 0.07, SECOND)
    )
    parts.append(line(at(-neck, -0.3, neck, -0.3), 2, 0.04, SECOND))
    return parts


def bottle(dice: Dice) -> list[Part]:
    """Straight sides, shoulders, a neck with a cap, a label."""
    half, neck, shoulder = dice.between(0.22, 0.27), dice.between(0.08, 0.11), dice.between(-0.14, -0.02)
    slope = smooth(at(neck, -0.28, neck + 0.02, shoulder - 0.1, half, shoulder + 0.06), closed=False)
    right = np.concatenate([at(neck, -0.46), slope, at(half, 0.42, half - 0.05, 0.5)])
    label = (shoulder + 0.14, dice.between(0.3, 0.38))
    return [
        solid(mirrored_outline(right)),
        solid(rounded(-neck - 0.03, -0.54, neck + 0.03, -0.43, 0.03), SECOND),
        patch(rectangle(-half + 0.01, label[0], half - 0.01, label[1]), LIGHT, 1),
        line(at(-half * 0.6, sum(label) / 2, half * 0.6, sum(label) / 2), 2, 0.04, SECOND),
    ]


def key(dice: Dice) -> list[Part]:
    """A ring, a shaft, and teeth at one side of its end; lies across."""
    rx, ry, wide = dice.between(0.19, 0.23), dice.between(0.17, 0.22), dice.between(0.08, 0.1)
    teeth = [
        solid(rectangle(x, 0, x + dice.between(0.07, 0.09), dice.between(0.13, 0.19)), BASE, 0, 1)
        for x in (0.36, 0.5)
    ]  # fmt: skip
    ring = tube(arc(-0.3, 0, rx, ry, 0, 360, 31), wide)
    parts = [solid(ring, BASE, 0, 1), solid(rectangle(-0.12, -0.045, 0.62, 0.045), BASE, 0, 1), *teeth]
    parts.append(line(at(-0.02, -0.07, -0.02, 0.07), 2, 0.04))
    return moved(parts, _turn(dice.between(38, 52)))


def spoon(dice: Dice) -> list[Part]:
    """An egg-shaped bowl and a slender handle that widens a little; lies across."""
    long, wide = dice.between(0.2, 0.24), dice.between(0.13, 0.16)
    handle = tube(at(-0.12, 0, 0.2, 0, 0.62, 0), 0.06, dice.between(0.09, 0.12))
    upper = at(-0.3 - long, 0, -0.28 - long * 0.8, -wide * 0.66, -0.34, -wide, -0.2, -wide * 0.78, -0.08, -0.04)
    bowl = smooth(np.concatenate([upper, upper[:0:-1] * (1, -1)]))
    return moved(
        [
            solid(handle, BASE, 0, 1),
            solid(ellipse(0.62, 0, 0.05, 0.055), BASE, 0, 1),
            solid(bowl, BASE, 0, 1),
            patch(bowl * 0.72 + (-0.09, 0), LIGHT, 1),
            line(at(0.24, 0, 0.56, 0), 2, 0.02),
        ],
        _turn(dice.between(38, 52)),
    )


def guitar(dice: Dice) -> list[Part]:
    """A waisted body with a round hole, a neck, a head with pegs; lies across."""
    hip, waist, chest = dice.between(0.25, 0.29), dice.between(0.14, 0.17), dice.between(0.19, 0.22)
    upper = at(-0.62, -0.12, -0.5, -hip, -0.34, -hip * 0.9, -0.2, -waist, -0.06, -chest, 0.06, -0.13)
    body = smooth(np.concatenate([upper, upper[::-1] * (1, -1)]))
    parts = [
        solid(rectangle(0, -0.045, 0.62, 0.045), SECOND),
        *[solid(rectangle(x, -0.14, x + 0.035, 0.14), DARK) for x in (0.64, 0.72)],
        solid(at(0.6, -0.06, 0.8, -0.09, 0.8, 0.09, 0.6, 0.06), DARK),
        solid(body),
        patch(ellipse(-0.12, 0, 0.085), DARK, 0),
        line(at(-0.42, -0.1, -0.42, 0.1), 1, 0.05),
        line(at(-0.42, -0.02, 0.6, -0.02), 2, 0.012, LIGHT),
        line(at(-0.42, 0.02, 0.6, 0.02), 2, 0.012, LIGHT),
    ]
    return moved(parts, _turn(dice.between(38, 52)))
