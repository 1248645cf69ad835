"""One description: read from whatever a model writes, compared with the annotations, made into a text."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from data_manifests.schema import validate
from sketchgen.captioner import Failure, Request
from sketchgen.description import (
    DescribeConfig,
    Description,
    ask,
    check_describe,
    compose,
    first_request,
    is_same_class,
    judge,
    parse,
    refine_request,
)

GOOD: dict[str, Any] = {
    "object": "dog",
    "description": "a brown dog that lies on its side",
    "relations": ["left of the red bus", "below the window"],
    "box": [10, 20, 60, 80],
}
ASKED = Request("?", b"", "dog", ([10.0, 20.0, 60.0, 80.0],), (100, 100))


def said(**changes: Any) -> str:
    return json.dumps(GOOD | changes)


def reason(text: str, request: Request = ASKED, config: DescribeConfig | None = None) -> str:
    found = judge(text, request, config or DescribeConfig())
    return found.reason if isinstance(found, Failure) else "taken"


# --- reading

words = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="<>{}"), min_size=1, max_size=40
)
sentences = words.map(lambda text: " ".join(text.split())).filter(
    lambda text: any(map(str.isalpha, text)) and text.isprintable()
)
numbers = st.floats(-1e6, 1e6, allow_nan=False)
descriptions = st.builds(
    Description, object=sentences, description=sentences, relations=st.lists(sentences, max_size=8),
    box=st.lists(numbers, min_size=4, max_size=4),
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner, max_size=5),
    max_leaves=12,
)


@given(
    descriptions, st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), max_size=50), st.booleans()
)
def test_what_is_valid_comes_back_whatever_stands_around_it(found: Description, noise: str, fenced: bool) -> None:
    text = found.model_dump_json()
    if fenced:
        text = f"```json\n{text}\n```"
    assert parse(f"{noise}{text}{noise}") == found


@given(st.text(max_size=300) | json_values.map(json.dumps) | st.text('{}[]":,\\ud80abox0123456789.eE-+', max_size=200))
def test_no_text_breaks_the_parser_and_garbage_says_why(text: str) -> None:
    found = judge(text, ASKED, DescribeConfig())
    if isinstance(found, Failure):
        assert found.reason in {"garbage", "wrong-class", "wrong-box", "box-text"}
        assert 0 < len(found.detail) < 500
        found.detail.encode()  # it goes into a ledger


@given(descriptions, st.integers(1, 400))
def test_what_is_cut_off_is_garbage(found: Description, cut: int) -> None:
    text = found.model_dump_json()
    assert isinstance(parse(text[: -min(cut, len(text))]), Failure)


@given(st.dictionaries(st.sampled_from([*GOOD]), json_values, min_size=1, max_size=4))
@settings(max_examples=200)
def test_an_answer_of_another_shape_is_never_taken_for_a_whole_one(changes: dict[str, Any]) -> None:
    found = parse(json.dumps(GOOD | changes))
    if isinstance(found, Description):
        assert found.object and found.description
        assert len(found.box) == 4
        assert np.isfinite(found.box).all()
        compose(found, "dog", True).encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot help with that.",
        said()[:-3],
        "[1, 2, 3]",
        json.dumps({name: GOOD[name] for name in ("object", "description", "relations")}),
        said(box=[1, 2, 3]),
        said(box=[1, 2, 3, float("nan")]),
        said(box="10 20 60 80"),
        said(description=""),
        said(description="..."),
        said(description="a dog <image> of a bus"),
        said(relations=["</s>"]),
        said(description="woof " * 400),
        said(relations=["by it"] * 9),
        '{"a":' * 3000,
        "{" * 9000,
        '{"box": ' + "9" * 5000 + "}",
    ],
)
def test_garbage(text: str) -> None:
    assert reason(text) == "garbage"


def test_the_first_whole_answer_of_several_counts() -> None:
    found = parse(f'{{"thought": "a dog?"}} {said()} {said(object="cat")}')
    assert isinstance(found, Description)
    assert found.object == "dog"


def test_signs_that_cannot_be_printed_are_left_out() -> None:
    found = parse(said(description="a \ud800 brown\x00\n dog\u200b"))
    assert isinstance(found, Description)
    assert found.description == "a brown dog"


# --- judging


@pytest.mark.parametrize(
    ("name", "category", "same"),
    [
        ("dog", "dog", True),
        ("A dog", "dog", True),
        ("Dogs.", "dog", True),
        ("sofa", "couch", True),
        ("the TV", "tv", True),
        ("cup", "cup/mug", True),
        ("cat", "dog", False),
        ("hot dog", "dog", False),
        ("dog/cat/bus/tree", "dog", False),
        ("thing", "dog", False),
    ],
)
def test_a_name_is_right_if_it_means_the_class(name: str, category: str, same: bool) -> None:
    assert is_same_class(name, category) == same


def test_another_object_is_named_with_what_was_seen() -> None:
    found = judge(said(object="kitten"), ASKED, DescribeConfig())
    assert found == Failure("wrong-class", "'kitten' where the annotation says 'dog'")


@pytest.mark.parametrize(
    ("box", "verdict"),
    [
        ([10, 20, 60, 80], "taken"),
        ([12, 24, 60, 80], "taken"),
        ([50, 20, 100, 80], "wrong-box"),
        ([60, 80, 10, 20], "wrong-box"),
        ([10, 20, 10, 80], "wrong-box"),
        ([0, 0, 1e308, 1e308], "wrong-box"),
        ([-1e300, -1e300, 1e300, 1e300], "wrong-box"),
    ],
)
def test_a_box_must_fit(box: list[float], verdict: str) -> None:
    assert reason(said(box=box)) == verdict


def test_one_of_several_boxes_is_enough() -> None:
    both = replace(ASKED, boxes=([0.0, 0.0, 5.0, 5.0], *ASKED.boxes))
    assert reason(said(), both) == "taken"


def test_thousandths_are_of_width_and_height() -> None:
    wide = replace(ASKED, boxes=([100.0, 20.0, 200.0, 80.0],), size=(400, 100))
    config = DescribeConfig(unit="thousandths")
    assert reason(said(box=[250, 200, 500, 800]), wide, config) == "taken"
    assert reason(said(box=[100, 20, 200, 80]), wide, config) == "wrong-box"


@pytest.mark.parametrize("text", ["a dog at [10, 20, 60, 80]", "a dog (10.5, 20)", "a dog, box 10, 20, 60, 80, lying"])
def test_coordinates_stay_out_of_the_text(text: str) -> None:
    assert reason(said(description=text)) == "box-text"
    assert reason(said(relations=[text])) == "box-text"


# --- asking


class Parrot:
    """A model that says what it is given, turn by turn, and keeps what it was asked."""

    def __init__(self, *turns: list[str | Failure]) -> None:
        self.turns, self.asked = list(turns), []

    def answer(self, requests: Any) -> list[str | Failure]:
        self.asked.append(list(requests))
        return self.turns.pop(0)

    def check(self) -> None:
        """Always there."""


def test_what_is_wrong_is_asked_again_with_the_complaint_and_what_failed_is_not() -> None:
    requests = [replace(ASKED, prompt=str(number)) for number in range(4)]
    parrot = Parrot([said(), "<image> hm", Failure("time-out", "x"), said(object="cat")], [said(), said(object="cow")])
    found = ask(parrot, requests, DescribeConfig())
    assert [type(answer) for answer in found] == [Description, Description, Failure, Failure]
    assert found[2:] == [Failure("time-out", "x"), Failure("wrong-class", "'cow' where the annotation says 'dog'")]
    again = [request.prompt for request in parrot.asked[1]]
    assert again[0].startswith("1\nYour last answer was not taken: no JSON object in '(a token) hm'.")
    assert again[1].startswith("3\nYour last answer was not taken: 'cat' where the annotation says 'dog'.")


def test_one_try_is_one_question() -> None:
    parrot = Parrot(["hm"])
    assert isinstance(ask(parrot, [ASKED], DescribeConfig(tries=1))[0], Failure)
    assert len(parrot.asked) == 1


def scene() -> tuple[Any, bytes]:
    """A sample of 200 x 100 with a red dog at (120, 30)-(160, 70) and two cups, and its photo."""
    image = Image.new("RGB", (200, 100), "blue")
    ImageDraw.Draw(image).rectangle((120, 30, 159, 69), "red")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)

    def thing(name: str, box: list[float]) -> dict[str, Any]:
        mask = {"size": [0, 0], "counts": ""}
        return {"object_id": f"{name}{box}", "category": name, "box": box, "mask": mask, "status": "written"}

    dog = [120.0, 30.0, 160.0, 70.0]
    query = {
        "query_id": "describe-0", "task": "describe", "row": 0, "category": "dog", "boxes": [dog], "count": -1,
        "question": "", "answers": ["This is a dog."], "match": -1, "answer_source": "template",
    }  # fmt: skip
    sketch = {
        "row": 0,
        "sketch_id": "s",
        "category": "dog",
        "source": "",
        "style": "",
        "object_id": "",
        "generator": "",
    }
    record = {
        "schema": 1,
        "image": {"source": "t", "id": "1", "width": 200, "height": 100, "license": ""},
        "objects": [thing("dog", dog), thing("cup", [1.0, 1.0, 9.0, 9.0]), thing("cup", [1.0, 20.0, 9.0, 29.0])],
        "sketches": [sketch],
        "queries": [query],
    }  # fmt: skip
    return validate(record), file.getvalue()


def test_a_prompt_holds_the_facts() -> None:
    sample, jpeg = scene()
    request = first_request(sample, sample.queries[0], jpeg, DescribeConfig())
    assert request.image == jpeg
    for text in (
        "200 x 100 pixels",
        "a dog, at [120, 30, 160, 70]",
        "This is a dog. Other objects in the image: cup (2).",
    ):
        assert text in request.prompt
    assert "{" not in request.prompt.replace('{"object"', "")
    thousandths = first_request(sample, sample.queries[0], jpeg, DescribeConfig(unit="thousandths"))
    assert "[600, 300, 800, 700]" in thousandths.prompt


def test_a_crop_shows_the_object_and_its_boxes_move_with_it() -> None:
    sample, jpeg = scene()
    request = first_request(sample, sample.queries[0], jpeg, DescribeConfig(view="crop", context=0.25))
    image = Image.open(io.BytesIO(request.image))
    assert image.size == request.size == (60, 60)
    assert request.boxes == ([10.0, 10.0, 50.0, 50.0],)
    inside = np.asarray(image.crop((14, 14, 46, 46)), np.float64).mean(axis=(0, 1))
    assert np.abs(inside - (254, 0, 0)).max() < 6
    assert reason(said(box=[10, 10, 50, 50]), request) == "taken"


def test_the_refiner_sees_the_answer_and_no_picture() -> None:
    sample, jpeg = scene()
    found = parse(said(description="a {category} of {answer}"))
    assert isinstance(found, Description)
    request = refine_request(first_request(sample, sample.queries[0], jpeg, DescribeConfig()), found, DescribeConfig())
    assert request.image == b""
    assert '"description": "a {category} of {answer}"' in request.prompt  # filled in once, not again


def test_the_text_names_what_the_sketch_shows_first() -> None:
    found = parse(said())
    assert isinstance(found, Description)
    text = "The sketch shows a dog. A brown dog that lies on its side. "
    assert compose(found, "dog", True) == text + "It is left of the red bus and below the window."
    assert compose(found, "dog", False) == text + "They are left of the red bus and below the window."
    other = found.model_copy(
        update={"relations": ["The dog lies by a cup!", "it is near a bed."], "description": "Red."}
    )
    assert compose(other, "owl", True) == "The sketch shows an owl. Red. The dog lies by a cup! It is near a bed."
    none = found.model_copy(update={"relations": []})
    assert compose(none, "dog", True) == text.strip()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DescribeConfig(prompt="A {kind} at {boxes}"), r"describe\.prompt holds \{kind\}, which nothing fills in"),
        (DescribeConfig(refine_prompt="Again!"), r"refine_prompt lacks \{answer\}"),
        (DescribeConfig(min_iou=2), r"min_iou is 2, must be from 0 to 1"),
    ],
)
def test_settings_that_mean_nothing_are_named(config: DescribeConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_describe(config)
