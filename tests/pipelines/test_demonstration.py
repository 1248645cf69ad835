"""The model that comes with the package does what its card says, on scenes made for the occasion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import finetune, instructions
from pipelines.judging import judge
from sketchgen.instructions import run_instructions
from sketchlm.bundle import read_info
from sketchlm.weights import shipped
from tests.sketchlm.runs import quiet

SCENES = 24
MEGABYTES = 8


def test_it_is_small_and_says_what_it_is() -> None:
    folder = shipped("learn")
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= MEGABYTES * 2**20
    info = read_info(folder)
    assert (info.stage, info.trained["recipe"]) == ("finetune", "crowd")
    card = (folder / "README.md").read_text()
    for words in ("License: that of the code", "SBIR balanced accuracy", "white page", "28 classes"):
        assert words in card


@pytest.mark.slow
def test_it_reads_sketches_that_nobody_has_seen(tmp_path: Path) -> None:
    """Well below its card, far above its controls: 24 scenes have wide intervals."""
    config = instructions.learn_val()
    world = replace(config.source.world, num_scenes=SCENES, seed=77)
    config = replace(config, source=replace(config.source, world=world), out=str(tmp_path / "shards"))
    assert run_instructions(config, quiet()) == 0
    found = judge(shipped("learn"), config.out, finetune.TASKS, SCENES)
    values = {name: scores.figure().value for name, scores in found.trained.items()}
    swapped = {name: scores.figure().value for name, scores in found.shuffled.items()}
    assert values["SBIR balanced accuracy"] > 0.88 > 0.62 > swapped["SBIR balanced accuracy"]
    assert values["BBOX Acc@0.5"] > 0.6 > 0.25 > swapped["BBOX Acc@0.5"]
    assert values["COUNT exact, class present"] > 0.4 > swapped["COUNT exact, class present"]
