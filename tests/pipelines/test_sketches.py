"""The command line of `make sketches`: recipes, overrides, exit codes, messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.sketches import RECIPES
from sketchgen.config import RunConfig, settings_of


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.sketches", *args], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_complete_config(name: str) -> None:
    config = RECIPES[name]()
    assert isinstance(config, RunConfig)
    assert config.out == f"out/sketches/{name}"
    assert RECIPES[name].__doc__


def test_the_sample_settings_hold_the_hashes_of_the_shipped_weights() -> None:
    settings = settings_of(RECIPES["sample"]())
    assert settings["segmenter"]["checkpoint"].startswith("sha256:")
    assert settings["sketcher"]["checkpoint"].startswith("sha256:")


@pytest.mark.slow
def test_the_stable_flags(coco_folder, tmp_path: Path) -> None:
    annotations, images = coco_folder(3)
    flags = [
        "--source.annotations",
        str(annotations),
        "--source.images",
        str(images),
        "--out",
        str(tmp_path / "o"),
    ]
    cheap = ["--segmenter.name", "annotation", "--sketcher.name", "none"]
    done = command("coco", *flags, *cheap, "--engine.workers", "1")
    assert done.returncode == 0, done.stderr
    assert "3 sketches in 3 samples" in done.stdout
    assert str(tmp_path / "o" / "report.html") in done.stdout.splitlines()[-1]
    assert done.stderr == ""
    refused = command("coco", *flags, *cheap, "--images-per-shard", "1")
    assert refused.returncode == 2
    assert "images_per_shard: 32 there, 1 now" in refused.stderr


@pytest.mark.slow
def test_errors_are_one_message_and_no_traceback(tmp_path: Path) -> None:
    missing = command("coco", "--source.annotations", "none.json", "--source.images", ".", "--out", str(tmp_path))
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: ")
    assert "none.json does not exist" in missing.stderr
    assert "Traceback" not in missing.stderr
    bare = command("coco", "--out", str(tmp_path / "o"))
    assert bare.returncode == 2
    assert "--source.annotations" in bare.stderr
    helped = command("coco", "--help")
    assert helped.returncode == 0
    assert "--source.annotations" in helped.stdout
    assert "--engine.workers" in helped.stdout
