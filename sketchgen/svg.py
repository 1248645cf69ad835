"""SVG files as pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def render(svg: str, side: int) -> NDArray[np.uint8]:
    """The SVG as [side, side, 4] RGBA uint8, not premultiplied, transparent where nothing is drawn."""
    from resvg_py import svg_to_bytes

    png = np.frombuffer(svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True), np.uint8)
    return np.asarray(cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA), np.uint8)
