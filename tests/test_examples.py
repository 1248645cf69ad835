"""Every Python example of README and docstrings runs, in the order in which a reader meets them."""

from __future__ import annotations

import doctest
import importlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.sketches import sample
from sketchgen.engine import EngineConfig
from sketchgen.run import run

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("sketchlm", "sketchgen", "data_manifests")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.fixture
def beside_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like that of the project after `make sketches`."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme(beside_readme: Path) -> None:
    config = sample()
    few = replace(config, select=replace(config.select, images=2), engine=EngineConfig("local"))
    assert run(few, Console(quiet=True)) == 0
    text = (ROOT / "README.md").read_text()
    blocks = [(text[: found.start(1)].count("\n"), found[1]) for found in BLOCK.finditer(text)]
    assert len(blocks) > 1
    for line, block in blocks:
        exec(compile("\n" * line + block, "README.md", "exec"), {})


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstrings(name: str, beside_readme: Path) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried and not failed
