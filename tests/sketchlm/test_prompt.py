"""Prompts: the Vicuna-1.5 text, word for word, and wordings that come up evenly."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchlm.prompt import (
    PREFIX,
    SHORT,
    TEMPLATES,
    TEXT_TEMPLATES,
    TURN,
    PromptConfig,
    answer_of,
    chat_template,
    head_of,
    question_of,
    read_template,
    words,
)
from tests.sketchlm.llava import asked

CONFIG = PromptConfig()
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
SIZE = (640, 480)


def test_the_head_is_vicunas_with_sketch_and_image() -> None:
    assert head_of(CONFIG, 2) == f"{SYSTEM} USER: <image>\n<image>\n"
    assert head_of(CONFIG, 1) == f"{SYSTEM} USER: <image>\n"
    assert head_of(PromptConfig(system=""), 2) == "USER: <image>\n<image>\n"
    assert TURN == " ASSISTANT:"


@pytest.mark.parametrize(
    ("task", "question"),
    [
        ("describe", "Describe the object that the sketch shows and where it is in the image."),
        ("bbox", "BBOX: Draw a bounding box around object represented by the sketch in the image."),
        ("count", "COUNT: Count the number of objects in the image that resemble the sketch."),
        ("sbir", "SBIR: Is the object shown in the sketch visible some where in the image, answer with yes or no."),
        (
            "vqa",
            "VQA: What is the color of the dog?\nAnswer the question using a single word or phrase.",
        ),
    ],
)
def test_the_first_wording_of_each_task(task: str, question: str) -> None:
    assert question_of(asked(task), 0, CONFIG) == question


def test_prefixes_tell_the_tasks_apart() -> None:
    assert PREFIX == {"describe": "", "bbox": "BBOX: ", "count": "COUNT: ", "vqa": "VQA: ", "sbir": "SBIR: "}


def test_short_answers_are_asked_for_only_where_the_answer_is_short() -> None:
    assert question_of(asked("vqa"), 0, CONFIG).endswith(SHORT)
    prose = asked("vqa", answers=["The sketch shows a dog, which stands to the left of a bench."])
    assert SHORT not in question_of(prose, 0, CONFIG)
    assert SHORT not in question_of(asked("vqa"), 0, replace(CONFIG, short=False))
    assert not any(SHORT in question_of(asked(task), 0, CONFIG) for task in ("describe", "bbox", "count", "sbir"))


@pytest.mark.parametrize("task", list(TEMPLATES))
def test_every_task_has_eight_wordings_that_come_up_evenly(task: str) -> None:
    texts = TEMPLATES[task]
    assert len(set(texts)) == len(texts) >= 8
    seen = Counter(question_of(asked(task), draw, CONFIG) for draw in range(10 * len(texts)))
    assert set(seen.values()) == {10} and len(seen) == len(texts)


@pytest.mark.parametrize("task", list(TEXT_TEMPLATES))
def test_questions_without_a_sketch_name_the_class_and_speak_of_no_sketch(task: str) -> None:
    for draw in range(len(TEXT_TEMPLATES[task])):
        text = question_of(asked(task, row=-1, category="fire hydrant"), draw, CONFIG)
        assert text.startswith(PREFIX[task]) and "sketch" not in text
        assert "{" not in text
        assert ("What is the color" if task == "vqa" else "fire hydrant") in text


def test_retrieval_of_the_very_photo_is_asked_in_its_own_words() -> None:
    """Of a negative the class is in the image: the usual wording would be answered falsely."""
    own = asked("sbir", question="Was the sketch drawn from this very image?", match=0)
    texts = {question_of(own, draw, CONFIG) for draw in range(8)}
    assert len(texts) == 8
    assert all(text.startswith(PREFIX["sbir"]) and "very image?" in text and "yes or no" in text for text in texts)
    assert answer_of(own, (10, 10), CONFIG) == "no"


def test_braces_in_a_question_stay() -> None:
    assert "{x} {question}" in question_of(asked("vqa", question=" {x} {question} "), 0, CONFIG)


@pytest.mark.parametrize(
    ("task", "fields", "answer"),
    [
        ("sbir", {"match": 1}, "yes"),
        ("sbir", {"match": 0}, "no"),
        ("count", {"count": 0}, "0"),
        ("count", {"count": 12}, "12"),
        ("bbox", {"boxes": [[64.0, 48.0, 320.0, 240.0]]}, "[0.10, 0.20, 0.50, 0.50]"),
        ("bbox", {"boxes": [[0.0, 0.0, 640.0, 480.0], [0.0, 0.0, 64.0, 48.0]]},
         "[0.00, 0.12, 1.00, 0.88], [0.00, 0.12, 0.10, 0.20]"),
        ("vqa", {"answers": [" brown ", "tan"]}, "brown"),
        ("describe", {"answers": ["A dog."], "boxes": [[64.0, 48.0, 320.0, 240.0]]}, "A dog. [0.10, 0.20, 0.50, 0.50]"),
        ("describe", {"answers": ["A dog."], "boxes": []}, "A dog."),
        ("describe", {"answers": [""], "boxes": [[64.0, 48.0, 320.0, 240.0]]}, "[0.10, 0.20, 0.50, 0.50]"),
    ],
)  # fmt: skip
def test_golden_answers(task: str, fields: dict[str, object], answer: str) -> None:
    assert answer_of(asked(task, **fields), SIZE, CONFIG) == answer


def test_boxes_in_the_frame_of_the_image_and_with_more_decimals() -> None:
    box = asked("bbox", boxes=[[64.0, 48.0, 320.0, 240.0]])
    assert answer_of(box, SIZE, replace(CONFIG, frame="image")) == "[0.10, 0.10, 0.50, 0.50]"
    assert answer_of(box, SIZE, replace(CONFIG, decimals=3)) == "[0.100, 0.200, 0.500, 0.500]"


def test_the_chat_template_says_the_same() -> None:
    from jinja2 import Environment

    template = Environment().from_string(chat_template(CONFIG))
    text = {"type": "text", "text": "COUNT: How many?"}
    user = {"role": "user", "content": [text, {"type": "image"}, {"type": "image"}]}
    asked_now = template.render(messages=[user], add_generation_prompt=True)
    assert asked_now == f"{head_of(CONFIG, 2)}COUNT: How many?{TURN}"
    told = template.render(messages=[user, {"role": "assistant", "content": "3"}], add_generation_prompt=False)
    assert told == f"{asked_now} 3</s>"
    assert template.render(messages=[{"role": "system", "content": "x"}, {"role": "user", "content": "Hi"}]) == (
        f"{SYSTEM} USER: Hi"
    )


@given(
    st.builds(
        PromptConfig,
        system=st.text(max_size=20) | st.just("{# sketchlm: #} "),
        short=st.booleans(),
        frame=st.sampled_from(["padded", "image"]),
        decimals=st.integers(1, 4),
    )
)
def test_the_chat_template_is_read_back(config: PromptConfig) -> None:
    template = chat_template(config)
    assert read_template(template) == config
    for other in (template[:-1], template.replace("USER", "HUMAN"), template.partition("{#")[0]):
        assert read_template(other) is None


@pytest.mark.parametrize("template", ["", "{{ ", "{{ messages }}", '{{ "" }}{# sketchlm: [1] #}', "{# sketchlm: 3 #}"])
def test_another_chat_template_is_not_ours(template: str) -> None:
    assert read_template(template) is None


def test_a_tokenizer_made_from_nothing_is_told_every_word() -> None:
    known = " ".join(words())
    for task in TEMPLATES:
        for draw in range(8):
            text = question_of(asked(task, question="", category=""), draw, CONFIG)
            assert all(word in known for word in text.split())
