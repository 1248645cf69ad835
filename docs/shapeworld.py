"""Draws docs/shapeworld.png, the world at a glance, and prints how fair it is: `python docs/shapeworld.py`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sketchgen.shapeworld import CLASSES, HELD_OUT_STYLE, TRAINING_STYLES, WorldConfig, contents, make_scene
from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.hand import draw_by_hand

STYLES = (*TRAINING_STYLES, HELD_OUT_STYLE)
SCENES = (0, 32, 37, 70, 103, 112, 205)
COLUMNS = 4
TILE, HEAD = 72, 16
GREY = (90, 90, 90)
BOX = (235, 235, 60)


def main() -> None:
    """Scenes with their boxes over every class: as painted, then as drawn in each style."""
    config = WorldConfig()
    scenes = [boxed(config, index) for index in SCENES]
    cells = [class_row(config, name, number % 3) for number, name in enumerate(CLASSES)]
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % COLUMNS)
    high = len(cells) // COLUMNS
    columns = [np.vstack([heads(), *cells[n * high : (n + 1) * high]]) for n in range(COLUMNS)]
    below = np.hstack(columns)
    above = np.hstack(scenes)
    above = cv2.copyMakeBorder(
        above, 0, 12, 0, max(0, below.shape[1] - above.shape[1]), cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
    below = cv2.copyMakeBorder(
        below, 0, 0, 0, above.shape[1] - below.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
    picture = np.vstack([above, below])
    cv2.imwrite(str(Path(__file__).with_suffix(".png")), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def boxed(config: WorldConfig, index: int) -> NDArray[np.uint8]:
    """One scene, BGR, with box and class of every object."""
    scene = make_scene(config, index)
    bgr = cv2.cvtColor(scene.rgb, cv2.COLOR_RGB2BGR)
    for one in scene.objects:
        x1, y1, x2, y2 = (int(value) for value in one.box)
        cv2.rectangle(bgr, (x1, y1), (x2 - 1, y2 - 1), BOX, 1)
        write(bgr, one.category, x1 + 2, y1 - 3 if y1 > 12 else y2 + 9, BOX)
    return np.asarray(bgr)


def class_row(config: WorldConfig, name: str, level: int) -> NDArray[np.uint8]:
    """The class cut out of a scene, and its sketches: another of the three levels for each style."""
    tiles = [painted(config, name)]
    for number, style in enumerate(STYLES):
        sketch = draw_by_hand(name, style, (level + number) % 3, Dice("docs", name, style))
        tiles.append(cv2.cvtColor(cv2.resize(sketch, (TILE, TILE), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR))
    row = np.hstack(tiles)
    write(row, name, 2, 9, GREY)
    return cv2.copyMakeBorder(row, 2, 2, 4, 12, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def painted(config: WorldConfig, name: str) -> NDArray[np.uint8]:
    """The first whole object of the class, on white, BGR."""
    for index in range(100, 1000):
        if name not in contents(config, index)[1]:
            continue
        scene = make_scene(config, index)
        last = scene.objects[-1]  # the nearest one: nothing hides it
        if last.category == name:
            rows, cols = last.mask.bits.shape
            part = scene.rgb[last.mask.y : last.mask.y + rows, last.mask.x : last.mask.x + cols, ::-1]
            cut = np.where(last.mask.bits[..., None], part, np.uint8(255))
            scale = (TILE - 16) / max(rows, cols)
            small = cv2.resize(cut, (round(cols * scale), round(rows * scale)), interpolation=cv2.INTER_AREA)
            tile = np.full((TILE, TILE, 3), 255, np.uint8)
            y, x = (TILE - small.shape[0]) // 2 + 4, (TILE - small.shape[1]) // 2
            tile[y : y + small.shape[0], x : x + small.shape[1]] = small
            return tile
    raise AssertionError(f"no {name} in 900 scenes")


def heads() -> NDArray[np.uint8]:
    """What the columns of `class_row` show."""
    row = np.full((HEAD, TILE * (1 + len(STYLES)) + 16, 3), 255, np.uint8)
    for number, style in enumerate(("painted", *TRAINING_STYLES, f"{HELD_OUT_STYLE}*")):
        write(row, style, 4 + TILE * number + 4, 11, GREY)
    return row


def write(image: NDArray[np.uint8], text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    """Small text at (x, y)."""
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.32, colour, 1, cv2.LINE_AA)


def print_fairness(num_scenes: int = 20_000) -> None:
    """Counts over present classes, and what a viewer reaches who knows a scene's counts but not the sketch."""
    config = WorldConfig()
    numbers: Counter[int] = Counter()
    classes: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    best: Counter[str] = Counter()
    distinct: Counter[str] = Counter()
    scenes: Counter[str] = Counter()
    for index in range(num_scenes):
        kind, categories = contents(config, index)
        counted = Counter(categories)
        often = Counter(counted.values())
        classes.update(counted.keys())
        scenes[kind] += 1
        asked[kind] += len(counted)
        best[kind] += max(often.values())
        distinct[kind] += len(often)
        if kind == "counts":
            numbers.update(counted.values())
    mean = classes.total() / len(CLASSES)
    print(f"{num_scenes:,} scenes; a class is in {min(classes.values())} to {max(classes.values())}, mean {mean:.0f}")
    print("counts of present classes in `counts` scenes:")
    print("  " + ", ".join(f"{n}: {numbers[n] / numbers.total():.3f}" for n in sorted(numbers)))
    print("best guess of a count without the sketch, when every present class is asked, or one for each count:")
    for kind in scenes:
        print(f"  {kind:8} {best[kind] / asked[kind]:.3f}   {scenes[kind] / distinct[kind]:.3f}")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
    print_fairness()
