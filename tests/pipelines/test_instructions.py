"""The command line of `make instructions`, and what other pipelines call: recipes, overrides, exit codes."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from pipelines import instructions
from pipelines.instructions import RECIPES, ensure
from sketchgen.instructions import InstructionsConfig, checked, settings_of
from sketchgen.shapeworld import HELD_OUT_STYLE


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.instructions", *args], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_complete_config(name: str, tmp_path: Path) -> None:
    config = RECIPES[name]()
    if not config.source.generated:  # what only its user knows
        config = replace(config, bank=replace(config.bank, root=str(tmp_path)))
        assert config.source.split == config.bank.split
    assert isinstance(config, InstructionsConfig)
    assert config.out == f"out/instructions/{name}"
    assert RECIPES[name].__doc__
    checked(config)
    split = "val" if name.endswith(("_val", "_brush")) else "train"
    assert config.bank.split == split
    assert not config.source.generated or config.source.world.split == split
    assert (HELD_OUT_STYLE in config.bank.styles) == name.endswith("_brush")


def test_training_and_evaluation_differ_in_nothing_but_split_and_size() -> None:
    for name in ("tiny", "learn"):
        train, val = (settings_of(RECIPES[recipe]()) for recipe in (name, f"{name}_val"))
        assert train["tasks"] == val["tasks"]
        assert train["seed"] == val["seed"]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tiny_val` of six scenes."""
    config = RECIPES["tiny_val"]()
    small = replace(config, source=replace(config.source, limit=6), images_per_shard=3)
    monkeypatch.setitem(instructions.RECIPES, "tiny_val", lambda: small)


@pytest.mark.usefixtures("few")
def test_ensure_makes_what_is_missing_and_is_quick_where_nothing_is(tmp_path: Path) -> None:
    console = Console(record=True, file=io.StringIO(), width=200)
    out = ensure("tiny_val", console, str(tmp_path / "out"))
    assert out == str(tmp_path / "out")
    assert "instruction shards are missing" in console.export_text()
    start = time.perf_counter()
    assert ensure("tiny_val", console, out) == out
    assert time.perf_counter() - start < 0.5
    assert console.export_text() == ""
    (tmp_path / "out" / "000001.json").unlink()
    ensure("tiny_val", console, out)
    assert (tmp_path / "out" / "000001.json").exists()


def test_ensure_names_the_recipes() -> None:
    with pytest.raises(ValueError, match="known are tiny, tiny_val, learn, learn_val"):
        ensure("none", Console(file=io.StringIO()))


@pytest.mark.slow
def test_the_command_line(tmp_path: Path) -> None:
    out = str(tmp_path / "o")
    done = command("tiny_val", "--source.limit", "4", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "in 4 samples" in done.stdout
    assert done.stderr == ""
    refused = command("tiny_val", "--source.limit", "4", "--out", out, "--tasks.zero-rate", "0.3")
    assert refused.returncode == 2
    assert "tasks.zero_rate: 0.15 there, 0.3 now" in refused.stderr
    assert "Traceback" not in refused.stderr
    held = command("tiny", "--bank.styles", HELD_OUT_STYLE, "--out", str(tmp_path / "p"))
    assert held.returncode == 2
    assert "kept for evaluation" in held.stderr
