"""shapeworld: procedural scenes of everyday classes, and sketches of the same classes as by hand.

Unlimited, deterministic, with exact masks: for learning checks on a CPU.
"""

from sketchgen.shapeworld.classes import CLASSES, LOOKALIKES
from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.hand import HELD_OUT_STYLE, STYLES, TRAINING_STYLES, HandBank, draw_by_hand, lines_by_hand
from sketchgen.shapeworld.layout import SceneObject, WorldConfig, check_world, contents, lay_out
from sketchgen.shapeworld.scene import Scene, make_scene, render, scene_file
from sketchgen.shapeworld.version import VERSION

__all__ = [
    "CLASSES",
    "HELD_OUT_STYLE",
    "LOOKALIKES",
    "STYLES",
    "TRAINING_STYLES",
    "VERSION",
    "Dice",
    "HandBank",
    "Scene",
    "SceneObject",
    "WorldConfig",
    "check_world",
    "contents",
    "draw_by_hand",
    "lay_out",
    "lines_by_hand",
    "make_scene",
    "render",
    "scene_file",
]
