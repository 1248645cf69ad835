"""Notices: warnings that point at the line of whoever called us."""

from __future__ import annotations

import sys
import warnings

OURS = ("data_manifests", "sketchlm")
"""Packages whose own lines help nobody."""


def notice(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn; Python shows the nearest line above that is not of these packages."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
