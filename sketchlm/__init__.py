"""sketchlm: a model that reads a sketch, an image and words: finds, counts, answers and retrieves what you draw.

Importing it is quick: torch and the rest are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_manifests.sketch import SketchWarning, as_sketch
    from sketchlm.library import SketchLM
    from sketchlm.results import Box, Count, Detection, Match, Ranking, Reply

__all__ = ["Box", "Count", "Detection", "Match", "Ranking", "Reply", "SketchLM", "SketchWarning", "as_sketch"]
_PLACES = {
    "SketchLM": "sketchlm.library",
    "SketchWarning": "data_manifests.sketch",
    "as_sketch": "data_manifests.sketch",
}


def __getattr__(name: str) -> Any:
    """What is exported, when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES.get(name, "sketchlm.results")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
