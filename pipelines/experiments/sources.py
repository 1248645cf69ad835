"""Can generated sketches stand in for drawn ones? Trained on each and on both, asked with each."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console

from data_manifests.vocabulary import vocabulary
from pipelines import instructions, sketches
from pipelines.experiments.arm import Arm, Setting, chain, stage_one, stage_two
from pipelines.experiments.exam import Exam, drawn_exam
from pipelines.experiments.experiment import Experiment
from pipelines.experiments.results import Results
from pipelines.experiments.stages import UNSEEN
from pipelines.experiments.stages import prepare as prepare_unseen
from pipelines.experiments.styles import PEOPLE, bank_folder, matched, of_bank
from sketchgen.banks import BankConfig, build_bank
from sketchgen.banks.matched import MatchedBank
from sketchgen.config import RunConfig
from sketchgen.instructions import InstructionsConfig, is_complete, run_instructions
from sketchgen.run import run as run_sketches
from sketchgen.shapeworld import CLASSES, HELD_OUT_STYLE, TRAINING_STYLES

TRAINED = ("hand", "generated", "mixed")
SCENES = 600
"""Of which sketches are generated: some 3,500 of them."""
