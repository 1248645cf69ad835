"""Small folders in the exact shape of public datasets, for tests: nothing in them is real.

`python -m tests.datasets DIR` writes one of each.
"""

from tests.datasets.coco import write_coco
from tests.datasets.folders import write_all
from tests.datasets.objects365 import fill_objects365, objects365_row, write_objects365
from tests.datasets.openimages import fill_openimages, openimages_row, write_openimages
from tests.datasets.pixmo_count import write_pixmo_count
from tests.datasets.quickdraw import quickdraw_row, write_lines, write_quickdraw
from tests.datasets.sketchy import write_sketchy
from tests.datasets.tu_berlin import write_tu_berlin
from tests.datasets.vqav2 import write_vqav2

__all__ = [
    "fill_objects365",
    "fill_openimages",
    "objects365_row",
    "openimages_row",
    "quickdraw_row",
    "write_all",
    "write_coco",
    "write_lines",
    "write_objects365",
    "write_openimages",
    "write_pixmo_count",
    "write_quickdraw",
    "write_sketchy",
    "write_tu_berlin",
    "write_vqav2",
]
