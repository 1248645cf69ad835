"""The gap: how far the sketches of two places are apart, in shape and in what a model's tower makes of them."""

from sketchgen.gap.comparison import Distances, Gap, Measured, measure
from sketchgen.gap.distance import Difference, Estimate, Values
from sketchgen.gap.page import Side, write_page
from sketchgen.gap.pool import Drawn, Pool, draw_both, open_bank, open_folder, shared_classes
from sketchgen.gap.traits import TRAITS, Trait, traits_of

__all__ = [
    "TRAITS",
    "Difference",
    "Distances",
    "Drawn",
    "Estimate",
    "Gap",
    "Measured",
    "Pool",
    "Side",
    "Trait",
    "Values",
    "draw_both",
    "measure",
    "open_bank",
    "open_folder",
    "shared_classes",
    "traits_of",
    "write_page",
]
