"""The library: every kind of input, lists and single ones alike, and nothing lost to what is broken."""

from __future__ import annotations

import io
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from data_manifests.sketch import SketchWarning
from sketchlm import Count, Detection, SketchLM, library
from sketchlm.answer import Answer, Token
from sketchlm.bundle import Bundle, BundleInfo, export, load_bundle, save_bundle
from sketchlm.hub import within_reach
from sketchlm.loading import even_trained, open_model, processor_of
from sketchlm.model import ModelConfig, adapt, load_llava
from sketchlm.prompt import PromptConfig
from sketchlm.results import GAP, HEIGHT, LINE, _wrapped
from sketchlm.threads import threads_for
from sketchlm.tokenizer import load_tokenizer
from tests.sketchlm.llava import save_published, tiny_llava, tiny_tokenizer

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
STROKES = [[[20, 200, 200, 20, 20], [30, 30, 180, 180, 30]], [[60, 120], [60, 150]]]


@pytest.fixture(scope="module")
def model() -> SketchLM:
    return SketchLM(Bundle(tiny_llava(seed=3), tiny_tokenizer(), BundleInfo("tests", prompt=PromptConfig(system=""))))


@pytest.fixture(scope="module")
def learned() -> SketchLM:
    return SketchLM.from_pretrained("learn", device="cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo that is twice as wide as high."""
    path = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 255, (6, 12, 3), np.uint8)
    Image.fromarray(noise).resize((120, 60), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    path = tmp_path / "drawing.png"
    canvas = np.full((256, 256), 255, np.uint8)
    canvas[60:200, 60:66] = canvas[60:66, 60:200] = canvas[60:200, 194:200] = 0
    Image.fromarray(canvas).save(path)
    return path


def says(monkeypatch: pytest.MonkeyPatch, *texts: str, ended: bool = True) -> list[Any]:
    """Let the model say these, in turn; returns the questions that it is asked."""
    asked: list[Any] = []

    def answer(_model: Any, _processor: Any, questions: Any, *_: Any) -> list[Answer]:
        asked.extend(questions)
        rest = texts[len(asked) - len(questions) :]
        return [Answer(text, 0.5, (Token(len(text), 0.5),), ended) for text, _ in zip(rest, questions, strict=False)]

    monkeypatch.setattr(library, "answer", answer)
    monkeypatch.setattr("sketchlm.detection.answer", answer)
    return asked


# What comes in


def test_paths_pictures_arrays_and_bytes_are_one_thing(model: SketchLM, photo: Path, drawing: Path) -> None:
    sketches = [drawing, str(drawing), Image.open(drawing), np.asarray(Image.open(drawing)), drawing.read_bytes()]
    images = [photo, str(photo), Image.open(photo), np.asarray(Image.open(photo)), photo.read_bytes()]
    given = [model.ask(sketch, image, "What is it?").text for sketch, image in zip(sketches, images, strict=True)]
    assert len(set(given)) == 1
    assert given[0]


def test_strokes_are_one_sketch_and_lists_of_them_are_many(
    model: SketchLM, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = [np.array(stroke, np.float32).T for stroke in STROKES]
    one, same = model.count(STROKES, photo), model.count(arrays, photo)
    assert one.shown.sketch is not None and same.shown.sketch is not None
    assert np.array_equal(one.shown.sketch, same.shown.sketch)
    asked = says(monkeypatch, "3", "4")
    assert [count.count for count in model.count([STROKES, arrays], photo)] == [3, 4]
    assert len(asked) == 2


def test_exif_turns_the_photo_and_boxes_are_of_the_upright_one(
    model: SketchLM, photo: Path, drawing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = tmp_path / "turned.jpg"
    upright = Image.open(photo).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees
    upright.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif, quality=95)
    says(monkeypatch, *["[0.00, 0.25, 0.50, 0.75]"] * 2)
    boxes = [model.detect(drawing, path).box for path in (photo, turned)]
    # a 120 x 60 photo lies in rows 30 to 90 of its square
    assert [box.xyxy for box in boxes if box] == [(0, 0, 60, 60)] * 2


@pytest.fixture
def server(photo: Path) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"/photo.png": photo.read_bytes(), "/broken.png": b"nothing"}.get(self.path)
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()


def test_urls_are_fetched(model: SketchLM, photo: Path, drawing: Path, server: str) -> None:
    question = "What is it?"
    assert model.ask(drawing, f"{server}/photo.png", question).text == model.ask(drawing, photo, question).text
    with pytest.raises(ValueError, match="images are fetched by http"):
        model.ask(drawing, f"file://{photo}", question)
    with pytest.raises(ValueError, match=r"nothing.png: the image cannot be fetched \(FileNotFoundError"):
        model.ask(drawing, f"{server}/nothing.png", question)
    url = f"{server}/broken.png"
    with pytest.raises(ValueError, match=f"^{url}: the image cannot be read") as error:
        model.ask(drawing, url, question)
    assert "BytesIO" not in str(error.value)
    reasons = [
        *(one.reason for one in model.count(drawing, [photo, url])),
        *model.gallery([photo, url]).broken.values(),
    ]
    assert [reason.startswith(url) for reason in reasons] == [False, True, True]


def test_without_a_sketch_words_name_the_object(
    model: SketchLM, photo: Path, drawing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = says(monkeypatch, *["2"] * 3)
    model.count(None, photo, text="dog")
    model.count(drawing, photo, text="the red one")
    model.ask(None, photo, "Is it red?")
    alone, both, text = (model.processor.tokenizer.decode(sum(_ids(model, one), ())) for one in asked)
    assert "the number of dog objects in the image" in alone
    assert alone.count("<image>") == text.count("<image>") == both.count("<image>") // 2
    assert both.endswith("resemble the sketch. the red one ASSISTANT :")
    assert "Is it red?" in text
    with pytest.raises(ValueError, match="neither a sketch nor a text"):
        model.detect(None, photo)
    with pytest.raises(ValueError, match="the question is empty"):
        model.ask(drawing, photo, " ")


def _ids(model: SketchLM, one: Any) -> Any:
    return model.processor.question(one.query, one.draw, one.hint)


def test_words_that_the_model_cannot_take_are_told(model: SketchLM, photo: Path, drawing: Path) -> None:
    for ask in (lambda words: model.ask(drawing, photo, words), lambda words: model.rank(drawing, photo, words)):
        with pytest.raises(ValueError, match="a control token"):
            ask("What is <image>?")
    with pytest.raises(ValueError, match="the model's context"):
        model.ask(drawing, photo, "very " * 2000)


def test_bad_sketches_are_told(model: SketchLM, photo: Path, tmp_path: Path, drawing: Path) -> None:
    with pytest.raises(ValueError, match="the sketch is blank"):
        model.count(np.full((256, 256), 255, np.uint8), photo)
    inverted = 255 - np.asarray(Image.open(drawing))
    with pytest.warns(SketchWarning, match="inverted to dark on white"):
        turned = model.count(inverted, photo)
    assert turned.shown.sketch is not None
    assert np.array_equal(turned.shown.sketch, model.count(drawing, photo).shown.sketch)
    with pytest.raises(ValueError, match="there is no file"):
        model.count(tmp_path / "none.png", photo)
    with pytest.raises(ValueError, match="2 sketches and 3 images"):
        model.count([drawing, drawing], [photo] * 3)


# Lists


def test_a_broken_sketch_of_a_list_is_named(model: SketchLM, photo: Path, drawing: Path, tmp_path: Path) -> None:
    blank = np.full((256, 256), 255, np.uint8)
    Image.fromarray(blank).save(tmp_path / "blank.png")
    for call in (lambda sketches: model.count(sketches, photo), lambda sketches: model.rank(sketches, [photo])):
        with pytest.raises(ValueError, match="^sketch #1: the sketch is blank"):
            call([drawing, blank])
        with pytest.raises(ValueError, match="blank.png: the sketch is blank"):
            call([drawing, tmp_path / "blank.png"])
    with pytest.raises(ValueError, match="^the sketch is blank"):
        model.count(blank, photo)


def test_warnings_point_at_the_line_of_the_caller(model: SketchLM, photo: Path, drawing: Path) -> None:
    inverted = 255 - np.asarray(Image.open(drawing))
    for call in (lambda: model.count(inverted, photo), lambda: model.rank([inverted], [photo])):
        with pytest.warns(SketchWarning) as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}


def test_questions_may_be_many(model: SketchLM, photo: Path, drawing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = ["What is it?", "Is it red?", "Where is it?"]
    one = [model.ask(drawing, photo, question) for question in questions]
    many = model.ask(drawing, photo, questions, batch=2)
    assert [(reply.question, reply.text) for reply in many] == [(reply.question, reply.text) for reply in one]
    truly, opened = library.as_photo, []
    monkeypatch.setattr(library, "as_photo", lambda *args, **named: opened.append(args) or truly(*args, **named))
    assert len(model.ask(None, photo, questions)) == 3 and len(opened) == 1
    broken = model.ask(drawing, b"nothing", questions)
    assert all("cannot be read" in reply.reason for reply in broken) and len(opened) == 2
    assert [reply.question for reply in broken] == questions
    asked = says(monkeypatch, *"abc")
    replies = model.ask([drawing, STROKES, drawing], [photo] * 3, questions)
    assert [reply.text for reply in replies] == ["a", "b", "c"]
    assert [ask.query.question for ask in asked] == questions
    assert model.ask(drawing, photo, []) == []
    with pytest.raises(ValueError, match="2 images and 3 questions: give one for all, or as many"):
        model.ask(drawing, [photo, photo], questions)
    with pytest.raises(ValueError, match="the question is empty"):
        model.ask(drawing, photo, ["What?", " "])


def test_arrays_of_offsets_in_a_list_are_many_sketches(model: SketchLM, photo: Path) -> None:
    rows = np.array([[0, 0, 0], [100, 0, 0], [0, 50, 1]], np.int16)
    one, two = model.count([rows, rows[::-1].copy()], photo)
    assert one.shown.sketch is not None and two.shown.sketch is not None
    assert not np.array_equal(one.shown.sketch, two.shown.sketch)
    stroke = model.count([[0, 100, 100], [0, 0, 50]], photo)
    assert stroke.shown.sketch is not None and np.array_equal(stroke.shown.sketch, one.shown.sketch)


def test_a_broken_image_of_a_list_is_a_result_with_a_reason(
    model: SketchLM, photo: Path, drawing: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:100])
    huge = tmp_path / "huge.png"
    Image.new("1", (9000, 9000)).save(huge)
    counts = model.count(drawing, [photo, broken, photo, huge], batch=2)
    assert [bool(one.reason and not one.raw) for one in counts] == [False, True, False, True]
    assert "broken.jpg" in counts[1].reason and "cannot be read" in counts[1].reason
    assert "81 megapixels" in counts[3].reason
    for path in (broken, huge):
        with pytest.raises(ValueError, match=path.name):
            model.count(drawing, path)
    assert model.detect(drawing, []) == []


def test_batches_answer_as_one_by_one(learned: SketchLM) -> None:
    scene, sketches = EXAMPLES / "scene.jpg", sorted(EXAMPLES.glob("*.png"))
    one = [learned.detect(sketch, scene, multiple=True) for sketch in sketches]
    many = learned.detect(sketches, [scene] * len(sketches), multiple=True)
    assert len({found.raw for found in one}) == len(sketches) > 1
    assert [found.raw for found in many] == [found.raw for found in one]
    for a, b in zip(one, many, strict=True):
        assert [box.score for box in a.boxes] == pytest.approx([box.score for box in b.boxes], abs=1e-5)


def test_the_model_answers_one_thread_at_a_time(
    model: SketchLM, photo: Path, drawing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[int] = []
    most: list[int] = []

    def answer(_model: Any, _processor: Any, questions: Any, *_: Any) -> list[Answer]:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return [Answer("3", 0.5)] * len(questions)

    monkeypatch.setattr(library, "answer", answer)
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: model.count(drawing, photo).count, range(4)))
    assert counts == [3] * 4 and most == [1] * 4


