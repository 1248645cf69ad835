"""Experiments: the paper's claims and its open questions, each a command with a page of results.

make experiments                     lists them
make experiments NAME=stages         trains, asks, and writes docs/experiments/stages.md
"""

from __future__ import annotations

from pipelines.experiments.connector import CONNECTOR
from pipelines.experiments.crowds import CROWDS
from pipelines.experiments.emergence import EMERGENCE
from pipelines.experiments.experiment import Experiment
from pipelines.experiments.fusion import FUSION
from pipelines.experiments.objectives import OBJECTIVES
from pipelines.experiments.sources import SOURCES
from pipelines.experiments.stages import STAGES
from pipelines.experiments.styles import STYLE

ALL = (STAGES, CONNECTOR, STYLE, FUSION, OBJECTIVES, SOURCES, EMERGENCE, CROWDS)
EXPERIMENTS: dict[str, Experiment] = {one.name: one for one in ALL}
