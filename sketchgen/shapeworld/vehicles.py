"""Vehicles, seen from the side, driving to the right."""

from __future__ import annotations

from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.shapes import (
    DARK,
    LIGHT,
    SECOND,
    Part,
    at,
    ellipse,
    line,
    patch,
    rectangle,
    rounded,
    smooth,
    solid,
)


def _wheel(x: float, y: float, radius: float) -> list[Part]:
    return [solid(ellipse(x, y, radius), DARK), patch(ellipse(x, y, radius * 0.45), LIGHT, 1)]


def car(dice: Dice) -> list[Part]:
    """Low, bonnet and boot beside a rounded cabin, two wheels."""
    roof, radius = dice.between(-0.36, -0.3), dice.between(0.11, 0.13)
    front, back = dice.between(0.12, 0.2), dice.between(-0.34, -0.22)
    outline = smooth(
        at(-0.56, 0.16, -0.57, 0.0, -0.5, -0.09, back - 0.08, -0.12, back + 0.06, roof + 0.03, 0, roof, front - 0.02,
           roof + 0.05, front + 0.16, -0.09, 0.46, -0.04, 0.57, 0.05, 0.57, 0.16, 0.3, 0.19, -0.3, 0.19)
    )  # fmt: skip
    low, high = -0.09, roof + 0.06
    parts = [
        solid(outline),
        patch(at(back + 0.01, low, back + 0.1, high, -0.04, high, -0.04, low), LIGHT, 1),
        patch(at(0.01, low, 0.01, high, front - 0.04, high, front + 0.08, low), LIGHT, 1),
        line(at(-0.02, low, -0.02, 0.17), 2),
        patch(ellipse(0.52, 0.03, 0.035, 0.045), LIGHT, 2),
    ]
    return parts + _wheel(-0.32, 0.19, radius) + _wheel(0.32, 0.19, radius)


def bus(dice: Dice) -> list[Part]:
    """One long box full of windows, two wheels, a door at the front."""
    high, radius, windows = dice.between(0.52, 0.6), dice.between(0.085, 0.105), dice.whole(4, 5)
    parts = [solid(rounded(-0.55, -high + 0.22, 0.55, 0.22, dice.between(0.05, 0.1)))]
    top, bottom = -high + 0.29, -high + 0.29 + dice.between(0.15, 0.19)
    step = 0.78 / windows
    for number in range(windows):
        x = -0.5 + number * step
        parts.append(patch(rectangle(x, top, x + step - 0.04, bottom), LIGHT, 0))
    parts += [
        patch(rectangle(0.32, top, 0.46, 0.19), LIGHT, 1),
        line(at(-0.55, bottom + 0.08, 0.3, bottom + 0.08), 2, 0.04, SECOND),
        line(at(0.39, top, 0.39, 0.19), 2),
    ]
    return parts + _wheel(-0.32, 0.22, radius) + _wheel(0.2, 0.22, radius)


def truck(dice: Dice) -> list[Part]:
    """A tall box behind a separate, lower cab; two or three wheels."""
    tall, cab, radius = dice.between(0.52, 0.6), dice.between(0.36, 0.44), dice.between(0.1, 0.12)
    split = dice.between(0.14, 0.22)
    back, top = split + 0.04, 0.22 - cab
    hood = dice.chance(0.5)
    nose = (
        (split + 0.2, top, split + 0.28, 0.02, 0.58, 0.05, 0.58, 0.22) if hood else (0.46, top, 0.55, 0.02, 0.55, 0.22)
    )
    front = at(back, 0.22, back, top, *nose)
    glass = split + (0.18 if hood else 0.24)
    parts = [
        solid(rectangle(-0.55, 0.14, 0.5, 0.22), DARK, 0),
        solid(rectangle(-0.58, 0.16 - tall, split, 0.16)),
        solid(front, SECOND),
        patch(at(split + 0.08, 0.26 - cab, glass, 0.26 - cab, glass + 0.07, 0.03, split + 0.08, 0.03), LIGHT, 1),
        line(at(-0.5, 0.22 - tall, -0.5, 0.1), 2),
        line(at(split - 0.08, 0.22 - tall, split - 0.08, 0.1), 2),
    ]
    for x in (-0.4, -0.16, 0.4)[0 if dice.chance(0.5) else 1 :]:
        parts += _wheel(x, 0.22, radius)
    return parts


def train(dice: Dice) -> list[Part]:
    """A steam engine: cab, boiler, chimney, dome, a row of wheels, a cowcatcher."""
    boiler, roof = dice.between(-0.16, -0.1), dice.between(-0.48, -0.4)
    stack = dice.between(0.3, 0.38)
    flare = dice.between(0.02, 0.06)
    parts = [
        solid(at(stack - 0.05, boiler + 0.02, stack - 0.05 - flare, roof + 0.04, stack + 0.05 + flare, roof + 0.04,
                 stack + 0.05, boiler + 0.02), DARK),
        solid(ellipse(0.06, boiler, 0.09, 0.1), SECOND),
        solid(at(0.42, 0.1, 0.62, 0.3, 0.42, 0.3), DARK),
        solid(rounded(-0.2, boiler, 0.48, 0.17, 0.06)),
        solid(rectangle(-0.54, roof + 0.05, -0.16, 0.2)),
        solid(rectangle(-0.6, roof - 0.02, -0.1, roof + 0.06), SECOND),
        solid(rectangle(-0.56, 0.14, 0.48, 0.22), DARK),
        patch(rectangle(-0.45, roof + 0.13, -0.25, roof + 0.3), LIGHT, 1),
        line(at(0.14, boiler, 0.14, 0.14), 2, 0.03, SECOND),
        line(at(0.36, boiler, 0.36, 0.14), 2, 0.03, SECOND),
    ]  # fmt: skip
    big, small = dice.between(0.12, 0.14), dice.between(0.08, 0.095)
    parts += _wheel(-0.38, 0.32 - big, big) + _wheel(-0.08, 0.32 - big, big)
    for x in (0.14, 0.34):
        parts += _wheel(x, 0.32 - small, small)
    return parts
