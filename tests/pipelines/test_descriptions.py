"""The command line of `make describe`: recipes, overrides, exit codes, messages."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import descriptions
from pipelines.descriptions import RECIPES
from sketchgen.descriptions import DescriptionsConfig, checked
from sketchgen.instructions import run_instructions
from tests.sketchgen.caption_server import serving
from tests.sketchgen.test_instructions import quiet, world


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_complete_config(name: str) -> None:
    config = RECIPES[name]()
    assert isinstance(config, DescriptionsConfig)
    assert config.out == f"out/describe/{name}"
    assert RECIPES[name].__doc__
    if name == "local":  # what only its user knows
        config = replace(config, captioner=replace(config.captioner, model="owner/name"))
    checked(config)


def test_the_paper_is_followed() -> None:
    config = RECIPES["deepseek_llama"]()
    assert config.captioner.model == "deepseek-ai/deepseek-vl2"
    assert config.refiner.model == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert {config.captioner.backend, config.refiner.backend} == {"server"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "error: captioner.model is empty: name a model with --captioner.model"),
        (("--captioner.model", "x/y", "--shards", "none"), "holds no shards (settings.json is missing): run `make"),
        (("--captioner.model", "x/y", "--describe.tries", "0"), "error: describe.tries is 0, must be at least 1"),
    ],
)
def test_a_mistake_ends_with_one_line_and_code_2(
    args: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["descriptions", "local", *args])
    with pytest.raises(SystemExit) as ended:
        descriptions.main()
    assert ended.value.code == 2
    assert message in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_line(tmp_path: Path) -> None:
    instructions = world(tmp_path / "in", 4)
    run_instructions(instructions, quiet())
    flags = ["--shards", instructions.out, "--out", str(tmp_path / "out"), "--engine.name", "local"]
    program = [sys.executable, "-m", "pipelines.descriptions", "deepseek_llama", *flags, "--refiner.model", ""]
    with serving() as (server, url):
        server.models = ("deepseek-ai/deepseek-vl2",)
        where = ["--captioner.base-url", url, "--describe.unit", "pixels"]
        done = subprocess.run([*program, *where], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "(100.0%) in 4 samples" in done.stdout
        assert "deepseek-ai/deepseek-vl2" in done.stdout
        assert done.stderr == ""
        server.models = ("another",)
        other = [*program, *where, "--out", str(tmp_path / "other")]
        refused = subprocess.run(other, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2
    assert "has no model 'deepseek-ai/deepseek-vl2'; it has another" in refused.stderr
    assert "Traceback" not in refused.stderr
