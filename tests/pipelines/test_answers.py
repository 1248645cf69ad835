"""`sketchlm detect | count | ask | export` as users type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pipelines.answers import main
from sketchlm.weights import shipped

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SCENE, BIRD = str(EXAMPLES / "scene.jpg"), str(EXAMPLES / "bird.png")
MODEL = ["--device", "cpu"]


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as left:
        main([*args, *MODEL])
    return int(left.value.code or 0)


def test_answers_are_lines_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("detect", BIRD, SCENE, "--save", str(tmp_path / "birds.png")) == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith(SCENE) and line.count("(") == 1
    assert Image.open(tmp_path / "birds.png").width > 400
    assert run("ask", BIRD, SCENE, "--question", "What does the sketch show?") == 0
    assert capsys.readouterr().out.split()[-1] == "bird"
    assert run("count", "-", SCENE, "--text", "bird") == 0


def test_a_folder_is_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "grey.png")
    (tmp_path / "scene.jpg").symlink_to(SCENE)
    command = ("rank", BIRD, str(tmp_path), "--folder", str(tmp_path / "kept"), "--json")
    assert run(*command, "--save", str(tmp_path / "best.png")) == 1
    said = capsys.readouterr()
    first, second = map(json.loads, said.out.splitlines())
    assert first["image"].endswith("scene.jpg") and first["score"] > 0.5 > second["score"]
    assert "broken.jpg" in said.err
    assert Image.open(tmp_path / "best.png").width > 400
    assert (tmp_path / "kept" / "gallery.json").is_file()


def test_json_is_one_object_a_line_and_broken_images_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    assert run("count", BIRD, SCENE, str(tmp_path / "broken.jpg"), "--json") == 1
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert good["count"] >= 0 and good["reason"] == "" and good["image"] == SCENE
    assert bad["count"] is None and "cannot be read" in bad["reason"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("detect", "-", SCENE), "neither a sketch nor a text"),
        (("detect", "nothing.png", SCENE), "there is no file nothing.png"),
        (("detect", BIRD), "no image is named"),
        (("detect", BIRD, SCENE, "--model", "nothing"), "no model nothing"),
        (("detect", BIRD, SCENE, SCENE, "--save", "a.png"), "of 2 images, name a folder"),
    ],
)
def test_what_cannot_be_is_one_line(args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*args) == 2
    said = capsys.readouterr()
    assert message in said.err and "Traceback" not in said.err


def test_a_bundle_is_exported(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        main(["export", str(shipped("learn")), str(tmp_path / "plain")])
    assert left.value.code == 0
    assert (tmp_path / "plain" / "model.safetensors").is_file()
    assert run("ask", "-", SCENE, "--question", "What is there?", "--model", str(tmp_path / "plain")) == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        main(["export", str(shipped("learn")), str(tmp_path / "mine")])
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
