"""The vocabulary: names of real sources, each read by the plainest rule that does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_manifests.vocabulary import RULES, Vocabulary, spelled, vocabulary

COCO = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack,
umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple,
sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining
table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator,
book, clock, vase, scissors, teddy bear, hair drier, toothbrush"""
COCO_NAMES = COCO.replace("\n", " ").split(", ")


@pytest.mark.parametrize(
    ("name", "source", "means", "rule"),
    [
        ("dog", "coco", "dog", "exact"),
        ("Dog", "openimages", "dog", "spelling"),
        ("hot-air_balloon", "sketchy", "hot air balloon", "spelling"),
        ("teddy-bear", "quickdraw", "teddy bear", "spelling"),
        ("car_(sedan)", "sketchy", "car", "qualifier"),
        ("bear (animal)", "tu_berlin", "bear", "source"),
        ("computer-mouse", "tu_berlin", "mouse", "source"),
        ("mouse (animal)", "tu_berlin", "mouse (animal)", "exact"),
        ("mouse", "coco", "mouse", "exact"),
        ("mouse", "quickdraw", "mouse (animal)", "source"),
        ("grapes", "quickdraw", "grape", "plural"),
        ("Leaves", "", "leaf", "plural"),
        ("buses", "", "bus", "plural"),
        ("bus", "", "bus", "exact"),
        ("cactus", "", "cactus", "exact"),
        ("scissors", "", "scissors", "exact"),
        ("tennis racquet", "quickdraw", "tennis racket", "alias"),
        ("Mobile phone", "openimages", "cell phone", "alias"),
        ("Glasses", "objects365", "eyeglasses", "alias"),
        ("Moniter/TV", "objects365", "tv", "source"),
        ("Cabinet/shelf", "objects365", "cabinet/shelf", "either"),
        ("Handbag/Satchel", "objects365", "handbag", "alias"),
    ],
)
def test_names_of_real_sources(name: str, source: str, means: str, rule: str) -> None:
    meaning = vocabulary().read(name, source)
    assert (meaning.name, meaning.rule) == (means, rule)


def test_names_of_coco_are_ours() -> None:
    assert len(COCO_NAMES) == 80
    assert {name: vocabulary().read(name, "coco").rule for name in COCO_NAMES} == dict.fromkeys(COCO_NAMES, "exact")


def test_names_of_shapeworld_are_ours() -> None:
    from sketchgen.shapeworld import CLASSES

    assert [vocabulary().read(name, "shapeworld").name for name in CLASSES] == list(CLASSES)


def test_classes_are_matched_and_the_report_says_how_and_what_is_left() -> None:
    found = vocabulary().match(
        ["dog", "couch", "cabinet/shelf", "mouse", "cell phone", "rake"],
        ["dog", "sofa", "couch", "shelf", "mouse", "cell-phone", "zigzag"],
        "",
        "quickdraw",
    )
    assert [(m.image, m.drawing, m.rule) for m in found.matches] == [
        ("dog", "dog", "exact"),
        ("couch", "sofa", "alias"),
        ("couch", "couch", "exact"),
        ("cabinet/shelf", "shelf", "either"),
        ("cell phone", "cell-phone", "spelling"),
    ]
    assert found.images == ("mouse", "rake")  # the mouse of quickdraw is an animal
    assert found.drawings == ("mouse", "zigzag")
    assert found.drawn_by["couch"] == ("sofa", "couch")


def test_groups_hold_names_as_they_are_read() -> None:
    words = vocabulary()
    assert "zebra" in words.alike("horse") and "horse" not in words.alike("horse")
    assert words.alike("no such thing") == ()
    named = [name for group in words._groups.values() for name in group]
    assert len(named) == len(set(named))
    assert [name for name in named if words.read(name).name not in (name, name.split(" (")[0])] == []


def test_a_name_that_means_two_things_is_refused() -> None:
    with pytest.raises(ValueError, match="'Bike' means both 'bicycle' and 'motorcycle'"):
        Vocabulary({"bicycle": ["bike"], "motorcycle": ["Bike"]}, {}, [], {}, {})


@given(st.text(max_size=20))
def test_any_name_is_read_and_what_was_read_is_read_the_same_again(name: str) -> None:
    words = vocabulary()
    meaning = words.read(name)
    assert meaning.rule in RULES
    again = words.read(meaning.name)
    if "/" not in meaning.name and "(" not in meaning.name:
        assert words.read(again.name).name == again.name
    assert spelled(spelled(name)) == spelled(name)
