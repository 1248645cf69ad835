"""`sketchlm detect | count | ask | rank | export` as users type them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines import answers
from pipelines.answers import Which, main
from sketchlm.loading import open_model, processor_of

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SCENE, BIRD = str(EXAMPLES / "scene.jpg"), str(EXAMPLES / "bird.png")
MODEL = ["--device", "cpu"]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """As they were: the command line sets them for its own process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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
        (("detect", SCENE[:-3] + "txt", SCENE), "there is no file"),
        (("count", BIRD, SCENE, "a.jpg", "b.jpg"), "no file a.jpg (2 of 3 images are missing): name images"),
        (("ask", "-", SCENE, "--question", " "), "neither a sketch nor a text"),
        (("detect", BIRD, SCENE, SCENE, "--save", "a.png"), "of 2 images, name a folder"),
        (("detect", BIRD, SCENE, "--save", "a.nothing"), "name it .png or .jpg"),
        (("detect", BIRD, SCENE, "--save", f"{SCENE}/birds"), "scene.jpg is a file; name another place"),
        (("rank", BIRD), "no image is named: sketchlm rank"),
        (("rank", BIRD, "nothing.jpg"), "there is no file nothing.jpg"),
        (("rank", BIRD, "nothing/*.jpg"), "the gallery is empty"),
        (("rank", BIRD, SCENE, "--save", "best"), "name it .png or .jpg"),
    ],
)
def test_what_cannot_be_is_one_line_before_a_model_is_loaded(
    args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(answers, "opened")
    assert run(*args) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1


def test_a_model_that_cannot_be_had_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("detect", BIRD, SCENE, "--model", "nothing") == 2
    said = capsys.readouterr()
    assert "no model nothing" in said.err and said.err.count("\n") == 1
    assert run("detect", BIRD, SCENE, "--threads", "-1") == 2
    assert "--threads is -1" in capsys.readouterr().err


def test_a_small_model_gets_one_thread_unless_another_number_is_named() -> None:
    for threads, wanted in ((0, 1), (2, 2)):
        torch.set_num_threads(3)
        answers.opened(Which(device="cpu", threads=threads))
        assert torch.get_num_threads() == wanted


def test_a_terminal_is_told_what_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for force, told in (("", False), ("1", True)):
        monkeypatch.setenv("FORCE_COLOR", force)
        monkeypatch.setattr("sketchlm.SketchLM.from_pretrained", lambda *_: (_ for _ in ()).throw(ValueError("none")))
        with pytest.raises(ValueError, match="none"):
            answers.opened(Which("[mine]"))
        said = capsys.readouterr()
        assert ("loading PyTorch and the model [mine]" in said.err, said.out) == (told, "")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("export", ("BUNDLE FOLDER", "Folder to write", "`learn`, which comes with")),
        ("rank", ("SKETCH IMAGE", "--save STR", "beside the best")),
        ("detect", ("--batch INT", "Images at once", "a folder for their pictures", "--threads INT")),
    ],
)
def test_the_help_names_what_is_wanted(
    command: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(each in said for each in words)
    assert "STR STR" not in said and ("--batch" in said) == (command == "detect")


def test_a_bundle_is_exported_by_name_and_asked_as_before(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        main(["export", "learn", str(tmp_path / "plain")])
    assert left.value.code == 0
    assert (tmp_path / "plain" / "model.safetensors").is_file()
    one, other = (processor_of(open_model(name, "cpu")).config for name in ("learn", tmp_path / "plain"))
    assert one == other
    assert run("ask", "-", SCENE, "--question", "What is there?", "--model", str(tmp_path / "plain")) == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        main(["export", "learn", str(tmp_path / "mine")])
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