def test_threads_answer_as_one(model: SketchLM, photo: Path, drawing: Path) -> None:
    expected = model.ask(drawing, photo, "What is it?").text
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda: said.append(model.ask(drawing, photo, "What is it?").text)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [expected] * 4


# Galleries


def test_a_gallery_is_ranked_however_it_is_given(
    learned: SketchLM, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, bird = EXAMPLES / "scene.jpg", EXAMPLES / "bird.png"
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in (scene, photo):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "twin.jpg").write_bytes(scene.read_bytes())
    (folder / "broken.jpg").write_bytes(b"nothing")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    walked = learned.rank(bird, folder)
    assert [Path(match.name).name for match in walked.matches] == ["scene.jpg", "photo.png"]
    assert [Path(name).name for name in walked.broken] == ["broken.jpg"]
    assert {Path(a).name: Path(b).name for a, b in walked.duplicates.items()} == {"twin.jpg": "scene.jpg"}
    assert len(list((tmp_path / "cache" / "sketchlm" / "galleries").iterdir())) == 1
    arrays = [Image.open(photo), Image.open(scene), scene.read_bytes(), b"nothing"]
    shown = learned.rank(bird, arrays)
    assert [match.name for match in shown.matches] == ["#1", "#0"]
    assert [match.score for match in shown.matches] == pytest.approx([m.score for m in walked.matches], abs=1e-3)
    assert list(shown.broken) == ["#3"] and shown.duplicates == {"#2": "#1"}
    both = learned.rank([bird, EXAMPLES / "mushroom.png"], learned.gallery(folder), top_k=1)
    assert [len(one.matches) for one in both] == [1, 1]
    named = learned.rank(None, folder, text="bird")
    assert len(named.matches) == 2
    assert learned.rank(bird, folder, text="the small one").matches[0].score != walked.matches[0].score
    shown.save(tmp_path / "ranking.png")
    alone = learned.rank(bird, np.asarray(Image.open(scene)))  # one picture, not its rows
    assert [match.name for match in alone.matches] == ["#0"]
    mixed = learned.rank(bird, [folder, Image.open(scene)])
    assert len(mixed.matches) + len(mixed.duplicates) == 4 and len(mixed.broken) == 1
    small = learned.gallery(folder, keep_features=False)
    again = learned.rank(bird, small)  # looked at anew, not as it was kept in half precision
    assert [match.name for match in again.matches] == [match.name for match in walked.matches]
    assert again.matches[0].score == pytest.approx(walked.matches[0].score, abs=1e-3)
    with pytest.raises(ValueError, match="is kept in memory, not in"):
        learned.gallery(arrays, tmp_path / "kept")
    with pytest.raises(ValueError, match="neither a sketch nor a text"):
        learned.rank(None, folder)
    for empty in ([], tmp_path / "cache" / "nothing", [b"nothing"]):
        with pytest.raises(ValueError, match="the gallery is empty"):
            learned.rank(bird, empty)


