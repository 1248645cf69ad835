"""The segmenters, and the way to build one."""

from __future__ import annotations

from sketchgen.segmenter import Segmenter, SegmenterConfig


def build_segmenter(config: SegmenterConfig) -> Segmenter:
    """The segmenter that `config` names; heavy packages are imported only here.

    Raises ValueError or FileNotFoundError with the remedy when its checkpoint or package is missing.
    """
    match config.name:
        case "boxseg":
            from sketchgen.segmenters.boxseg import BoxSegmenter

            return BoxSegmenter(config)
        case "sam2":
            from sketchgen.segmenters.sam2_native import Sam2Segmenter, load_sam2

            return Sam2Segmenter(load_sam2(config), config)
        case "sam2-hf":
            from sketchgen.segmenters.sam2_hf import Sam2HfSegmenter, load_sam2_hf

            return Sam2HfSegmenter(load_sam2_hf(config), config)
        case "grabcut":
            from sketchgen.segmenters.grabcut import GrabCutSegmenter

            return GrabCutSegmenter()
        case "annotation":
            from sketchgen.segmenters.annotation import AnnotationSegmenter

            return AnnotationSegmenter()
