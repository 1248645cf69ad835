"""The classes of the world, by groups of look-alikes. Each is defined once, for scenes and for sketches."""

from __future__ import annotations

from collections.abc import Callable

from sketchgen.shapeworld import animals, outdoors, things, vehicles
from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.shapes import Part

Shape = Callable[[Dice], list[Part]]

GROUPS: tuple[tuple[Shape, ...], ...] = (
    (things.apple, things.pear, things.ball, things.clock),
    (things.cup, things.bucket, things.vase, things.bottle),
    (vehicles.car, vehicles.bus, vehicles.truck, vehicles.train),
    (animals.dog, animals.cat, animals.horse, animals.sheep),
    (animals.fish, outdoors.leaf, animals.bird),
    (outdoors.tree, outdoors.mushroom, outdoors.umbrella),
    (outdoors.house, outdoors.tent, outdoors.church),
    (things.key, things.spoon, things.guitar),
)
SHAPES: dict[str, Shape] = {shape.__name__: shape for group in GROUPS for shape in group}
CLASSES: tuple[str, ...] = tuple(SHAPES)
LOOKALIKES: dict[str, tuple[str, ...]] = {
    shape.__name__: tuple(other.__name__ for other in group if other is not shape)
    for group in GROUPS
    for shape in group
}
"""The other classes of the same group: similar silhouettes."""
