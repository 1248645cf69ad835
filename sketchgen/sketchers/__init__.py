"""The sketchers, and the way to build one."""

from __future__ import annotations

from sketchgen.sketcher import Sketcher, SketcherConfig


def build_sketcher(config: SketcherConfig) -> Sketcher:
    """The sketcher that `config` names; raises FileNotFoundError with the remedy without weights."""
    match config.name:
        case "pix2pix":
            from sketchgen.sketchers.pix2pix import Pix2PixSketcher

            return Pix2PixSketcher(config)
        case "photo-sketching":
            from sketchgen.sketchers.photo_sketching import PhotoSketcher

            return PhotoSketcher(config)
        case "instruct-pix2pix":
            from sketchgen.sketchers.instruct_pix2pix import InstructPix2PixSketcher

            return InstructPix2PixSketcher(config)
        case "none":
            from sketchgen.sketchers.blank import BlankSketcher

            return BlankSketcher()
