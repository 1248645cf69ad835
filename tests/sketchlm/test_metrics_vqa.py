"""VQAv2's accuracy: cases worked by hand from its rules, and from what its public code does besides."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchlm.metrics import VQA, VqaRow, figures, normalise, vqa_accuracy, vqa_row
from sketchlm.metrics.vqa import CONTRACTIONS, without_punctuation

words = st.sampled_from(["yes", "no", "2", "two", "the cat", "cat", "dont", "don't", "black/white", "1,000", ""])


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("Yes.", "yes"),
        ("  yes\n", "yes"),
        ("a\tcat", "cat"),
        ("The cat and an owl", "cat and owl"),
        ("Two", "2"),
        ("none", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("twenty-one", "twenty 1"),
        ("dont", "don't"),
        ("DONT", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("couldntve", "couldntve"),  # two apostrophes are missing
        ("twas 5 oclock", "'twas 5 o'clock"),
        ("yall'd've", "y'all'd've"),
        ("im", "im"),  # the public table has it with a capital, which no normalised word has
        ("its", "its"),
        ("well", "well"),
        ("shed", "shed"),
        ("somebody'd", "somebodyd"),  # the wrong way round
        ("girl's", "girl's"),
        ("2:50 pm", "2:50 pm"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("black /white", "black white"),
        ("t-shirt", "t shirt"),
        ("t-shirt - red", "tshirt red"),  # one beside a space takes the other along
        ("t-shirt, red/blue", "t shirt red blue"),  # each kind by itself
        ("100,978", "100978"),
        ("red,blue", "red blue"),
        ("1,000 red/blue", "1000 redblue"),  # a comma between digits takes all punctuation along
        ("3.5", "3.5"),
        (".5", ".5"),
        ("5.", "5"),
        ("v.2", "v.2"),
        ("u.s.a.", "usa"),
        ("what?!", "what"),
        ("[yes]", "yes"),
        ("a", ""),
        ("", ""),
        ("...", ""),
    ],
)
def test_what_a_model_says_is_read_so(said: str, read: str) -> None:
    assert normalise(said) == read


def test_periods_are_removed_up_to_the_thirty_second() -> None:
    assert without_punctuation("." * 40) == "." * 8


def test_contractions_lack_one_apostrophe() -> None:
    assert len(CONTRACTIONS) == 114
    for written, whole in CONTRACTIONS.items():
        if written != "somebody'd":
            assert written.replace("'", "") == whole.replace("'", "") and len(written) == len(whole) - 1


@pytest.mark.parametrize(("matches", "accuracy"), enumerate([0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1]))
def test_of_ten_people_four_are_enough(matches: int, accuracy: float) -> None:
    people = ["red"] * matches + ["blue", "green"] * 5
    assert vqa_accuracy("red", people[:10]) == pytest.approx(accuracy)


def test_what_people_said_is_compared_as_the_public_code_does() -> None:
    differ = ["no"]
    # without punctuation where people differ, as written where they agree
    assert vqa_accuracy("black/white", ["black/white"] * 9 + differ) == 1
    assert vqa_accuracy("black/white", ["black/white"] * 10) == 0
    # never with number words, articles or small letters
    for theirs in ("two", "Two", "a 2", "the two"):
        assert vqa_accuracy("two", [theirs] * 9 + differ) == 0
    assert vqa_accuracy("Two.", ["2"] * 10) == vqa_accuracy("Two.", ["2."] * 9 + differ) == 1
    assert vqa_accuracy("DONT", ["don't"] * 10) == 1
    # people whose answers differ by punctuation alone agree
    assert vqa_accuracy("yes", ["yes"] * 2 + ["yes."] * 2 + ["no"] * 6) == 1


@given(words, st.lists(words, min_size=4, max_size=10))
def test_the_accuracy_is_the_mean_over_those_left_out(said: str, people: list[str]) -> None:
    theirs = [without_punctuation(text) for text in people] if len(set(people)) > 1 else people
    left_out = [[text for place, text in enumerate(theirs) if place != out] for out in range(len(people))]
    each = [min(Fraction(1), Fraction(rest.count(normalise(said)), 3)) for rest in left_out]
    assert vqa_accuracy(said, people) == pytest.approx(float(sum(each) / len(each)))


@given(words, st.lists(words, min_size=10, max_size=10), st.data())
def test_the_order_of_people_is_nothing(said: str, people: list[str], data: st.DataObject) -> None:
    assert vqa_accuracy(said, data.draw(st.permutations(people))) == pytest.approx(vqa_accuracy(said, people))


@given(st.text(max_size=30))
def test_any_text_is_read(text: str) -> None:
    read = normalise(text)
    assert read == " ".join(read.split())
    assert not set(read) & set(';/[]"{}()=+\\_-><@`,?!')
    assert vqa_accuracy(text, [read] * 10) == 1


def test_rows_tell_people_from_templates() -> None:
    people = ["red", *["red"] * 3, *["blue"] * 7]  # the consensus, then ten
    assert vqa_row("Red.", people) == VqaRow(pytest.approx(0.9), 1, 1, 0)  # type: ignore[arg-type]
    assert vqa_row("The red", ["red"]) == VqaRow(0, 1, 0, 1)
    assert vqa_row("green", ["red", "crimson"]) == VqaRow(0, 0, 0, 1)
    found = figures([vqa_row("blue", people), vqa_row("red", ["red"])], VQA, ["a", "b"])
    assert (found["VQAv2 accuracy"].value, found["VQAv2 accuracy"].n) == (1, 1)
    assert (found["exact"].value, found["exact"].n) == (1, 1)


def test_too_few_people_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 people answered \['a', 'b', 'c'\]: the rule needs four"):
        vqa_accuracy("a", ["a", "b", "c"])
    with pytest.raises(ValueError, match="the question has no answer"):
        vqa_row("a", [])
