"""`sketchgen gap`: what is printed and written, beside what is noise; and what is refused."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pipelines.gaps import NONE, Measure, run_gap
from pipelines.outputs import main
from sketchgen.gap import TRAITS
from tests.sketchgen.test_gap import picture


def said(command: Measure) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=80)
    code = run_gap(command, console)
    return code, console.file.getvalue()  # type: ignore[attr-defined]


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for one in value.values() for number in numbers(one)]
    return [value] if isinstance(value, float) else []


@pytest.fixture(scope="module")
def brush(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], str]:
    """What is said, the JSON and the page of styles of training against the one that is kept for evaluation."""
    folder = tmp_path_factory.mktemp("gap")
    command = Measure(
        "shapeworld-hand",
        "shapeworld-brush",
        number=80,
        json=str(folder / "new" / "gap.json"),
        save=str(folder / "gap.html"),
    )
    code, text = said(command)
    assert code == 0
    assert sorted(path.name for path in folder.rglob("*")) == ["gap.html", "gap.json", "new"]  # nothing half-written
    return text, json.loads((folder / "new" / "gap.json").read_text()), (folder / "gap.html").read_text()


def test_the_table_has_a_line_a_trait_and_fits_a_terminal(brush: tuple[str, dict[str, Any], str]) -> None:
    text, record, _ = brush
    assert "A shapeworld-hand, 80 sketches of 20 classes" in text
    assert re.search(r"classes matched: 20 \(.*\), of each 4 on both sides", text)
    table = text[text.index("noise") - 80 :].splitlines()
    assert max(map(len, table)) <= 80 and "…" not in text.replace("...", "")
    for trait in TRAITS:
        line = next(line for line in table if line.startswith(trait.name))
        value = record["apart"]["traits"][trait.name]["wasserstein"]["value"]
        assert f"{value:.2f} ±" in line and line.count("±") == 4
        assert line.endswith(f"{record['noise']['traits'][trait.name]['wasserstein']['value']:.2f}")
    for label in ("shape: mean W", "shape: told apart", "tower: MMD²", "tower: told apart"):
        assert any(line.startswith(label) for line in table)


def test_the_figures_are_whole_and_the_style_is_above_the_noise(brush: tuple[str, dict[str, Any], str]) -> None:
    _, record, _ = brush
    assert record["classes_matched"] == 20 and record["a"]["classes"] == record["b"]["classes"]
    assert set(record["traits"]) == set(record["apart"]["traits"]) == {trait.name for trait in TRAITS}
    assert len(numbers(record["apart"])) == len(numbers(record["noise"])) == 3 * (4 * len(TRAITS) + 4)
    apart, noise = record["apart"], record["noise"]
    assert apart["shape"]["low"] > noise["shape"]["value"]
    assert apart["shape_told"]["low"] > 0.7 and noise["shape_told"]["value"] < 0.7
    assert apart["traits"]["curvature"]["d"]["high"] < 0  # the brush is angular
    for one in apart["traits"].values():
        for estimate in one.values():
            assert estimate["low"] <= estimate["value"] <= estimate["high"]


def test_the_page_shows_sketches_of_both_sides_and_every_trait(brush: tuple[str, dict[str, Any], str]) -> None:
    _, _, page = brush
    assert page.count("<img") == 2 * 4 * 12 and "http:" not in page and "https:" not in page
    assert page.count("<svg") == len(TRAITS)
    assert all(f"<b>{trait.name}</b>" in page for trait in TRAITS)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page) and "shapeworld-brush" in page


def test_the_same_seed_gives_the_same_figures_and_another_does_not(tmp_path: Path) -> None:
    texts = []
    for number, seed in enumerate((1, 1, 2)):
        path = tmp_path / f"{number}.json"
        said(Measure("shapeworld-neat", "shapeworld-shaky", 24, tower=NONE, seed=seed, json=str(path)))
        texts.append(path.read_text().replace(f'"seed": {seed}', ""))
    assert texts[0] == texts[1] != texts[2]
    assert json.loads(texts[0].replace(",\n ,", ","))["apart"]["tower"] is None


def test_pictures_of_a_user_are_taken_and_broken_ones_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(25):
        picture(tmp_path / "mine" / "dog" / f"{number}.png", number)
    (tmp_path / "mine" / "dog" / "7.png").write_bytes(b"no")
    Image.fromarray(255 - np.asarray(Image.open(tmp_path / "mine" / "dog" / "8.png"))).save(
        tmp_path / "mine" / "dog" / "8.png"
    )
    code, text = said(Measure("shapeworld-hand", str(tmp_path / "mine"), 30, tower=NONE))
    errors = capsys.readouterr().err
    assert code == 1 and "7.png is no drawing that can be read" in errors and "left out of B" in errors
    assert "note: B: 1 times the sketch is light on dark" in errors
    assert "matched: 1 (dog), of each 24 on both sides; the figures tell of this one class alone" in text


def test_what_is_not_matched_is_said_to_be_so(tmp_path: Path) -> None:
    for number in range(25):
        picture(tmp_path / "loose" / f"{number}.png", number)
    _, text = said(Measure(str(tmp_path / "loose"), "shapeworld-hand", 25, tower=NONE))
    assert "classes not matched: what differs may be what is drawn, and not how (pictures in no folder" in text
    _, text = said(Measure("shapeworld-neat", "shapeworld-hand", 25, unmatched=True, tower=NONE))
    assert "classes not matched: what differs may be what is drawn, and not how\n" in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"a": "./nowhere"}, "there is no folder ./nowhere: make the sketches first"),
        ({"a": "doodles"}, "doodles: no folder of this name is here, .*no bank is called 'doodles'; known are"),
        ({"a": "shapeworld-oils"}, "has no style 'oils'; known are neat, .*brush"),
        ({"a": "quickdraw"}, "there is no folder .*quickdraw. Name a folder, or a bank whose folder lies in --data"),
        ({"number": 5}, "--number is 5: at least 20"),
        ({"save": "gap.pdf"}, "--save gap.pdf: it is a page, name it .html"),
        ({"json": "."}, ". is a folder: name a file in it"),
        ({"tower": "learnt"}, "no model learnt"),
        ({"classes": ("zebra",)}, "--classes: shapeworld-hand has no 'zebra'"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_remedy(
    fields: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKETCH_DATA_DIR", raising=False)
    with pytest.raises(ValueError, match=message):
        said(Measure(**{"a": "shapeworld-hand", "b": "shapeworld-brush", "number": 20, **fields}))


def test_the_command_line_ends_with_one_line_for_what_a_user_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sketchgen", "gap", str(tmp_path), "shapeworld-brush"])
    with pytest.raises(SystemExit) as ended:
        main()
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and len(errors.splitlines()) == 1
    assert errors.startswith("error:") and "holds no sketches: shards" in errors