# What comes out


def test_what_cannot_be_read_is_a_result_with_its_words(
    model: SketchLM, photo: Path, drawing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, *["I see no numbers"] * 2)
    found = model.detect(drawing, photo)
    assert (found.boxes, found.box, found.raw) == ((), None, "I see no numbers")
    assert found.reason == "the answer holds no box"
    count = model.count(drawing, photo)
    assert (count.count, count.reason) == (None, "the answer holds no number")
    says(monkeypatch, "[0.10, 0.30, 0.40, 0.60], [0.5", ended=False)
    cut = model.detect(drawing, photo, multiple=True)
    assert len(cut.boxes) == 1 and "cut off" in cut.reason
    with pytest.raises(ValueError, match="overlap is -3"):
        model.detect(drawing, photo, overlap=-3)
    says(monkeypatch, "a very lo", ended=False)
    assert "cut off" in model.ask(drawing, photo, "What?").reason


def test_several_boxes_are_suppressed_and_the_padding_holds_none(
    model: SketchLM, photo: Path, drawing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "[0.10, 0.30, 0.40, 0.60], [0.11, 0.30, 0.41, 0.60], [0.60, 0.30, 0.80, 0.60], [0.10, 0.01, 0.30, 0.20]"
    says(monkeypatch, *[text] * 3)
    found = model.detect(drawing, photo, multiple=True)
    assert [box.xyxy for box in found.boxes] == [
        pytest.approx((12, 6, 48, 42)),
        pytest.approx((72, 6, 96, 42)),
    ]
    assert found.dropped == 2
    assert len(model.detect(drawing, photo, multiple=True, overlap=1.0).boxes) == 3
    assert len(model.detect(drawing, photo).boxes) == 1


def test_results_are_pictures(model: SketchLM, photo: Path, drawing: Path, tmp_path: Path) -> None:
    found = model.detect(drawing, photo)
    results = [found, replace(found, boxes=()), model.count(drawing, photo), model.ask(None, photo, "What?")]
    for number, result in enumerate(results):
        path = tmp_path / f"{number}.png"
        result.save(path)
        assert min(Image.open(path).size) > 300
        assert Image.open(io.BytesIO(result._repr_png_())).size == Image.open(path).size
    found.save(tmp_path / "new" / "folder" / "picture.jpg")
    assert Image.open(tmp_path / "new" / "folder" / "picture.jpg").format == "JPEG"
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("other/picture.nothing", "name it .png or .jpg"),
        ("picture", "name it .png or .jpg"),
        ("file/picture.png", "file is a file; name another place"),
        ("folder.png", "folder.png is a folder; name another place"),
    ):
        with pytest.raises(ValueError, match=message):
            found.save(tmp_path / name)
    assert not (tmp_path / "other").exists()


