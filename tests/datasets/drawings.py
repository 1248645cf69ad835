"""Drawings of a class by name: those of shapeworld as its outlines, any other as a figure that its name decides."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from data_manifests.vocabulary import vocabulary
from sketchgen.shapeworld.classes import SHAPES
from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.outline import outline
from sketchgen.shapeworld.shapes import turned

Strokes = list[NDArray[np.float32]]
"""Each [n, 2] xy, y down."""


def meaning(name: str) -> str:
    """What a class of any bank is called by us: `car (sedan)`, `car_(sedan)` and `Car` are a car."""
    return vocabulary().read(name).name


def strokes_of(name: str, seed: int) -> Strokes:
    """A drawing about one unit long, around 0; another seed is another hand."""
    known = meaning(name)
    dice = Dice("drawing", known, seed)
    if known in SHAPES:
        lines = [stroke.points for stroke in outline(SHAPES[known](dice), dice.whole(1, 2))]
    else:
        lines = figure(known)
    matrix = turned(np.diag([dice.between(0.85, 1.15), 1.0]), dice.between(-12, 12))
    shake = dice.array()
    return [(line @ matrix + shake.normal(0, 0.006, line.shape)).astype(np.float32) for line in lines]


def figure(name: str) -> list[NDArray[np.float64]]:
    """A closed line with corners and a bar in it, [n, 2] within -0.5 to 0.5; the name alone decides it."""
    dice = Dice("figure", name)
    count = dice.whole(5, 9)
    turns = np.arange(count + 1) % count * 2 * math.pi / count
    reach = np.array([dice.between(0.2, 0.5) for _ in range(count)])[np.arange(count + 1) % count]
    rim = np.stack([np.cos(turns), np.sin(turns)], axis=1) * reach[:, None]
    bar = turned(np.array([[-0.1, 0.0], [0.1, 0.0]]), dice.between(0, 180))
    return [rim, bar]