@given(words=st.text(alphabet=st.sampled_from("abW .\n"), max_size=120), wide=st.integers(20, 300))
def test_captions_are_wrapped_and_whole(words: str, wide: int) -> None:
    font = ImageFont.load_default(16)
    lines = _wrapped(words, font, wide)
    assert "".join(lines).replace(" ", "") == "".join(words.split())
    assert all(font.getlength(line) <= wide for line in lines)


def test_a_long_question_leaves_its_answer_in_the_picture(model: SketchLM, photo: Path, drawing: Path) -> None:
    short = replace(model.ask(drawing, photo, "What?"), text="no", reason="")
    long, longer = (replace(short, question="Is it so? " * 40, text=text) for text in ("no", "no " + "and no" * 300))
    heights = [reply.picture().height for reply in (short, long, longer)]
    assert heights == sorted(set(heights))
    assert {reply.picture().width for reply in (short, long, longer)} == {short.picture().width}
    last = np.asarray(long.picture())[-GAP - LINE :]  # the answer's own line
    assert (last < 128).any() and not (last[:, HEIGHT // 2 :] < 128).any()


def test_results_are_small(model: SketchLM, photo: Path, drawing: Path) -> None:
    """They hold the image as it was given, not its pixels."""
    assert model.count(drawing, photo).shown.image == photo


# Models


def test_a_gallery_of_one_precision_serves_another(learned: SketchLM, tmp_path: Path) -> None:
    """So does the embedding that comes with the model, trained in full precision."""
    scene, bird = EXAMPLES / "scene.jpg", EXAMPLES / "bird.png"
    learned.gallery(scene, tmp_path / "kept")
    half = SketchLM.from_pretrained("learn", "cpu", "bfloat16")
    found = half.rank(bird, half.gallery(scene, tmp_path / "kept"))
    assert found.matches[0].score == pytest.approx(learned.rank(bird, [scene]).matches[0].score, abs=0.1)


def test_an_adapter_that_is_not_merged_answers_in_half_precision(tmp_path: Path, photo: Path, drawing: Path) -> None:
    """As a 4-bit base keeps it: its connector is saved in full precision."""
    save_published(tmp_path / "base")
    base = str(tmp_path / "base")
    adapted = adapt(load_llava(base), ModelConfig(lora_rank=4))
    save_bundle(tmp_path / "b", adapted, load_tokenizer(base), BundleInfo("finetune", base))
    bundle = load_bundle(tmp_path / "b", trainable=True, dtype=torch.bfloat16)
    even_trained(bundle.model, torch.bfloat16)
    both = SketchLM(bundle)
    assert both.ask(drawing, photo, "What is it?", max_new_tokens=3).raw is not None
    assert len(both.rank(drawing, [photo]).matches) == 1


def test_models_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, tiny_llava(seed=3), tiny_tokenizer(), BundleInfo("finetune"))
    assert SketchLM.from_pretrained(folder, "cpu").bundle.info.stage == "finetune"
    save_published(tmp_path / "llava")
    with pytest.warns(UserWarning, match="holds no bundle.json"):
        plain = open_model(tmp_path / "llava", "cpu")
    assert plain.info.stage == "plain"
    assert not any(parameter.requires_grad for parameter in plain.model.parameters())


def test_an_export_is_asked_in_the_prompt_that_it_was_trained_in(tmp_path: Path) -> None:
    prompt = PromptConfig(system="Be brief.", short=False, frame="image", decimals=3)
    save_bundle(tmp_path / "b", tiny_llava(seed=3), tiny_tokenizer(), BundleInfo("finetune", prompt=prompt))
    export(tmp_path / "b", tmp_path / "plain")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exported = open_model(tmp_path / "plain", "cpu")
    assert exported.info.stage == "plain"
    assert processor_of(exported).config.prompt == prompt


def test_a_plain_model_says_in_which_prompt_it_is_asked(tmp_path: Path) -> None:
    save_published(tmp_path / "llava")
    with pytest.warns(UserWarning, match=r"holds no bundle.json.* LLaVA-1.5 \('A chat between'") as caught:
        plain = SketchLM.from_pretrained(tmp_path / "llava", "cpu")
    assert [warning.filename for warning in caught] == [__file__]
    assert plain.processor.config.prompt == PromptConfig()


def test_a_hub_that_cannot_be_reached_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    began = time.monotonic()
    with pytest.raises(
        ValueError, match=r"no model a/b is a folder here .* cannot be reached \(http://127.0.0.1:9.*hf download a/b"
    ):
        open_model("a/b", "cpu")
    save_bundle(tmp_path / "b", adapt(tiny_llava(), ModelConfig(lora_rank=2)), tiny_tokenizer(), BundleInfo("x", "a/b"))
    with pytest.raises(ValueError, match="needs its base model a/b: .* cannot be reached"):
        open_model(tmp_path / "b", "cpu")
    assert time.monotonic() - began < 10
    commit = tmp_path / "cache" / "models--a--b" / "snapshots" / "1"
    save_published(commit)
    (commit.parents[1] / "refs").mkdir()
    (commit.parents[1] / "refs" / "main").write_text("1")
    with pytest.warns(UserWarning, match="a/b holds no bundle.json"):
        assert open_model("a/b", "cpu").info.stage == "plain"  # what was downloaded before is used
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set"):
        within_reach("a/c", "config.json")


def test_a_small_model_is_served_by_one_thread() -> None:
    with torch.device("meta"):
        large, other = torch.nn.Linear(10_000, 10_000), torch.nn.Linear(3, 3)
    assert threads_for(tiny_llava()) == 1
    assert threads_for(large.to_empty(device="cpu")) == 0  # 400 MB that nobody writes to
    assert threads_for(other) == 0  # not on the CPU


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "nothing"}, "no model nothing: there is no folder nothing"),
        ({"device": "toaster"}, "device is 'toaster'"),
        ({"device": "meta"}, "device is 'meta', which PyTorch cannot use here"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
        ({"quantization": "2bit"}, "quantization is '2bit'"),
        ({"quantization": "4bit", "device": "cpu"}, "needs a GPU and bitsandbytes"),
    ],
)
def test_models_that_cannot_be_had(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SketchLM.from_pretrained(**options)


def test_nothing_is_said_of_a_clean_drawing(model: SketchLM, photo: Path, drawing: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SketchWarning)
        assert isinstance(model.detect(drawing, photo), Detection)
        assert isinstance(model.count(drawing, photo), Count)
